"""What the worker may do over a real cluster: all that it does with its own Role, and nothing else; rotated tokens."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]  # comes with kubernetes_asyncio, without types
from kubernetes_asyncio.client import (
    ApiClient,
    ApiException,
    AppsV1Api,
    BatchV1Api,
    CoreV1Api,
    RbacAuthorizationV1Api,
)
from kubernetes_asyncio.config import new_client_from_config

from tests.contract.suites.jobs import ONE
from tests.integration.workload import (
    LABEL,
    POLITE,
    READ_JOBS,
    READ_PODS,
    STUBBORN,
    Workload,
    controller,
    kubeconfig_of,
    until,
)
from tests.services.cluster import Cluster
from worker.adapters.kubernetes import KubernetesController
from worker.adapters.kubernetes.connection import connector
from worker.errors import Refused, Unavailable
from worker.ports import Deletion, JobIdentity, JobView
from worker.settings import KubernetesSettings

ROLES = Path(__file__).parents[2] / "deploy/kustomize/base/role.yaml"
GONE = JobView(exists=False)


def published_rules() -> dict[str, list[dict[str, Any]]]:
    """Role and ClusterRole as they are deployed."""
    return {role["kind"]: role["rules"] for role in yaml.safe_load_all(ROLES.read_text())}


@pytest.fixture
def workload(kubernetes_client: ApiClient, namespace: str) -> Workload:
    return Workload(kubernetes_client, namespace)


@pytest.fixture
async def own(kubernetes: Cluster, workload: Workload, tmp_path: Path) -> Path:
    """A kubeconfig with the worker's own token."""
    rules = published_rules()
    token = await workload.account("verdict-worker", *rules["Role"], everywhere=rules["ClusterRole"])
    return await asyncio.to_thread(kubeconfig_of, token, kubernetes.kubeconfig, tmp_path / "own")


async def seen(jobs: KubernetesController, job: JobIdentity, wanted: JobView) -> None:
    async def look() -> JobView:
        return await jobs.observe(job)

    await until(look, wanted)


# ------------------------------------------------------------------------------ the worker's own Role


async def test_everything_that_the_worker_does_works_with_its_own_role(own: Path, workload: Workload) -> None:
    polite, stubborn = await workload.job(ONE, POLITE), await workload.job(ONE, STUBBORN, grace_seconds=60)
    async with controller(own, workload.namespace) as jobs:
        assert set(await jobs.find(ONE)) == {polite, stubborn}
        before = await jobs.observe(polite)
        watching = asyncio.create_task(jobs.observe(polite, since=before, timeout_seconds=10))
        assert await jobs.delete(polite) == Deletion.ACCEPTED
        assert await watching != before
        [pod] = (await jobs.observe(stubborn)).pods
        assert await jobs.delete_pod(stubborn, pod, 1) == Deletion.ACCEPTED
        await jobs.delete_pod(stubborn, pod, 0)
        await jobs.delete(stubborn)
        for job in (polite, stubborn):
            await seen(jobs, job, GONE)


async def test_a_namespace_that_goes_with_the_workers_role_is_waited_for_and_then_gone(
    own: Path, kubernetes_client: ApiClient, namespace: str
) -> None:
    workload = Workload(kubernetes_client, f"{namespace}-going")
    await workload.create_namespace()
    await workload.allow("verdict-worker", *published_rules()["Role"], lives_in=namespace)
    job = await workload.job(ONE)
    async with controller(own, workload.namespace) as jobs:
        await workload.core.delete_namespace(workload.namespace)

        async def look() -> JobView | None:
            try:
                return await jobs.observe(job)
            except Unavailable:
                return None

        await until(look, GONE, 60)
        await until(lambda: is_there(workload), False, 60)
        assert await jobs.observe(job) == GONE
        assert await jobs.delete(job) == Deletion.GONE
        assert await jobs.find(ONE) == []


