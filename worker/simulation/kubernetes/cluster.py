"""A cluster: its parts put together, the clients that processes make of it, and what is true of Jobs and pods."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import kubernetes_asyncio.client as library

from worker.ports import JobIdentity
from worker.simulation.kubernetes.client import ApiClient
from worker.simulation.kubernetes.controllers import Controllers
from worker.simulation.kubernetes.deletion import Deletions
from worker.simulation.kubernetes.node import Nodes
from worker.simulation.kubernetes.objects import Job, JobWish, Pod
from worker.simulation.kubernetes.registry import Registry
from worker.simulation.kubernetes.server import ApiServer, Delete
from worker.simulation.kubernetes.strangers import Strangers, drawn_job
from worker.simulation.service import Service
from worker.simulation.world import World


class Cluster:
    """With one namespace; `label` is what holds the evaluation's id on a Job."""

    def __init__(self, world: World, namespace: str, label: str) -> None:
        self.namespace = namespace
        self._world = world
        self._chance = world.random("jobs")
        self._registry = Registry(world)
        nodes = Nodes(world, self._registry)
        self._deletions = Deletions(world, self._registry, nodes)
        self._controllers = Controllers(world, self._registry, nodes, self._deletions, label)
        self._strangers = Strangers(world, self._registry, self._deletions, self._controllers)
        self._server = ApiServer(world, self._registry, self._deletions, (namespace,), self._strangers)

    async def connect(self) -> library.ApiClient:
        """What `KubernetesController` takes as its client; made inside of the process that it belongs to."""
        return cast(library.ApiClient, ApiClient(self._server))

    @property
    def service(self) -> Service:
        """`away`: connections are refused, and open watches break (F34)."""
        return self._server.service

    # ------------------------------------------------------------------------------ for the workload

    def create_job(self, evaluation_id: str, wish: JobWish | None = None, *, name: str = "") -> JobIdentity:
        """Start a Job under an evaluation's label, at any time; how it behaves is drawn where it is not said.

        -> its identity, as somebody reports it: an owner above it is named, or not (F33).
        """
        tells_owner = True
        if wish is None:
            wish = drawn_job(self._chance)
            if self._chance.random() < self._world.faults.rate("F33"):
                wish = replace(wish, owned=True)
                tells_owner = self._chance.random() < 0.5
        job = self._strangers.create_job(self.namespace, evaluation_id, wish, name)
        owner = job.owner if tells_owner else None
        named = f"{owner.kind.api_version}/{owner.kind.kind}/{owner.name}/{owner.uid}" if owner else None
        return JobIdentity(job.namespace, job.name, job.uid, named)

    def release(self, uid: str) -> None:
        """Take a Job's finalizers off."""
        job = self._controllers.jobs[uid]
        self._deletions.drop_finalizers(job, *job.finalizers)

    def calm(self) -> None:
        """Nobody else's finalizer holds anything any more (F30)."""
        self._strangers.let_go()

    # ------------------------------------------------------------------------------ for the checker

    @property
    def jobs(self) -> Mapping[str, Job]:
        """All that ever were, by uid: `exists`, `evaluation_id`, `running`, `owner`."""
        return self._controllers.jobs

    @property
    def pods(self) -> Mapping[str, Pod]:
        """All that ever were, by uid: `exists`, `alive`, `job`."""
        return {pod.uid: pod for job in self.jobs.values() for pod in job.pods}

    def running(self) -> Sequence[str]:
        """Uids of the Jobs of which a process is alive, whatever the API says."""
        return [job.uid for job in self.jobs.values() if job.running]

    @property
    def deletes(self) -> Sequence[Delete]:
        """What clients had deleted, in order; what the cluster deletes by itself is not of them."""
        return self._server.deletes
