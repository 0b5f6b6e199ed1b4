"""Jobs in memory: a JobController whose pods stop as they were told to, for tests of the worker and of its users.

What is here behaves as a cluster does, as far as a cancel can see it: a uid is never used again, a name may be; pods
get SIGTERM with the delete and are killed after a grace period of their own; finalizers hold a Job whose pods are gone;
an owner creates its Job again.  All delays run over the Clock port.  Knows nothing of commands or verdicts.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Literal

from worker.errors import OutcomeUnknown, Refused, Unavailable
from worker.ports import Clock, Deletion, JobIdentity, JobView, Pod

POLL_SECONDS = 0.05
Verb = Literal["find", "delete", "observe", "delete_pod"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One call, as it came in, answered or not."""

    at: datetime
    verb: Verb
    what: JobIdentity | str
    pod_uid: str | None = None
    grace_period_seconds: int | None = None


@dataclass(slots=True)
class MemoryPod:
    """A pod; times are the Clock's monotonic seconds.  `stop_seconds` infinite: it ignores SIGTERM."""

    name: str
    uid: str
    stop_seconds: float
    grace_seconds: float
    node_away: bool
    terminating: bool = False
    gone_at: float = math.inf

    def end(self, at: float) -> None:
        """It is on its way out; an earlier end stands."""
        self.terminating = True
        self.gone_at = min(self.gone_at, at)


@dataclass(slots=True)
class MemoryJob:
    """A Job; it is there from `appears_at` until it was deleted, its pods are gone and no finalizer holds it."""

    identity: JobIdentity
    evaluation_id: str
    pods: list[MemoryPod]
    appears_at: float
    outcome: Literal["completed", "failed"] | None
    held_by: tuple[str, ...]
    again: Callable[[], JobIdentity] | None
    """What its owner does once it is gone."""
    deleted: bool = False

    def view(self, now: float) -> JobView:
        if now < self.appears_at:
            return JobView(exists=False)
        pods = tuple(Pod(pod.name, pod.uid, pod.terminating) for pod in self.pods if now < pod.gone_at)
        exists = bool(not self.deleted or pods or self.held_by)
        return JobView(exists, pods, self.outcome, self.held_by if self.deleted and not pods else ())


