"""Effects: what a state still asks for.  Level-triggered: derived from the state, never remembered beside it.

So joining, raising the mode, a Job reported late and resuming after a crash need no path of their own: each changes
the state, and what is to be done follows.  An effect names an identity that is never used again (must 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from schemas.documents import Job, OrgState, SessionState, Task, WorkflowState
from schemas.observations import Finished, Forbidden, JobsFound, Observation, PartialRemoved, Pending, Stopped
from schemas.receipts import ResourceReceipt
from schemas.status import Status
from worker.domain.decision import AnyState


@dataclass(frozen=True, slots=True)
class FindJobs:
    """Look for Jobs that carry the evaluation's label."""

    evaluation_id: str


@dataclass(frozen=True, slots=True)
class StopJob:
    """Delete a Job and see its pods gone; escalate after the grace, force shortly before the deadline.

    The grace runs from `asked_at`, which the document holds: a worker that dies does not give it again.
    """

    job: Job
    mode: Literal["graceful", "force"]
    grace_period_seconds: int
    asked_at: datetime
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class StopTask:
    """Cancel a task at its agent and see it ended."""

    task: Task
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class StopTurn:
    """Cancel a turn at its executor and see it ended."""

    zone: str
    session_id: str
    turn_id: str
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class RemovePartial:
    """Remove everything under the evaluation's partial prefix, listed again until empty."""

    team_id: str
    evaluation_id: str


Effect = FindJobs | StopJob | StopTask | StopTurn | RemovePartial


def gone(resource: ResourceReceipt | None) -> bool:
    """Whether the evidence says that it is no more."""
    return resource is not None and resource.evidence != "unconfirmed"


def targets(state: WorkflowState) -> tuple[Job | Task, ...]:
    """What is recorded and was not seen gone."""
    jobs = tuple(job for job in state.jobs if not gone(job.gone))
    return jobs + tuple(task for task in state.tasks if not gone(task.gone))


def next_deadline(state: AnyState) -> datetime | None:
    """When the first of the open commands must be answered."""
    return min((command.deadline_at for command in state.open), default=None)


def needs_record(seen: Sequence[Observation]) -> bool:
    """Whether an effect goes on only once what it is about to do is recorded."""
    return any(isinstance(item, Pending) for item in seen)


def settles_outcome(state: AnyState, item: Observation) -> bool:
    """Whether the remote side proves an outcome that stands: of the last turn, or of the last task, no earlier one."""
    if not isinstance(item, Finished):
        return False
    if isinstance(state, WorkflowState):
        task = state.workflow_specific_fields
        return task is not None and item.resource.identity == task.task_id
    return True


def effects(state: AnyState, seen: Sequence[Observation] = ()) -> tuple[Effect, ...]:
    """What is to be done now, given observations that are not recorded yet; all of it may run at once.

    Empty: nothing, or what was seen has to be decided on first.
    """
    if not state.open or any(isinstance(item, Forbidden) or settles_outcome(state, item) for item in seen):
        return ()
    match state:
        case WorkflowState():
            return _workflow_effects(state, seen)
        case SessionState():
            return _session_effects(state, seen)
        case OrgState():
            return ()


def _workflow_effects(state: WorkflowState, seen: Sequence[Observation]) -> tuple[Effect, ...]:
    begun_at = state.teardown.begun_at if state.teardown else min(command.decided_at for command in state.open)
    deadline_at = max(command.deadline_at for command in state.open)
    ended = (item.resource for item in seen if isinstance(item, Stopped | Finished | Pending))
    handled = {(resource.kind, resource.identity) for resource in ended}
    mode = state.teardown.mode if state.teardown else "graceful"
    grace = state.teardown.grace_period_seconds if state.teardown else 0
    stops: list[Effect] = []
    for target in targets(state):
        if isinstance(target, Job) and ("job", target.uid) not in handled:
            asked_at = max(begun_at, target.recorded_at or begun_at)
            stops.append(StopJob(target, mode, grace, asked_at, deadline_at))
        elif isinstance(target, Task) and ("task", target.task_id) not in handled:
            stops.append(StopTask(target, deadline_at))
    if stops or needs_record(seen):
        return tuple(stops)
    if state.purpose != "evaluation":
        return ()
    found = [item for item in seen if isinstance(item, JobsFound)]
    if not found:
        return (FindJobs(state.workflow_id),)
    if any(item.jobs for item in found):
        return ()  # an identity must be recorded before it is touched
    if wants_cleanup(state) and not any(isinstance(item, PartialRemoved) for item in seen):
        return (RemovePartial(state.team_id, state.workflow_id),)
    return ()


def wants_cleanup(state: WorkflowState) -> bool:
    """Whether partial data is still to be removed in the running teardown."""
    return state.purpose == "evaluation" and state.teardown is not None and state.teardown.cleanup and not state.cleaned


def _session_effects(state: SessionState, seen: Sequence[Observation]) -> tuple[Effect, ...]:
    turn = state.turn
    if turn is None or turn.status != Status.CANCELLING or any(isinstance(item, Stopped) for item in seen):
        return ()
    zone = state.session_id.partition(".")[2]
    deadline_at = max(command.deadline_at for command in state.open)
    return (StopTurn(zone, state.session_id, turn.turn_id, deadline_at),)


def describe(effect: Effect) -> str:
    """For people: what a dry run would have done."""
    match effect:
        case FindJobs():
            return f"look for Jobs labelled with {effect.evaluation_id}"
        case StopJob():
            how = "at once" if effect.mode == "force" else f"after {effect.grace_period_seconds} s of grace"
            return f"delete Job {effect.job.namespace}/{effect.job.name} (uid {effect.job.uid}), escalate {how}"
        case StopTask():
            return f"cancel task {effect.task.task_id} at agent {effect.task.agent}"
        case StopTurn():
            return f"cancel turn {effect.turn_id} in zone {effect.zone}"
        case RemovePartial():
            return f"remove partial data of {effect.evaluation_id}"