async def is_there(workload: Workload) -> bool:
    try:
        await workload.core.read_namespace(workload.namespace)
    except ApiException as error:
        if error.status == 404:
            return False
        raise
    return True


OTHER_THINGS: dict[str, Callable[[ApiClient, str], Awaitable[object]]] = {
    "read one job": lambda api, ns: BatchV1Api(api).read_namespaced_job("job", ns),
    "create a job": lambda api, ns: _any(BatchV1Api(api)).create_namespaced_job(ns, {"metadata": {"name": "job"}}),
    "change a job": lambda api, ns: _any(BatchV1Api(api)).patch_namespaced_job("job", ns, {"metadata": {}}),
    "delete all jobs": lambda api, ns: BatchV1Api(api).delete_collection_namespaced_job(ns),
    "list cron jobs": lambda api, ns: BatchV1Api(api).list_namespaced_cron_job(ns),
    "list jobs elsewhere": lambda api, _: BatchV1Api(api).list_namespaced_job("default"),
    "list jobs everywhere": lambda api, _: BatchV1Api(api).list_job_for_all_namespaces(),
    "delete a job elsewhere": lambda api, _: BatchV1Api(api).delete_namespaced_job("job", "default"),
    "create a pod": lambda api, ns: _any(CoreV1Api(api)).create_namespaced_pod(ns, {"metadata": {"name": "pod"}}),
    "change a pod": lambda api, ns: _any(CoreV1Api(api)).patch_namespaced_pod("pod", ns, {"metadata": {}}),
    "delete all pods": lambda api, ns: CoreV1Api(api).delete_collection_namespaced_pod(ns),
    "evict a pod": lambda api, ns: _any(CoreV1Api(api)).create_namespaced_pod_eviction("pod", ns, {}),
    "run in a pod": lambda api, ns: CoreV1Api(api).connect_post_namespaced_pod_exec("pod", ns, command="id"),
    "read a pod's log": lambda api, ns: CoreV1Api(api).read_namespaced_pod_log("pod", ns),
    "read secrets": lambda api, ns: CoreV1Api(api).list_namespaced_secret(ns),
    "read config maps": lambda api, ns: CoreV1Api(api).list_namespaced_config_map(ns),
    "make tokens": lambda api, ns: _any(CoreV1Api(api)).create_namespaced_service_account_token("default", ns, {}),
    "delete the namespace": lambda api, ns: CoreV1Api(api).delete_namespace(ns),
    "list namespaces": lambda api, _: CoreV1Api(api).list_namespace(),
    "list nodes": lambda api, _: CoreV1Api(api).list_node(),
    "delete deployments": lambda api, ns: AppsV1Api(api).delete_namespaced_deployment("web", ns),
    "widen its role": lambda api, ns: _any(RbacAuthorizationV1Api(api)).patch_namespaced_role(
        "verdict-worker", ns, {"rules": []}
    ),
}


def _any(api: Any) -> Any:
    """The client's types want model objects where the API takes dictionaries, too."""
    return api


async def test_other_things_are_forbidden_to_the_worker(own: Path, namespace: str) -> None:
    async with await new_client_from_config(config_file=str(own)) as api:
        for what, attempt in OTHER_THINGS.items():
            with pytest.raises(ApiException) as caught:
                await attempt(api, namespace)
            assert caught.value.status == 403, what


# ------------------------------------------------------------------------------ less than its own Role


@pytest.fixture
async def reader(kubernetes: Cluster, workload: Workload, tmp_path: Path) -> AsyncIterator[KubernetesController]:
    """Who may look, and touch nothing."""
    token = await workload.account("reader", READ_JOBS, READ_PODS)
    async with controller(kubeconfig_of(token, kubernetes.kubeconfig, tmp_path / "reader"), workload.namespace) as jobs:
        yield jobs