@dataclass
class MemoryJobs:
    """The double; set `away`, `forbidden` or `loses_replies` at any time, and read `asked`."""

    clock: Clock
    away: bool = False
    """Every call raises Unavailable and does nothing."""
    forbidden: frozenset[Verb] = frozenset()
    """These calls raise Refused."""
    loses_replies: bool = False
    """Every call is done, and then raises OutcomeUnknown."""
    asked: list[Asked] = field(default_factory=list)
    _jobs: dict[str, MemoryJob] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    # ------------------------------------------------------------------------------ the story

    def add(
        self,
        evaluation_id: str,
        *,
        name: str | None = None,
        pods: int = 1,
        stop_seconds: float = 0.0,
        grace_seconds: float = 30.0,
        node_away: bool = False,
        appears_after_seconds: float = 0.0,
        outcome: Literal["completed", "failed"] | None = None,
        held_by: Sequence[str] = (),
        owner: str | None = None,
    ) -> JobIdentity:
        """A Job of this evaluation; -> its identity, with a uid that no other Job ever has.

        A pod ends `stop_seconds` after SIGTERM (`math.inf`: it ignores it), or is killed `grace_seconds` after it.
        `node_away`: nothing stops its pods, but grace 0 removes them from the view.  `outcome`: it has ended by itself,
        and has no pods.  With an `owner` it is created again (other uid) unless the delete names the owner as well.
        """
        number = next(self._numbers)
        identity = JobIdentity("memory", name or f"job-{number}", f"job-uid-{number}", owner)
        behaviour = partial(MemoryPod, stop_seconds=stop_seconds, grace_seconds=grace_seconds, node_away=node_away)
        running = 0 if outcome else pods
        made = [behaviour(f"{identity.name}-{i}", f"{identity.uid}-pod-{i}") for i in range(running)]
        again = partial(
            self.add,
            evaluation_id,
            name=identity.name,
            pods=pods,
            stop_seconds=stop_seconds,
            grace_seconds=grace_seconds,
            node_away=node_away,
            owner=owner,
        )
        self._jobs[identity.uid] = MemoryJob(
            identity=identity,
            evaluation_id=evaluation_id,
            pods=made,
            appears_at=self.clock.monotonic() + appears_after_seconds,
            outcome=outcome,
            held_by=tuple(held_by),
            again=again if owner else None,
        )
        return identity

    def release(self, job: JobIdentity) -> None:
        """Its finalizers are done."""
        self._jobs[job.uid].held_by = ()

    def finish(self, job: JobIdentity, outcome: Literal["completed", "failed"]) -> None:
        """It ends by itself, now."""
        known = self._jobs[job.uid]
        known.outcome = outcome
        for pod in known.pods:
            pod.end(self.clock.monotonic())

    def remaining(self) -> list[JobIdentity]:
        """What is still there, or there again."""
        now = self.clock.monotonic()
        for job in list(self._jobs.values()):
            if job.again and job.deleted and job.view(now).gone:
                job.again()
                job.again = None
        return [job.identity for job in self._jobs.values() if not job.view(now).gone]

    # ------------------------------------------------------------------------------ the port

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to release; Jobs go on."""

    async def find(self, evaluation_id: str) -> Sequence[JobIdentity]:
        self._ask("find", evaluation_id)
        found = [job for job in self.remaining() if self._jobs[job.uid].evaluation_id == evaluation_id]
        self._reply()
        return found

    async def delete(self, job: JobIdentity) -> Deletion:
        self._ask("delete", job)
        remaining = self.remaining()
        if any(job.uid == other.uid for other in remaining):
            self._stop(self._jobs[job.uid], with_owner=job.owner is not None)
            deletion = Deletion.ACCEPTED
        else:
            taken = any((job.namespace, job.name) == (other.namespace, other.name) for other in remaining)
            deletion = Deletion.NOT_OURS if taken else Deletion.GONE
        self._reply()
        return deletion

    async def observe(self, job: JobIdentity, *, since: JobView | None = None, timeout_seconds: float = 0) -> JobView:
        self._ask("observe", job)
        until = self.clock.monotonic() + timeout_seconds
        while True:
            now = self.clock.monotonic()
            known = self._jobs.get(job.uid)
            view = known.view(now) if known else JobView(exists=False)
            if since is None or view != since or now >= until:
                self._reply()
                return view
            await self.clock.sleep(min(POLL_SECONDS, until - now))
            self._check("observe")

    async def delete_pod(self, job: JobIdentity, pod: Pod, grace_period_seconds: Literal[0, 1]) -> Deletion:
        self._ask("delete_pod", job, pod.uid, grace_period_seconds)
        now = self.clock.monotonic()
        known = self._jobs.get(job.uid)
        here = [each for each in known.pods if each.uid == pod.uid and now < each.gone_at] if known else []
        for each in here:
            each.end(math.inf if each.node_away and grace_period_seconds else now + grace_period_seconds)
        self._reply()
        if not here:
            return Deletion.GONE
        return Deletion.ACCEPTED if grace_period_seconds else Deletion.REMOVED

    # ------------------------------------------------------------------------------ how it behaves

    def _stop(self, job: MemoryJob, *, with_owner: bool) -> None:
        """SIGTERM to its pods, once; nothing makes it again if its owner is named as well."""
        if with_owner:
            job.again = None
        if not job.deleted:
            job.deleted = True
            now = self.clock.monotonic()
            for pod in job.pods:
                pod.end(math.inf if pod.node_away else now + min(pod.stop_seconds, pod.grace_seconds))

    def _ask(
        self, verb: Verb, what: JobIdentity | str, pod_uid: str | None = None, grace: Literal[0, 1] | None = None
    ) -> None:
        self.asked.append(Asked(self.clock.now(), verb, what, pod_uid, grace))
        self._check(verb)

    def _check(self, verb: Verb) -> None:
        if self.away:
            raise Unavailable("the cluster is away")
        if verb in self.forbidden:
            raise Refused(f"jobs: {verb} is forbidden")

    def _reply(self) -> None:
        if self.loses_replies:
            raise OutcomeUnknown("the reply was lost")
