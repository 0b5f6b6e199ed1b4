"""The image: what is in it, and what it does as somebody without a name over a root that cannot be written."""

import asyncio
import json
import secrets
import tarfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from uuid import uuid4

import pytest
from kubernetes_asyncio.client import ApiClient

from tests.integration.deployed import evaluation, read_committed, run, said, worker_image
from tests.integration.workload import Workload
from tests.services.broker import Broker
from tests.services.cluster import Cluster
from tests.services.object_store import ObjectStore

RESTRICTED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # noqa: S108
RANDOM_USER = ("--user", "12345:0")
BYTES_MAX = 250_000_000


@pytest.fixture(scope="module")
def image(_running: object) -> str:
    return worker_image()


@pytest.fixture(scope="module")
def files(image: str) -> Iterator[dict[str, tarfile.TarInfo]]:
    """All that is in it, by path."""
    container = said(["docker", "create", image]).strip()
    try:
        with (
            Popen(["docker", "export", container], stdout=PIPE) as export,  # noqa: S607  # as everywhere: docker
            tarfile.open(fileobj=export.stdout, mode="r|") as tar,
        ):
            yield {member.name: member for member in tar}
    finally:
        said(["docker", "rm", container])


# ------------------------------------------------------------------------------------------------ what is in it


def test_it_is_small_says_what_it_is_and_runs_as_a_number(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    [found] = json.loads(said(["docker", "image", "inspect", image]))
    with capsys.disabled():
        print(f"\nimage of the worker: {found['Size'] / 1e6:.0f} MB")  # noqa: T201  # for the log of CI
    assert found["Size"] < BYTES_MAX
    config = found["Config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("65532:0", ["worker"], ["run"])
    assert config["StopSignal"] == "SIGTERM"
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == "verdict-worker"
    assert {"description", "licenses", "version", "revision"} <= labels.keys()


def test_neither_tools_of_the_build_nor_the_tree_nor_secrets_are_in_it(files: dict[str, tarfile.TarInfo]) -> None:
    names = {Path(path).name for path in files}
    assert names.isdisjoint({"gcc", "cc", "cc1", "ld", "make", "g++", "git", "pip", "sh", "bash", "busybox"})
    packages = {path.split("/site-packages/")[1].split("/")[0] for path in files if "/site-packages/" in path}
    assert {"worker", "schemas", "aiokafka"} <= packages
    assert packages.isdisjoint({"hatchling", "editables", "pytest", "moto", "mypy", "tests", "deploy", "setuptools"})
    assert names.isdisjoint({".git", ".env", "requirements.lock", "kubeconfig", ".netrc", "pip.conf"})
    assert not [path for path in files if path.startswith(("source", "wheels", "opt/build", "opt/wheels", "opt/pip"))]


def test_nobody_but_root_may_change_what_runs(files: dict[str, tarfile.TarInfo]) -> None:
    ours = [member for path, member in files.items() if path.startswith("opt/worker")]
    assert len(ours) > 1000
    assert {(member.uid, member.gid) for member in ours} == {(0, 0)}
    assert not [member.name for member in ours if not member.issym() and member.mode & 0o022]


# ------------------------------------------------------------------------------------------------ what it does


def test_a_random_user_over_a_read_only_root_reads_help_and_checks(image: str) -> None:
    bare = ["docker", "run", "--rm", "--network", "none", *RANDOM_USER, *RESTRICTED, image]
    assert said([*bare, "--help"]).startswith("Usage: worker")
    found = json.loads(said([*bare, "check", "--json"]))
    assert {each["name"]: each["ok"] for each in found["dependencies"]} == {
        "store": True,
        "log": True,
        "worker": True,
        "jobs": True,
    }


@pytest.fixture
def settings(
    kafka: Broker, s3: ObjectStore, kubernetes: Cluster, bucket: str, topic_prefix: str, group: str, namespace: str
) -> dict[str, str]:
    return {
        "STACK": "services",
        "PARTITIONS": "2",
        "PROBES_PORT": "0",
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA__TOPIC_PREFIX": topic_prefix,
        "KAFKA__GROUP": group,
        "KAFKA__REPLICATION_FACTOR": "1",
        "S3__ENDPOINT_URL": s3.endpoint_url,
        "S3__BUCKET": bucket,
        "S3__ACCESS_KEY": s3.access_key,
        "S3__SECRET_KEY": s3.secret_key,
        "KUBERNETES__KUBECONFIG": "/kubeconfig",
        "DECISIONS__NAMESPACES": json.dumps([namespace]),
    }


@pytest.fixture
def within(image: str, settings: dict[str, str], kubernetes: Cluster, tmp_path: Path) -> list[str]:
    """What `docker run` is told, besides how the container is called and what it runs."""
    config = tmp_path / "kubeconfig"
    config.write_text(kubernetes.kubeconfig.read_text())
    config.chmod(0o644)  # of a cluster that lives as long as these tests
    variables = [word for name, value in settings.items() for word in ("-e", f"WORKER_{name}={value}")]
    return ["-i", "--network", "host", "-v", f"{config}:/kubeconfig:ro", *RANDOM_USER, *RESTRICTED, *variables, image]


@pytest.fixture
def container(within: list[str]) -> Iterator[str]:
    """A worker that is ready; its name."""
    said(["docker", "run", "--rm", *within, "topics", "create"])
    name = f"verdict-worker-{secrets.token_hex(4)}"
    said(["docker", "run", "-d", "--name", name, *within])
    yield name
    said(["docker", "rm", "-f", name])


async def test_it_cancels_over_the_real_servers_and_drains_when_it_is_told_to_stop(
    container: str, kafka: Broker, topic_prefix: str, kubernetes_client: ApiClient, namespace: str
) -> None:
    workload, name = Workload(kubernetes_client, namespace), str(uuid4())
    job = await workload.job(name)
    inside = ["docker", "exec", "-i", container, "worker"]
    await asyncio.to_thread(said, [*inside, "check"])
    await asyncio.to_thread(said, [*inside, "create", "-"], given=evaluation(name, job))
    send = [*inside, "send", "evaluation.cancel", name, "--wait", "30"]
    await asyncio.to_thread(said, send)
    [verdict] = await asyncio.to_thread(read_committed, kafka.bootstrap_servers, f"{topic_prefix}.results")
    assert (verdict["code"], verdict["http_status"]) == ("cancelled", 200)
    assert verdict["receipt"]["evidence"] == "stopped"
    assert await workload.left() == []
    await asyncio.to_thread(said, ["docker", "stop", "-t", "40", container])
    state = json.loads(await asyncio.to_thread(said, ["docker", "inspect", "-f", "{{json .State}}", container]))
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    logs = await asyncio.to_thread(run, ["docker", "logs", container])
    lines = (logs.stdout + logs.stderr).splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events[0] == "worker.started"
    assert events[-2:] == ["worker.draining", "worker.stopped"]
