"""How each effect is performed over the ports, to its end: the evidence, not the request, is what counts.

Every function repeats under backoff until it has an observation; only the flight's deadline, or a drop of the lane,
ends it before.  All of it is harmless when done again: it names an identity that is never used again.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, TypeVar

import structlog

from schemas.commands import ReportedJob
from schemas.observations import Finished, Forbidden, JobsFound, Observation, PartialRemoved, Pending, Stopped
from schemas.receipts import Escalation
from worker.domain.effects import Effect, FindJobs, RemovePartial, StopJob, StopTask, StopTurn
from worker.errors import Refused, Transient
from worker.ports import (
    AgentClient,
    Clock,
    Deletion,
    DocumentStore,
    Ids,
    JobController,
    JobIdentity,
    JobView,
    TaskAnswer,
    TaskState,
    TurnExecutor,
)
from worker.runtime.retry import Backoff
from worker.runtime.trail import Trail, may_remove
from worker.telemetry import metrics

log = structlog.get_logger()
T = TypeVar("T")
OBSERVE_SECONDS = 5.0
POLL_SECONDS = 1.0


class Performer:
    """Performs effects; many at once."""

    def __init__(
        self,
        *,
        jobs: JobController,
        agents: AgentClient,
        executors: TurnExecutor,
        store: DocumentStore,
        clock: Clock,
        ids: Ids,
        job_label: str,
    ) -> None:
        self._jobs, self._agents, self._executors, self._store = jobs, agents, executors, store
        self._clock, self._ids, self._job_label = clock, ids, job_label

    async def perform(self, effect: Effect, trail: Trail) -> Observation:
        """To the end; an unavailable dependency is waited out, and so is a bug: the deadline answers."""
        name, started = type(effect).__name__, self._clock.monotonic()
        backoff = Backoff(self._clock, self._ids)
        while True:
            try:
                observation = await self._once(effect, trail)
            except Refused as error:
                observation = self._forbidden(effect, trail, str(error))
            except Exception as error:  # unclassified: logged, and tried again
                metrics.BUGS.inc()
                log.error("effect.bug", effect=name, exc_info=error)
                await backoff.pause()
                continue
            metrics.EFFECTS.labels(name, observation.kind).inc()
            metrics.EFFECT_SECONDS.labels(name).observe(self._clock.monotonic() - started)
            return observation

    async def _once(self, effect: Effect, trail: Trail) -> Observation:
        match effect:
            case FindJobs():
                return await self._find_jobs(effect)
            case StopJob():
                return await self._stop_job(effect, trail)
            case StopTask():
                return await self._stop_task(effect, trail)
            case StopTurn():
                return await self._stop_turn(effect, trail)
            case RemovePartial():
                return await self._remove_partial(effect)

    def _forbidden(self, effect: Effect, trail: Trail, message: str) -> Observation:
        if isinstance(effect, RemovePartial):
            return PartialRemoved(warning=f"partial data was not removed: {message}")
        if not trail.known:
            assert isinstance(effect, FindJobs), "the others say first what they are about"
            trail.about("job", "label", effect.evaluation_id, self._clock.now())
        trail.detail = message
        return Forbidden(resource=trail.receipt(), message=message)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        backoff = Backoff(self._clock, self._ids)
        while True:
            try:
                return await call()
            except Transient as error:
                metrics.OUTAGES.inc()
                await backoff.pause(error)

    # ------------------------------------------------------------------------------------------ Jobs

    async def _find_jobs(self, effect: FindJobs) -> Observation:
        found = await self._patiently(lambda: self._jobs.find(effect.evaluation_id))
        label = {self._job_label: effect.evaluation_id}
        jobs = [
            ReportedJob(namespace=job.namespace, name=job.name, uid=job.uid, labels=label, owner=job.owner)
            for job in found
        ]
        return JobsFound(jobs=tuple(jobs))

    async def _stop_job(self, effect: StopJob, trail: Trail) -> Observation:
        """Delete; after the grace kill each pod; shortly before the deadline remove what still stands.

        A removal takes the proof away, so that it is about to come is recorded first: `Pending` says so, and the effect
        goes on once its Job holds it.  Whoever dies in between leaves an owner that knows why no pod is there.
        """
        job = JobIdentity(effect.job.namespace, effect.job.name, effect.job.uid, effect.job.owner)
        trail.resume(effect.job.gone)
        trail.about("job", f"{job.namespace}/{job.name}", job.uid, self._clock.now())
        trail.saw(await self._patiently(lambda: self._jobs.observe(job)))  # those that end at once belong in there, too
        if await self._patiently(lambda: self._jobs.delete(job)) != Deletion.GONE:
            trail.accepted_at = trail.accepted_at or self._clock.now()
        view: JobView | None = None
        while True:
            seconds = min(OBSERVE_SECONDS, self._until_next_step(effect))
            look = partial(self._jobs.observe, job, since=view, timeout_seconds=seconds)
            view = await self._patiently(look)
            trail.saw(view)
            trail.detail = f"held by {', '.join(view.held_by)}" if view.held_by else ""
            if view.gone:
                return Stopped(resource=trail.receipt("forced" if trail.forced else "stopped", self._clock.now()))
            if planned := await self._escalate(effect, job, view, trail):
                return planned

    def _steps(self, effect: StopJob) -> tuple[datetime, datetime]:
        """When pods are killed, and when they are removed without proof: a little before the deadline, each."""
        grace = 0 if effect.mode == "force" else effect.grace_period_seconds
        margin = min(10.0, max(0.0, (effect.deadline_at - effect.asked_at).total_seconds()) / 5)
        force_at = effect.deadline_at - timedelta(seconds=margin)
        kill_at = min(effect.asked_at + timedelta(seconds=grace), force_at - timedelta(seconds=margin))
        return kill_at, force_at

    def _until_next_step(self, effect: StopJob) -> float:
        now = self._clock.now()
        left = [(at - now).total_seconds() for at in self._steps(effect) if at > now]
        return max(0.05, min(left, default=OBSERVE_SECONDS))

    async def _escalate(self, effect: StopJob, job: JobIdentity, view: JobView, trail: Trail) -> Pending | None:
        """Ask for the step that is due, pod by pod; -> what has to be recorded before that."""
        now = self._clock.now()
        kill_at, force_at = self._steps(effect)
        if now < kill_at:
            return None
        grace: Literal[0, 1] = 0 if now >= force_at else 1
        for pod in view.pods:
            trail.plan(Escalation(at=now, pod=pod.uid, grace_period_seconds=grace))
        if view.pods and grace == 0 and not may_remove(effect.job.gone):
            return Pending(resource=trail.receipt())
        for pod in view.pods:
            if (pod.uid, grace) in trail.escalated:
                continue
            before = trail.forced
            trail.forced = before or grace == 0  # also where the answer is lost, or this task ends meanwhile
            try:
                deletion = await self._jobs.delete_pod(job, pod, grace)
            except Transient:
                continue  # the next look comes soon, and tries again
            trail.escalated.add((pod.uid, grace))
            if deletion == Deletion.GONE:
                trail.forced = before
        return None

    # ------------------------------------------------------------------------------------------ tasks and turns

    async def _stop_task(self, effect: StopTask, trail: Trail) -> Observation:
        """Cancel, then ask until the agent says that it ended; "not cancelable" is looked into."""
        task = effect.task
        trail.about("task", task.agent, task.task_id, self._clock.now())
        backoff = Backoff(self._clock, self._ids, POLL_SECONDS / 4, POLL_SECONDS * 2)
        asking = True
        while True:
            try:
                if asking:
                    answer = await self._agents.cancel(task.agent, task.task_id, task.session_id)
                else:
                    answer = await self._agents.get(task.agent, task.task_id)
            except Transient as error:
                trail.detail = str(error)
                await backoff.pause(error)
                continue
            trail.accepted_at = trail.accepted_at or self._clock.now()
            trail.detail = f"the agent says {answer.value}"
            if observation := self._task_ended(answer, trail):
                return observation
            if asking and answer in (TaskAnswer.NOT_CANCELABLE, TaskAnswer.UNSUPPORTED):
                asking = False  # look at the task now, and ask again after a pause
                continue
            asking = not isinstance(answer, TaskState) or not asking
            await backoff.pause()

    def _task_ended(self, answer: TaskState | TaskAnswer, trail: Trail) -> Observation | None:
        now = self._clock.now()
        match answer:
            case TaskState.CANCELED | TaskAnswer.NOT_FOUND:
                return Stopped(resource=trail.receipt("stopped", now))
            case TaskState.COMPLETED:
                return Finished(resource=trail.receipt("stopped", now), outcome="succeeded")
            case TaskState.FAILED | TaskState.REJECTED:
                return Finished(resource=trail.receipt("stopped", now), outcome="failed")
            case _:
                return None

    async def _stop_turn(self, effect: StopTurn, trail: Trail) -> Observation:
        """Cancel by turn id until the executor says that it does not run (any more)."""
        trail.about("turn", effect.zone, effect.turn_id, self._clock.now())
        backoff = Backoff(self._clock, self._ids, POLL_SECONDS / 4, POLL_SECONDS * 2)
        while True:
            left = max(0.1, (effect.deadline_at - self._clock.now()).total_seconds())
            try:
                answer = await self._executors.cancel(effect.zone, effect.session_id, effect.turn_id, min(left, 10.0))
            except Transient as error:
                trail.detail = str(error)
                await backoff.pause(error)
                continue
            trail.accepted_at = trail.accepted_at or self._clock.now()
            trail.detail = f"the executor says {answer.status}"
            now = self._clock.now()
            if answer.status == "finished" and answer.outcome in ("succeeded", "failed"):
                return Finished(resource=trail.receipt("stopped", now), outcome=answer.outcome)
            if answer.status != "cancelling":
                return Stopped(resource=trail.receipt("stopped", now))
            await backoff.pause()

    # ------------------------------------------------------------------------------------------ partial data

    async def _remove_partial(self, effect: RemovePartial) -> Observation:
        """List and delete until the prefix is empty; what fails is a warning, never a failed cancel."""
        prefix = f"teams/{effect.team_id}/evaluations/{effect.evaluation_id}/partial/"
        removed = 0
        for attempt in range(3):
            try:
                last: list[str] = []
                while keys := await self._store.list(prefix):
                    if list(keys) == last:
                        return PartialRemoved(objects=removed, warning=f"cannot be removed, and more: {keys[0]!r}")
                    await self._store.delete(keys)
                    last, removed = list(keys), removed + len(keys)
                return PartialRemoved(objects=removed)
            except Transient as error:
                if attempt == 2:
                    return PartialRemoved(objects=removed, warning=f"partial data was not removed: {error}")
                await self._clock.sleep(0.5)
        raise AssertionError("unreachable")