async def test_what_rbac_forbids_is_refused_with_the_clusters_reason_and_changes_nothing(
    reader: KubernetesController, workload: Workload
) -> None:
    job = await workload.job(ONE)
    [pod] = (await reader.observe(job)).pods
    with pytest.raises(Refused, match=rf'jobs.batch "{job.name}" is forbidden: User ".*:reader" cannot delete'):
        await reader.delete(job)
    with pytest.raises(Refused, match=rf'pods "{pod.name}" is forbidden: User ".*:reader" cannot delete'):
        await reader.delete_pod(job, pod, 1)
    assert await workload.phases(job) == ["Running"]


async def test_who_may_not_watch_lists(kubernetes: Cluster, workload: Workload, tmp_path: Path) -> None:
    rules = [rule | {"verbs": ["list", "delete"]} for rule in (READ_JOBS, READ_PODS)]
    token = await workload.account("lister", *rules)
    job = await workload.job(ONE)
    path = kubeconfig_of(token, kubernetes.kubeconfig, tmp_path / "lister")
    async with controller(path, workload.namespace) as jobs:
        before = await jobs.observe(job)
        await jobs.delete(job)
        assert await jobs.observe(job, since=before, timeout_seconds=10) != before
        await seen(jobs, job, GONE)


# ------------------------------------------------------------------------------ tokens


async def test_a_token_rotated_under_load_is_not_noticed(kubernetes: Cluster, own: Path, workload: Workload) -> None:
    await workload.core.create_namespaced_secret(workload.namespace, {"metadata": {"name": "life"}})
    mortal = await workload.token("verdict-worker", dies_with="life")
    path = await asyncio.to_thread(kubeconfig_of, mortal, kubernetes.kubeconfig, own.with_name("rotated"))
    probe = await asyncio.to_thread(kubeconfig_of, mortal, kubernetes.kubeconfig, own.with_name("old"))
    job, finds, stopping = await workload.job(ONE), 0, asyncio.Event()

    async def load(jobs: KubernetesController) -> None:
        nonlocal finds
        while not stopping.is_set():
            assert [each.uid for each in await jobs.find(ONE)] == [job.uid]
            finds += 1
            await asyncio.sleep(0.05)

    async with (
        controller(path, workload.namespace) as jobs,
        await new_client_from_config(config_file=str(probe)) as old,
    ):
        loads = [asyncio.create_task(load(jobs)) for _ in range(4)]
        await asyncio.to_thread(path.with_name("rotated.token").write_text, await workload.token("verdict-worker"))
        await workload.core.delete_namespaced_secret("life", workload.namespace)
        await until(lambda: is_known(old, workload.namespace), False, 30)  # the API server remembers it for 10 s
        before = finds
        await asyncio.sleep(0.5)
        stopping.set()
        await asyncio.gather(*loads)
        assert finds > before


async def is_known(client: ApiClient, namespace: str) -> bool:
    try:
        await BatchV1Api(client).list_namespaced_job(namespace)
    except ApiException as error:
        if error.status == 401:
            return False
        raise
    return True


async def test_in_a_pod_the_service_account_is_used_and_its_token_read_again(
    kubernetes: Cluster, workload: Workload, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mount(token: str) -> None:
        config = yaml.safe_load(kubernetes.kubeconfig.read_text())
        authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
        (tmp_path / "ca.crt").write_bytes(base64.b64decode(authority))
        (tmp_path / "token").write_text(token)

    address = urlsplit(kubernetes.url)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    await asyncio.to_thread(mount, "expired")
    settings = KubernetesSettings()
    jobs = KubernetesController(
        settings, namespaces=(workload.namespace,), label=LABEL, connect=connector(settings, tmp_path)
    )
    await jobs.start()
    with pytest.raises(Refused, match="does not know this worker's credentials"):
        await jobs.find(ONE)
    await asyncio.to_thread(mount, await workload.token("verdict-worker"))
    assert await jobs.find(ONE) == []
    await jobs.stop()
