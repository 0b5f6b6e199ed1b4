"""What others do to Jobs while a worker wants to delete them: faults F27, F30, F32, F35; and Jobs as they come.

Knows the cluster's own machinery, and not how requests are spoken.
"""

from dataclasses import replace
from math import inf
from random import Random

from worker.simulation.kubernetes.controllers import Controllers
from worker.simulation.kubernetes.deletion import Deletions
from worker.simulation.kubernetes.objects import Job, JobWish
from worker.simulation.kubernetes.registry import Registry
from worker.simulation.world import World

HOLD = "acme.test/hold"
"""A finalizer of somebody's own."""
HELD_SECONDS = (20.0, 300.0)
"""Until somebody takes it off."""


def drawn_job(chance: Random) -> JobWish:
    """A Job like those out there: most of them run until they are stopped."""
    return JobWish(
        pods=chance.choices((1, 2, 3), weights=(7, 2, 1))[0],
        grace_seconds=chance.choices((30, 5, 60, 1), weights=(5, 3, 1, 1))[0],
        stops_after_seconds=chance.choices((0.0, chance.uniform(0.1, 3.0), chance.uniform(3.0, 40.0)), (5, 4, 1))[0],
        ends_after_seconds=chance.choices((inf, chance.expovariate(1 / 60)), weights=(8, 2))[0],
        succeeds=chance.random() < 0.7,
        ttl_seconds=chance.choices((inf, 0.0, chance.uniform(1.0, 30.0)), weights=(6, 1, 3))[0],
        node_shortens=chance.random() < 0.8,
    )


class Strangers:
    """Asked by the API server before it carries out what a worker wants."""

    def __init__(self, world: World, registry: Registry, deletions: Deletions, controllers: Controllers) -> None:
        self._world, self._registry = world, registry
        self._deletions, self._controllers = deletions, controllers
        self._sought: dict[str, None] = {}
        """Evaluations whose Jobs were looked for, or deleted."""

    def create_job(self, namespace: str, evaluation_id: str, wish: JobWish, name: str = "") -> Job:
        """As somebody's pipeline does; it may come late."""
        name = name or f"job-{len(self._controllers.jobs)}"
        job = self._controllers.create_job(namespace, name, evaluation_id, wish)
        job.late = evaluation_id in self._sought
        self._world.note("pipeline", "creates", f"{job.name} {job.uid} of {evaluation_id}{' late' * job.late}")
        return job

    def looked_for(self, evaluation_id: str) -> None:
        """Somebody has listed what carries its label."""
        self._sought[evaluation_id] = None

    def before_delete(self, job: Job) -> None:
        """A worker is about to have it deleted, for the first time."""
        self._sought[job.evaluation_id] = None
        if job.late:
            job.late = False
            self._world.faults.met("F35")
        if job.owner is None and self._world.faults.strikes("F32"):
            self._time_to_live(job)
        elif job.owner is None and self._world.faults.strikes("F27"):
            self._take_name(job)
        elif self._world.faults.strikes("F30"):
            self._hold(job)

    def _time_to_live(self, job: Job) -> None:
        """It has completed, and the TTL controller came first: of Job and pods nothing is left."""
        self._world.note("ttl controller", "comes first", f"{job.name} {job.uid}")
        for pod in job.pods:
            if pod.exists:
                pod.alive, pod.phase, pod.ended_at = False, "Succeeded", self._world.now
                self._deletions.of(pod, grace_seconds=0)
                self._deletions.drop_finalizers(pod, *pod.finalizers)
        self._deletions.of(job, policy="Background")
        self._deletions.drop_finalizers(job, *job.finalizers)

    def _take_name(self, job: Job) -> None:
        """Somebody has deleted it and made another of that name; its pods may be there for a while."""
        self._deletions.of(job, policy="Background")
        self._deletions.drop_finalizers(job, *job.finalizers)
        other = f"{self._world.faults.source('F27').getrandbits(128):032x}"
        again = self._controllers.create_job(job.namespace, job.name, other, replace(job.wish, finalizers=()))
        self._world.note("pipeline", "makes another", f"{job.name} {again.uid} in place of {job.uid}")

    def _hold(self, job: Job) -> None:
        seconds = self._world.faults.source("F30").uniform(*HELD_SECONDS)
        job.finalizers = (*job.finalizers, HOLD)
        self._world.note("somebody", "holds", f"{job.name} {job.uid} for {seconds:.3f} s")
        self._world.after(seconds, lambda: self._deletions.drop_finalizers(job, HOLD))

    def let_go(self) -> None:
        """Take off every finalizer that somebody has put on."""
        for job in self._controllers.jobs.values():
            self._deletions.drop_finalizers(job, HOLD)
