"""Kubernetes as a model: the contract of Jobs over the real adapter, and what a real cluster does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from math import inf
from typing import Any, Literal

import pytest

from tests.contract.suites.jobs import ONE, JobContract
from tests.contract.suites.jobs import World as AnyWorld
from tests.contract.suites.kubernetes_facts import KubernetesFacts
from tests.contract.suites.kubernetes_facts import Rig as AnyRig
from worker.adapters.kubernetes import KubernetesController
from worker.ports import Deletion, JobController, JobIdentity
from worker.settings import KubernetesSettings
from worker.simulation.faults import NO_FAULTS, Faults, Plan
from worker.simulation.kubernetes import Cluster, JobWish
from worker.simulation.world import World

NAMESPACE, LABEL = "jobs", "verdict-worker/evaluation-id"


def controller(cluster: Cluster) -> KubernetesController:
    return KubernetesController(KubernetesSettings(), namespaces=(NAMESPACE,), label=LABEL, connect=cluster.connect)


def only(**rates: float) -> Plan:
    return Plan(rates=NO_FAULTS.rates | rates)


async def running(cluster: Cluster, job: JobIdentity) -> JobIdentity:
    """Once all of its pods run."""
    while not (pods := cluster.jobs[job.uid].pods) or not all(pod.alive for pod in pods):  # noqa: ASYNC110  # no event
        await asyncio.sleep(0.1)
    return job


# ------------------------------------------------------------------------------ the contract


class SimulatedKubernetes:
    """The adapter over the model."""

    names_are_reused = True
    removed = Deletion.REMOVED
    patience_seconds = 30.0

    def __init__(self) -> None:
        self.cluster = Cluster(World("1", NO_FAULTS), NAMESPACE, LABEL)
        self.jobs: JobController = controller(self.cluster)

    async def polite(self, evaluation_id: str = ONE) -> JobIdentity:
        return await running(self.cluster, self.cluster.create_job(evaluation_id, JobWish()))

    async def stubborn(self) -> JobIdentity:
        return await running(self.cluster, self.cluster.create_job(ONE, JobWish(stubborn=True, grace_seconds=60)))

    async def family(self) -> JobIdentity:
        return await running(self.cluster, self.cluster.create_job(ONE, JobWish(pods=4)))


class TestContract(JobContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[AnyWorld]:
        world = SimulatedKubernetes()
        await world.jobs.start()
        yield world
        await world.jobs.stop()


# ------------------------------------------------------------------------------ the facts


class Rig:
    """A client of the model, and Jobs."""

    namespace = NAMESPACE

    def __init__(self) -> None:
        self.world = World("1", NO_FAULTS)
        self.cluster = Cluster(self.world, NAMESPACE, LABEL)
        self.client: Any = None

    async def start(self) -> AnyRig:
        self.client = await self.cluster.connect()
        return self

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
        ends = does in ("succeeds", "fails")
        wish = JobWish(
            pods=pods,
            grace_seconds=grace_seconds,
            stubborn=does == "stubborn",
            ends_after_seconds=0.0 if ends else inf,
            succeeds=does == "succeeds",
            ttl_seconds=inf if ttl_seconds is None else ttl_seconds,
            finalizers=tuple(finalizers),
        )
        job = self.cluster.create_job(evaluation_id, wish)
        return job if ends else await running(self.cluster, job)

    async def farm(self, name: str) -> JobIdentity:
        return self.cluster.create_job(ONE, JobWish(owned=True), name=name)

    async def release(self, job: JobIdentity) -> None:
        self.cluster.release(job.uid)

    async def unknown(self) -> Any:
        self.world.faults = Faults(only(F29=1.0), "1")
        return self.client

    async def go_away(self) -> None:
        self.cluster.service.away = True

    async def come_back(self) -> None:
        self.cluster.service.away = False


class TestFacts(KubernetesFacts):
    @pytest.fixture
    async def rig(self) -> AnyRig:
        return await Rig().start()
