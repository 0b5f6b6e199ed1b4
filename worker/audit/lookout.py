"""What a document speaks of, out there: Jobs, tasks and partial data of what is cancelled, cancels that take too long.

One half of `drift`; the other, drift.py, says whether the document itself can be believed.  Changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.base import time_text
from schemas.commands import Aggregate
from schemas.documents import Document, Job, SessionState, Task, WorkflowState
from schemas.status import Status
from worker.audit.findings import Ask, Finding, by_reporting, by_resuming
from worker.audit.heads import Head
from worker.domain.effects import targets
from worker.errors import Refused, Transient
from worker.ports import JobIdentity, Ports, TaskState

RUNNING = (TaskState.SUBMITTED, TaskState.WORKING, TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED)
LISTED_MAX = 1000
CAME_BACK = "a person: it was seen gone, and no command stops it twice"
TORN_DOWN = "it is torn down"


@dataclass
class Lookout:
    """`label`: what Jobs carry the evaluation's id under; `bound_seconds`: how long a cancel may take."""

    ports: Ports
    label: str
    bound_seconds: float
    unreachable: dict[str, None] = field(default_factory=dict)
    """What could not be asked, in the order in which that showed."""
    unasked: int = 0
    """Cancelled turns, which no executor can be asked about."""

    async def things(self, document: Document, of: Aggregate, status: str | None, head: Head | None) -> list[Finding]:
        """Of an aggregate with this status, as its document knows them; those of open commands are being seen to."""
        state, sequence = document.state, document.chain.audit_seq
        match state:
            case WorkflowState() | SessionState() if status == Status.CANCELLING:
                return self._overdue(state, of, head, sequence)
            case SessionState() if status == Status.CANCELLED:
                self.unasked += 1
            case WorkflowState(purpose="evaluation") if status == Status.CANCELLED and not state.open:
                return await self._jobs_of(state, of, sequence) + await self._left_over(state, of, sequence)
            case WorkflowState() if status == Status.CANCELLED and not state.open:
                return await self._tasks_of(state, of, sequence)
            case _:
                pass
        return []

    def _overdue(
        self, state: WorkflowState | SessionState, of: Aggregate, head: Head | None, sequence: int
    ) -> list[Finding]:
        since = head.since if head and head.since else _begun(state)
        if since is not None and self.ports.clock.now() - since <= timedelta(seconds=self.bound_seconds):
            return []
        ask = by_resuming(state, of, "drift: cancelling for too long", sequence)
        detail = f"since {time_text(since)}" if since else "nothing says since when"
        return [_found("cancelling_too_long", of, of.key, detail, ask, "the teardown goes on", "")]

    # ------------------------------------------------------------------------------------------ what runs

    async def _jobs_of(self, state: WorkflowState, of: Aggregate, sequence: int) -> list[Finding]:
        recorded = {job.uid for job in state.jobs}
        unsettled = {target.uid for target in targets(state) if isinstance(target, Job)}
        found = []
        for job in await self.jobs(state.workflow_id, state.jobs):
            ask = None
            if job.uid in unsettled:
                ask = by_resuming(state, of, "drift: a Job was not seen gone", sequence)
            elif job.uid not in recorded:
                ask = by_reporting(state, job, self.label, sequence)
            found.append(still_running(of, name_of(job), ask))
        return found

    async def _tasks_of(self, state: WorkflowState, of: Aggregate, sequence: int) -> list[Finding]:
        unsettled = {target.task_id for target in targets(state) if isinstance(target, Task)}
        found = []
        for task in state.tasks:
            if await self._runs(task):
                resumes = task.task_id in unsettled
                ask = by_resuming(state, of, "drift: a task was not seen ended", sequence) if resumes else None
                found.append(still_running(of, f"task {task.task_id} at agent {task.agent}", ask))
        return found

    async def jobs(self, evaluation_id: str, recorded: Sequence[Job]) -> list[JobIdentity]:
        """Jobs with the evaluation's label, and those recorded of which something is left."""
        try:
            found = {job.uid: job for job in await self.ports.jobs.find(evaluation_id)}
            for job in recorded:
                identity = JobIdentity(job.namespace, job.name, job.uid, job.owner)
                if job.uid not in found and not (await self.ports.jobs.observe(identity)).gone:
                    found[job.uid] = identity
        except (Transient, Refused) as error:
            self.unreachable[f"jobs: {error}"] = None
            return []
        return list(found.values())

    async def _runs(self, task: Task) -> bool:
        """Whether its agent says that it is not ended."""
        try:
            return await self.ports.agents.get(task.agent, task.task_id) in RUNNING
        except (Transient, Refused) as error:
            self.unreachable[f"agent {task.agent}: {error}"] = None
            return False

    # ------------------------------------------------------------------------------------------ what lies about

    async def _left_over(self, state: WorkflowState, of: Aggregate, sequence: int) -> list[Finding]:
        """Partial data, where its removal was asked for; a sweep that is not due yet is no drift."""
        if state.teardown is None or not state.teardown.cleanup:
            return []
        sweeps = [marker.due_at for marker in state.unsettled if marker.why == "sweep"]
        if any(due_at > self.ports.clock.now() for due_at in sweeps):
            return []
        prefix = f"teams/{state.team_id}/evaluations/{state.workflow_id}/partial/"
        keys = await self.ports.store.list(prefix, limit=LISTED_MAX)
        if not keys:
            return []
        ask = by_resuming(state, of, "drift: partial data is left", sequence) if sweeps else None
        more = " or more" if len(keys) == LISTED_MAX else ""
        detail = f"{len(keys)}{more} objects after the receipt, the first is {keys[0]}"
        nobody = "a person: no command sweeps again what was swept"
        return [_found("partial_left", of, prefix, detail, ask, "it is swept again", nobody)]


def still_running(of: Aggregate, what: str, ask: Ask | None) -> Finding:
    """Something of an aggregate that says cancelled."""
    return _found("still_running", of, what, "it says cancelled, and this is there", ask, TORN_DOWN, CAME_BACK)


def name_of(job: JobIdentity) -> str:
    return f"Job {job.namespace}/{job.name}, {job.uid}"


def _found(kind: str, of: Aggregate, what: str, detail: str, ask: Ask | None, then: str, otherwise: str) -> Finding:
    settled_by = f"{ask.type}: {then}" if ask else otherwise
    fields = {"kind": kind, "aggregate": of.key, "what": what, "detail": detail, "settled_by": settled_by, "ask": ask}
    return Finding.model_validate(fields)


def _begun(state: WorkflowState | SessionState) -> datetime | None:
    """When the running teardown began, as far as the document says."""
    if isinstance(state, WorkflowState) and state.teardown:
        return state.teardown.begun_at
    times = [command.decided_at for command in state.open] + [marker.due_at for marker in state.unsettled]
    return min(times, default=None)
