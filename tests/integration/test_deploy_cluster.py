"""deploy/kustomize: both overlays, applied to the real API server as users do it; components, against the code."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes with kubernetes_asyncio, without types

from tests.integration.deployed import DEPLOY, run, said
from tests.integration.kafka_guarded import rights
from tests.services import tools
from tests.services.cluster import Cluster
from worker.adapters.kafka.topics import wanted
from worker.ports import Topic
from worker.settings import Settings, load

Object = dict[str, Any]
KUSTOMIZE = DEPLOY / "kustomize"
OVERLAYS = {"dev": 1, "production": 3}
"""And how many workers each has."""
NAMESPACE, JOBS_NAMESPACE = "verdict-worker", "evaluations"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:verdict-worker"
SECRETS = ("S3__ACCESS_KEY", "S3__SECRET_KEY", "KAFKA__SASL_PASSWORD")


def rendered(folder: Path) -> list[Object]:
    return list(yaml.safe_load_all(said([tools.kubectl(), "kustomize", str(folder)])))


def only(kind: str, objects: list[Object]) -> Object:
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def named(objects: list[Object]) -> set[tuple[str, str, str]]:
    return {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]) for each in objects}


class Administrator:
    """kubectl with everything allowed."""

    def __init__(self, cluster: Cluster) -> None:
        self.command = [tools.kubectl(), "--kubeconfig", str(cluster.kubeconfig)]

    def __call__(self, *arguments: str, given: str = "") -> str:
        """-> what it printed; a warning counts as an error."""
        ran = run([*self.command, *arguments], given=given)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "Warning" not in ran.stderr, ran.stderr
        return ran.stdout

    def refused(self, *arguments: str, given: str = "") -> str:
        """-> why."""
        ran = run([*self.command, *arguments], given=given)
        assert ran.returncode != 0, ran.stdout
        return ran.stderr

    def may(self, verb: str, resource: str, namespace: str) -> bool:
        """Whether the worker's account may."""
        asked = run([*self.command, "auth", "can-i", verb, resource, "-n", namespace, "--as", ACCOUNT])
        return asked.stdout.strip() == "yes"


@pytest.fixture(scope="module")
def kubectl(kubernetes: Cluster) -> Iterator[Administrator]:
    """With the Jobs' namespace, which in production is there before the worker."""
    kubernetes.control("statefulset-controller", "disruption-controller")
    kubectl = Administrator(kubernetes)
    kubectl("create", "namespace", JOBS_NAMESPACE, "--save-config")
    yield kubectl
    kubectl("delete", "namespace", NAMESPACE, JOBS_NAMESPACE, "--wait=false")
    for kind in ("clusterrole", "clusterrolebinding"):
        kubectl("delete", kind, "-l", "app.kubernetes.io/name=verdict-worker")


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, kubectl: Administrator) -> Iterator[str]:
    """Applied; its name."""
    kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--validate=strict",
        "-k",
        f"{KUSTOMIZE}/overlays/{request.param}",
    )
    yield request.param
    kubectl("delete", "statefulset", "verdict-worker", "-n", NAMESPACE, "--wait=false")


# ------------------------------------------------------------------------------------------------ on the API server


def test_everything_is_accepted_and_there(overlay: str, kubectl: Administrator) -> None:
    objects = rendered(KUSTOMIZE / "overlays" / overlay)
    found = json.loads(kubectl("get", "-o", "json", "-f", "-", given=yaml.safe_dump_all(objects)))["items"]
    assert named(found) == named(objects)
    kinds = {kind for kind, _, _ in named(objects)}
    assert {"StatefulSet", "NetworkPolicy", "PodDisruptionBudget", "Role", "RoleBinding", "Service"} <= kinds


