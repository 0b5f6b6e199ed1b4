"""The controllers above pods and Jobs: the Job controller, the TTL controller, and one of somebody's own (N4).

Knows nothing of requests.
"""

from collections.abc import Callable
from math import inf

from worker.simulation.kubernetes.deletion import Deletions
from worker.simulation.kubernetes.node import Nodes
from worker.simulation.kubernetes.objects import (
    CONTROLLER_UID,
    FARMS,
    JOB_TRACKING,
    JOBS,
    PODS,
    Job,
    JobWish,
    Pod,
    Thing,
)
from worker.simulation.kubernetes.registry import Registry
from worker.simulation.world import World

SYNC_SECONDS = (0.005, 0.05)
"""How long the Job controller takes to see what happened."""
MAKE_AGAIN_SECONDS = (0.05, 1.5)
"""How long the controller of farms takes to see that a Job is missing, and to make it again."""


class Controllers:
    """`label` is what holds the evaluation's id on a Job."""

    def __init__(self, world: World, registry: Registry, nodes: Nodes, deletions: Deletions, label: str) -> None:
        self.jobs: dict[str, Job] = {}
        """All that ever were, by uid."""
        self._world, self._registry, self._nodes, self._deletions = world, registry, nodes, deletions
        self._label = label
        self._chance = world.random("controllers")
        nodes.reported = self._pod_has_ended
        registry.removed = self._removed

    def uid(self) -> str:
        """One that nothing has had before."""
        bits = f"{self._chance.getrandbits(128):032x}"
        return "-".join((bits[:8], bits[8:12], bits[12:16], bits[16:20], bits[20:]))

    # ------------------------------------------------------------------------------ Jobs

    def create_job(self, namespace: str, name: str, evaluation_id: str, wish: JobWish) -> Job:
        """A Job, under an owner of its own where it wishes for one; its pods follow."""
        owner = None
        if wish.owned:
            owner = Thing(FARMS, namespace, name, self.uid(), {})
            self._registry.add(owner)
            name = f"{name}-work"
        return self._make(namespace, name, evaluation_id, wish, owner)

    def _make(self, namespace: str, name: str, evaluation_id: str, wish: JobWish, owner: Thing | None) -> Job:
        job = Job(
            JOBS,
            namespace,
            name,
            self.uid(),
            {self._label: evaluation_id},
            owner,
            wish.finalizers,
            evaluation_id=evaluation_id,
            wish=wish,
        )
        self._registry.add(job)
        self.jobs[job.uid] = job
        self._later(lambda: self._make_pods(job))
        return job

    def _make_pods(self, job: Job) -> None:
        if job.terminating:
            return
        for number in range(job.wish.pods):
            labels = {CONTROLLER_UID: job.uid, "batch.kubernetes.io/job-name": job.name, "job-name": job.name}
            name = f"{job.name}-{job.uid[:5]}-{number}"
            finalizers = (JOB_TRACKING, *job.wish.pod_finalizers)
            pod = Pod(PODS, job.namespace, name, self.uid(), labels, job, finalizers, job=job)
            self._registry.add(pod)
            job.pods.append(pod)
            self._nodes.run(pod)

    def _pod_has_ended(self, pod: Pod) -> None:
        self._deletions.pod_has_ended(pod)
        job = pod.job
        assert job is not None, "pods here are made for Jobs"
        self._later(lambda: self._count(job, pod))

    def _count(self, job: Job, pod: Pod) -> None:
        """A pod that has ended is taken into account once; with the last one, or a failed one, the Job has ended."""
        self._deletions.drop_finalizers(pod, JOB_TRACKING)
        if not job.exists or job.terminating or job.outcome is not None:
            return
        if pod.phase == "Failed" or all(each.has_ended for each in job.pods):
            job.outcome = "Failed" if pod.phase == "Failed" else "Complete"
            self._registry.changed(job)
            for other in job.pods:
                if other.exists and not other.has_ended:
                    self._deletions.of(other)
            if job.wish.ttl_seconds < inf:
                self._world.after(job.wish.ttl_seconds, lambda: self._time_to_live_is_over(job))

    def _time_to_live_is_over(self, job: Job) -> None:
        if job.exists and not job.terminating:
            self._world.note("ttl controller", "deletes", f"{job.name} {job.uid}")
            self._deletions.of(job, policy="Foreground")

    # ------------------------------------------------------------------------------ owners

    def _removed(self, thing: Thing) -> None:
        """A Job is gone: its owner's controller, which nobody has asked to stop, will see that."""
        if isinstance(thing, Job) and thing.owner is not None:
            job, farm = thing, thing.owner
            self._world.after(self._chance.uniform(*MAKE_AGAIN_SECONDS), lambda: self._make_again(job, farm))

    def _make_again(self, job: Job, farm: Thing) -> None:
        if not farm.exists or farm.terminating or self._registry.find(JOBS, job.namespace, job.name) is not None:
            return
        again = self._make(farm.namespace, job.name, job.evaluation_id, job.wish, farm)
        self._world.note("farm controller", "makes again", f"{again.name} {again.uid}")
        self._world.faults.met("F33")

    def _later(self, act: Callable[[], None]) -> None:
        self._world.after(self._chance.uniform(*SYNC_SECONDS), act)
