"""What a real cluster does, through its client library: the bodies that hold over the simulator's model as well."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import ClientError
from kubernetes_asyncio.client import ApiClient, ApiException

from tests.contract.suites.jobs import ONE
from tests.contract.suites.kubernetes_facts import KubernetesFacts
from tests.contract.suites.kubernetes_facts import Rig as AnyRig
from tests.integration.farms import Farms
from tests.integration.workload import POLITE, STUBBORN, Workload, kubeconfig_of, until
from tests.services.cluster import Cluster
from worker.adapters.kubernetes.connection import connector
from worker.ports import JobIdentity
from worker.settings import KubernetesSettings

SCRIPTS = {"polite": POLITE, "stubborn": STUBBORN, "succeeds": "exit 0", "fails": "exit 1"}


class Rig:
    """A namespace of the real cluster."""

    def __init__(
        self, cluster: Cluster, admin: ApiClient, namespace: str, folder: Path, opened: AsyncExitStack
    ) -> None:
        self.client: Any = None
        self.namespace = namespace
        self._cluster, self._admin, self._folder, self._opened = cluster, admin, folder, opened
        self._workload = Workload(admin, namespace)

    async def start(self) -> AnyRig:
        self.client = await self._connect(self._cluster.kubeconfig)
        return self

    async def _connect(self, kubeconfig: Path) -> ApiClient:
        client = await connector(KubernetesSettings(kubeconfig=str(kubeconfig)))()
        self._opened.push_async_callback(client.close)
        return client

    async def job(
        self,
        evaluation_id: str = ONE,
        does: Literal["polite", "stubborn", "succeeds", "fails"] = "polite",
        *,
        pods: int = 1,
        grace_seconds: int = 30,
        ttl_seconds: int | None = None,
        finalizers: Sequence[str] = (),
    ) -> JobIdentity:
        spec: dict[str, Any] = {} if ttl_seconds is None else {"ttlSecondsAfterFinished": ttl_seconds}
        return await self._workload.job(
            evaluation_id,
            SCRIPTS[does],
            pods=pods,
            grace_seconds=grace_seconds,
            metadata={"finalizers": list(finalizers)},
            ready=does in ("polite", "stubborn"),
            **spec,
        )

    async def farm(self, name: str) -> JobIdentity:
        farms = Farms(self._admin, self.namespace)
        await farms.define()
        await self._opened.enter_async_context(farms.controlled())
        await farms.create(name)

        async def made() -> int:
            return len(await self._workload.jobs())

        await until(made, 1)
        [(job, uid)] = (await self._workload.jobs()).items()
        return JobIdentity(self.namespace, job, uid)

    async def release(self, job: JobIdentity) -> None:
        await self._workload.release(job)

    async def unknown(self) -> Any:
        path = self._folder / "unknown"
        return await self._connect(await asyncio.to_thread(kubeconfig_of, "nobody", self._cluster.kubeconfig, path))

    async def go_away(self) -> None:
        await self._cluster.ctl("kill", "apiserver")

    async def come_back(self) -> None:
        async def answers() -> bool:
            try:
                await self._workload.jobs()
            except (OSError, ClientError, ApiException):
                return False
            return True

        await until(answers, True)


class TestFacts(KubernetesFacts):
    @pytest.fixture
    async def rig(
        self, kubernetes: Cluster, kubernetes_client: ApiClient, namespace: str, tmp_path: Path
    ) -> AsyncIterator[AnyRig]:
        async with AsyncExitStack() as opened:
            yield await Rig(kubernetes, kubernetes_client, namespace, tmp_path, opened).start()
