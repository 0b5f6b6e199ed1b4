"""Real Jobs for tests to stop, in one namespace of the real cluster, and what is left of them.

Asks the API server with a client of its own: what it says does not depend on the adapter under test.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # comes with kubernetes_asyncio, without types
from kubernetes_asyncio.client import (
    ApiClient,
    BatchV1Api,
    CoreV1Api,
    RbacAuthorizationV1Api,
)

from worker.adapters.kubernetes import KubernetesController
from worker.ports import JobIdentity
from worker.settings import KubernetesSettings

Object = dict[str, Any]
LABEL = "verdict-worker/evaluation-id"
POLITE = "trap 'exit 0' TERM; while :; do sleep 5 & wait $!; done"
STUBBORN = "trap '' TERM; while :; do sleep 5; done"
READ_JOBS = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list", "watch"]}
READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}
READY_SECONDS = 60  # forty pods at once on a busy machine, or a pod that has lost its SIGTERM while it started


class Workload:
    """Makes Jobs and says what runs."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.batch: Any = BatchV1Api(client)  # their types want model objects where the API takes dictionaries, too
        self.core: Any = CoreV1Api(client)

    async def create_namespace(self) -> None:
        """One more than the test's own, ready for pods."""
        await self.core.create_namespace({"metadata": {"name": self.namespace}})

        async def accounts() -> int:
            return len((await self.core.list_namespaced_service_account(self.namespace)).items)

        await until(accounts, 1)

    async def job(
        self,
        evaluation_id: str,
        script: str = POLITE,
        *,
        name: str | None = None,
        pods: int = 1,
        grace_seconds: int = 30,
        metadata: Object | None = None,
        pod_metadata: Object | None = None,
        ready: bool = True,
        **spec: Any,
    ) -> JobIdentity:
        """A Job of this evaluation, whose pods run and have set their traps when it is `ready`."""
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": grace_seconds,
            "containers": [{"name": "main", "image": "any", "command": ["/bin/sh", "-c", script]}],
        }
        template = {"metadata": pod_metadata or {}, "spec": pod}
        body = {
            "metadata": {"name": name or f"job-{secrets.token_hex(4)}", "labels": {LABEL: evaluation_id}}
            | (metadata or {}),
            "spec": {"parallelism": pods, "completions": pods, "backoffLimit": 0, "template": template} | spec,
        }
        made = await self.batch.create_namespaced_job(self.namespace, body)
        job = JobIdentity(self.namespace, made.metadata.name, made.metadata.uid)
        if ready:
            await until(lambda: self.phases(job), ["Running"] * pods)
            await asyncio.sleep(0.2)  # the node says Running before the shell has read its first line
        return job

    async def pods(self, job: JobIdentity) -> list[Any]:
        """The pods of a Job, by name and owner reference and not by the label that the adapter goes by."""
        pods = (await self.core.list_namespaced_pod(self.namespace, label_selector=f"job-name={job.name}")).items
        return [pod for pod in pods if any(each.uid == job.uid for each in pod.metadata.owner_references or ())]

    async def phases(self, job: JobIdentity) -> list[str]:
        return [pod.status.phase for pod in await self.pods(job)]

    async def jobs(self) -> dict[str, str]:
        """Names and uids of the Jobs in the namespace."""
        return {
            job.metadata.name: job.metadata.uid for job in (await self.batch.list_namespaced_job(self.namespace)).items
        }

    async def left(self) -> list[str]:
        """Names of all Jobs and pods that are in the namespace."""
        pods = (await self.core.list_namespaced_pod(self.namespace)).items
        return [*await self.jobs(), *(pod.metadata.name for pod in pods)]

    async def delete(self, job: JobIdentity, policy: str) -> None:
        """As somebody else would."""
        await self.batch.delete_namespaced_job(job.name, self.namespace, body={"propagationPolicy": policy})

    async def release(self, job: JobIdentity) -> None:
        """Take the finalizers off."""
        await self._patch(job, {"metadata": {"finalizers": None}})

    async def suspend(self, job: JobIdentity) -> None:
        await self._patch(job, {"spec": {"suspend": True}})

    async def _patch(self, job: JobIdentity, change: Object) -> None:
        await self.batch.patch_namespaced_job(job.name, self.namespace, change)

    # ------------------------------------------------------------------------------ who may do what

    async def account(self, name: str, *rules: Object, everywhere: Sequence[Object] = ()) -> str:
        """A service account that may do just that, in the namespace and everywhere; -> its token."""
        await self.core.create_namespaced_service_account(self.namespace, {"metadata": {"name": name}})
        await self.allow(name, *rules, everywhere=everywhere)
        return await self.token(name)

    async def allow(self, name: str, *rules: Object, lives_in: str = "", everywhere: Sequence[Object] = ()) -> None:
        """Give a service account, of this or another namespace, a role in this namespace, and one everywhere."""
        rbac: Any = RbacAuthorizationV1Api(self.client)
        account = {"kind": "ServiceAccount", "name": name, "namespace": lives_in or self.namespace}
        await rbac.create_namespaced_role(self.namespace, {"metadata": {"name": name}, "rules": rules})
        await rbac.create_namespaced_role_binding(self.namespace, _binding(account, "Role", name))
        if everywhere:
            role = f"{self.namespace}-{name}"
            await rbac.create_cluster_role({"metadata": {"name": role}, "rules": everywhere})
            await rbac.create_cluster_role_binding(_binding(account, "ClusterRole", role))

    async def token(self, account: str, *, dies_with: str | None = None) -> str:
        """One more token of a service account, known no more some seconds after this secret is deleted."""
        spec: Object = {"audiences": [], "expirationSeconds": 600}
        if dies_with:
            secret = await self.core.read_namespaced_secret(dies_with, self.namespace)
            bound = {"apiVersion": "v1", "kind": "Secret", "name": dies_with, "uid": secret.metadata.uid}
            spec["boundObjectRef"] = bound
        made = await self.core.create_namespaced_service_account_token(account, self.namespace, {"spec": spec})
        return str(made.status.token)


def _binding(account: Object, kind: str, role: str) -> Object:
    return {
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [account],
    }


@asynccontextmanager
async def controller(kubeconfig: Path, *namespaces: str) -> AsyncIterator[KubernetesController]:
    """The adapter, started."""
    settings = KubernetesSettings(kubeconfig=str(kubeconfig), request_timeout_seconds=3)
    jobs = KubernetesController(settings, namespaces=namespaces, label=LABEL)
    await jobs.start()
    try:
        yield jobs
    finally:
        await jobs.stop()


def kubeconfig_of(token: str, admin: Path, path: Path) -> Path:
    """A kubeconfig of the same cluster for a token, which stands in a file beside it, so that it can be rotated."""
    config = yaml.safe_load(admin.read_text())
    for user in config["users"]:
        user["user"] = {"tokenFile": f"{path.name}.token"}
    path.write_text(json.dumps(config))
    path.with_name(f"{path.name}.token").write_text(token)
    return path


async def until(ask: Callable[[], Awaitable[object]], wanted: object, timeout_seconds: float = READY_SECONDS) -> None:
    """Wait until the cluster says what is wanted.  Raises AssertionError, with what it says instead."""
    said: object = None
    try:
        async with asyncio.timeout(timeout_seconds):
            while (said := await ask()) != wanted:  # noqa: ASYNC110  # it happens in another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"still {said!r}, not {wanted!r}, after {timeout_seconds} s") from None
