"""The contract of JobController over a real cluster."""

from collections.abc import AsyncIterator

import pytest
from kubernetes_asyncio.client import ApiClient

from tests.contract.suites.jobs import ONE, JobContract, World
from tests.integration.workload import LABEL, STUBBORN, Workload
from tests.services.cluster import Cluster
from worker.adapters.kubernetes import KubernetesController
from worker.ports import Deletion, JobController, JobIdentity
from worker.settings import KubernetesSettings


class Kubernetes:
    """Jobs in a namespace of their own."""

    names_are_reused = True
    removed = Deletion.REMOVED
    patience_seconds = 30.0

    def __init__(self, cluster: Cluster, client: ApiClient, namespace: str) -> None:
        self.workload = Workload(client, namespace)
        settings = KubernetesSettings(kubeconfig=str(cluster.kubeconfig))
        self.jobs: JobController = KubernetesController(settings, namespaces=(namespace,), label=LABEL)

    async def polite(self, evaluation_id: str = ONE) -> JobIdentity:
        return await self.workload.job(evaluation_id)

    async def stubborn(self) -> JobIdentity:
        # The local node does not shorten the grace of a pod that is terminating already, as others do.
        return await self.workload.job(ONE, STUBBORN, grace_seconds=3)

    async def family(self) -> JobIdentity:
        return await self.workload.job(ONE, pods=4)


class TestKubernetes(JobContract):
    @pytest.fixture
    async def world(self, kubernetes: Cluster, kubernetes_client: ApiClient, namespace: str) -> AsyncIterator[World]:
        world = Kubernetes(kubernetes, kubernetes_client, namespace)
        await world.jobs.start()
        yield world
        await world.jobs.stop()  # what is left goes with the namespace