def test_the_pods_are_admitted_as_restricted_scheduled_and_named_for_good(overlay: str, kubectl: Administrator) -> None:
    owner = json.loads(kubectl("get", "statefulset", "verdict-worker", "-n", NAMESPACE, "-o", "json"))
    pods = scheduled(kubectl, owner["metadata"]["uid"], OVERLAYS[overlay])
    assert [pod["metadata"]["name"] for pod in pods] == [f"verdict-worker-{n}" for n in range(OVERLAYS[overlay])]
    for pod in pods:
        environment = {each["name"]: each for each in pod["spec"]["containers"][0]["env"]}
        reference = environment["WORKER_KAFKA__GROUP_INSTANCE_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
        assert reference == "metadata.name"
        assert pod["spec"]["enableServiceLinks"] is False


def scheduled(kubectl: Administrator, owner: str, count: int) -> list[Object]:
    """The pods of an owner by name, once there are so many on a node."""
    deadline = time.monotonic() + 60
    while True:
        pods = json.loads(kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
        own = [pod for pod in pods if pod["metadata"]["ownerReferences"][0]["uid"] == owner]
        if len([pod for pod in own if pod["spec"].get("nodeName")]) == count:
            return sorted(own, key=lambda pod: str(pod["metadata"]["name"]))
        assert time.monotonic() < deadline, kubectl("get", "events", "-n", NAMESPACE)
        time.sleep(0.2)


def test_the_namespace_refuses_what_is_not_restricted(overlay: str, kubectl: Administrator) -> None:
    why = kubectl.refused("run", "loose", "--image=any", "-n", NAMESPACE, "--dry-run=server")
    assert 'violates PodSecurity "restricted' in why


def test_a_field_that_is_none_would_be_noticed(overlay: str, kubectl: Administrator) -> None:
    worker = only("StatefulSet", rendered(KUSTOMIZE / "overlays" / overlay))
    worker["spec"]["template"]["spec"]["terminationGraceSeconds"] = 45
    strict = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "--dry-run=server", "-f", "-")
    assert "terminationGraceSeconds" in kubectl.refused(*strict, given=yaml.safe_dump(worker))


def test_the_account_may_what_the_role_says_and_nothing_else(overlay: str, kubectl: Administrator) -> None:
    for resource in ("jobs.batch", "pods"):
        assert all(kubectl.may(verb, resource, JOBS_NAMESPACE) for verb in ("list", "watch", "delete"))
        assert not any(kubectl.may(verb, resource, JOBS_NAMESPACE) for verb in ("get", "create", "patch"))
        assert not kubectl.may("list", resource, NAMESPACE)
    assert kubectl.may("get", f"namespaces/{JOBS_NAMESPACE}", JOBS_NAMESPACE)
    assert not kubectl.may("list", "secrets", NAMESPACE)


# ------------------------------------------------------------------------------------------------ what they say


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(KUSTOMIZE / "overlays" / request.param)


def test_roles_are_those_that_the_tests_of_access_use(objects: list[Object]) -> None:
    published = yaml.safe_load_all((KUSTOMIZE / "base/role.yaml").read_text())
    for role in published:
        assert only(role["kind"], objects)["rules"] == role["rules"]


def settings_of(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the worker reads them in its pod."""
    for name, value in only("ConfigMap", objects)["data"].items():
        monkeypatch.setenv(name, value)
    for name in SECRETS:
        monkeypatch.setenv(f"WORKER_{name}", "secret")
    monkeypatch.setenv("WORKER_KAFKA__GROUP_INSTANCE_ID", "verdict-worker-0")
    return load()


def test_a_worker_takes_the_settings_and_has_time_to_drain(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(objects, monkeypatch)
    assert (settings.stack, settings.decisions.namespaces) == ("services", (JOBS_NAMESPACE,))
    pod = only("StatefulSet", objects)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > settings.drain_timeout_seconds + 10
    [container] = pod["containers"]
    assert container["ports"][0]["containerPort"] == settings.probes_port
    assert settings.probes_host == "0.0.0.0"  # noqa: S104  # of a pod
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert only("RoleBinding", objects)["metadata"]["namespace"] == JOBS_NAMESPACE


# ------------------------------------------------------------------------------------------------ components


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """Production with both components, named in its own overlay, as their comments say."""
    folder = tmp_path_factory.mktemp("deploy") / "kustomize"
    shutil.copytree(KUSTOMIZE, folder)
    file = folder / "overlays" / "production" / "kustomization.yaml"
    components = [f"../../components/{name}" for name in ("keda", "strimzi")]
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"components": components}))
    return rendered(file.parent)


def test_topics_are_what_the_code_wants(extended: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(extended, monkeypatch)
    copies = settings.kafka.replication_factor
    topics = {each["metadata"]["name"]: each["spec"] for each in extended if each["kind"] == "KafkaTopic"}
    assert topics.keys() == {f"{settings.kafka.topic_prefix}.{topic}" for topic in Topic}
    for topic in Topic:
        spec = topics[f"{settings.kafka.topic_prefix}.{topic}"]
        assert (spec["partitions"], spec["replicas"]) == (settings.partitions, copies)
        found = {key: str(value) for key, value in spec["config"].items()}
        assert found == wanted(topic, settings.command_bytes_max) | {"min.insync.replicas": str(copies - 1)}


@pytest.mark.parametrize(("user", "who"), [("verdict-worker", "worker"), ("verdict-api", "api")])
def test_users_have_the_rights_of_the_table_and_no_others(extended: list[Object], user: str, who: str) -> None:
    [spec] = [each["spec"] for each in extended if (each["kind"], each["metadata"]["name"]) == ("KafkaUser", user)]
    kinds = {"transactionalId": "transactional"}
    found = {
        (
            kinds.get(resource["type"], resource["type"]),
            resource.get("name", "kafka-cluster"),
            "prefixed" if resource.get("patternType") == "prefix" else "literal",
            operation.lower(),
        )
        for resource, operations in ((acl["resource"], acl["operations"]) for acl in spec["authorization"]["acls"])
        for operation in operations
    }
    assert found == {(*right[:3], right[3].replace(" ", "")) for right in rights(who, "worker", "worker")}


def test_there_are_never_more_workers_than_partitions(extended: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(extended, monkeypatch)
    spec = only("ScaledObject", extended)["spec"]
    assert spec["maxReplicaCount"] == settings.partitions
    assert spec["minReplicaCount"] >= 1
    [trigger] = spec["triggers"]
    assert trigger["metadata"]["topic"] == f"{settings.kafka.topic_prefix}.{Topic.COMMANDS}"
    assert trigger["metadata"]["consumerGroup"] == settings.kafka.group
    worker = only("StatefulSet", extended)
    assert spec["scaleTargetRef"] == {key: worker[key] for key in ("apiVersion", "kind")} | {
        "name": worker["metadata"]["name"]
    }
    assert "replicas" not in worker["spec"], "KEDA's"
