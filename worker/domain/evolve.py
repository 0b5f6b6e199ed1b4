"""`evolve(state, event) -> state`: the only way in which a state changes.  Pure, total over events.

What is the same for every aggregate stands in `_memory`; the rest is one function per aggregate.
"""

from typing import Any, cast

from schemas.documents import Job, OrgState, SessionState, Unconfirmed, WorkflowState
from schemas.events import (
    Cleaned,
    DetailChanged,
    Event,
    Failed,
    Forgotten,
    HarnessChanged,
    JobRecorded,
    Opened,
    Owed,
    Remembered,
    ResourceSeen,
    SessionStatusChanged,
    Settled,
    StatusChanged,
    Superseded,
    TaskRecorded,
    TurnReplaced,
)
from schemas.status import TERMINAL, Status
from worker.domain.decision import AnyState, S

UNCONFIRMED_MAX = 128


def evolve(state: S, event: Event) -> S:
    """The state after an event.  Raises TypeError for an event that the aggregate does not have."""
    fields = _memory(state, event)
    if fields is None:
        fields = _own(state, event)
    return cast(S, state.model_copy(update=fields))


def _memory(state: AnyState, event: Event) -> dict[str, Any] | None:
    match event:
        case Opened():
            fields: dict[str, Any] = {"open": (*state.open, event.command)}
            if isinstance(state, WorkflowState):
                fields |= {"teardown": event.teardown or state.teardown, "cleaned": False}
            return fields
        case Remembered():
            return {
                "open": tuple(o for o in state.open if o.id != event.entry.id),
                "answered": (*state.answered, event.entry),
                "unconfirmed": tuple(u for u in state.unconfirmed if u.id != event.entry.id),
            }
        case Failed():
            return {
                "open": tuple(o for o in state.open if o.id != event.entry.id),
                "failures": (*state.failures, event.entry),
                "unconfirmed": _unconfirmed(state, event),
            }
        case Forgotten():
            return {
                "answered": tuple(a for a in state.answered if a.id not in event.answered),
                "failures": tuple(f for f in state.failures if f.at not in event.failures),
                "horizon": event.horizon,
            }
        case Owed():
            return {"unsettled": (*state.unsettled, event.marker)}
        case Settled():
            return {"unsettled": tuple(m for m in state.unsettled if m.audit_seq not in event.audit_seqs)}
        case _:
            return None


def _unconfirmed(state: AnyState, event: Failed) -> tuple[Unconfirmed, ...]:
    command = event.verdict.command
    if event.verdict.outcome != "failed" or command.fingerprint is None:
        return state.unconfirmed
    others = tuple(entry for entry in state.unconfirmed if entry.id != command.id)
    entry = Unconfirmed(id=event.entry.id, fingerprint=command.fingerprint)
    return (*others, entry)[-UNCONFIRMED_MAX:]


def _own(state: AnyState, event: Event) -> dict[str, Any]:
    match state:
        case WorkflowState():
            return _workflow(state, event)
        case SessionState():
            return _session(state, event)
        case OrgState():
            return _org(state, event)


def _workflow(state: WorkflowState, event: Event) -> dict[str, Any]:
    match event:
        case StatusChanged():
            fields: dict[str, Any] = {"status": event.after, "version": state.version + 1}
            if event.error_message is not None:
                fields["error_message"] = event.error_message
            if state.started_at is None and event.after in (Status.STARTING, Status.RUNNING):
                fields["started_at"] = event.at
            if event.after in TERMINAL:
                fields |= {"completed_at": event.at, "unconfirmed": ()}
            return fields
        case DetailChanged():
            fields = {"version": state.version + 1}
            fields |= {"phase": event.phase} if event.phase is not None else {}
            return fields | ({"error_message": event.error_message} if event.error_message is not None else {})
        case JobRecorded():
            return {"jobs": (*state.jobs, event.job)}
        case TaskRecorded():
            return {"earlier_tasks": state.tasks, "workflow_specific_fields": event.task}
        case Superseded():
            return {"reported_outcome": event.outcome}
        case ResourceSeen():
            return _seen(state, event)
        case Cleaned():
            warnings = (*state.warnings, event.warning)[-10:] if event.warning else state.warnings
            removed = state.objects_removed + event.objects
            return {"cleaned": event.warning is None, "objects_removed": removed, "warnings": warnings}
        case _:
            raise TypeError(f"a workflow has no event {event.kind}")


def _seen(state: WorkflowState, event: ResourceSeen) -> dict[str, Any]:
    resource = event.resource
    if resource.kind == "job":
        jobs: tuple[Job, ...] = tuple(
            job.model_copy(update={"gone": resource}) if job.uid == resource.identity else job for job in state.jobs
        )
        return {"jobs": jobs}

    def mark(task: Any) -> Any:
        return task.model_copy(update={"gone": resource}) if task and task.task_id == resource.identity else task

    return {
        "workflow_specific_fields": mark(state.workflow_specific_fields),
        "earlier_tasks": tuple(mark(task) for task in state.earlier_tasks),
    }


def _session(state: SessionState, event: Event) -> dict[str, Any]:
    match event:
        case TurnReplaced():
            ended = {"unconfirmed": ()} if event.turn.status in TERMINAL else {}
            return {"turn": event.turn, "version": state.version + 1, **ended}
        case SessionStatusChanged():
            return {"status": event.after, "version": state.version + 1}
        case Superseded() if state.turn is not None:
            return {"turn": state.turn.model_copy(update={"reported_outcome": event.outcome})}
        case ResourceSeen() if state.turn is not None:
            return {"turn": state.turn.model_copy(update={"gone": event.resource})}
        case _:
            raise TypeError(f"a session has no event {event.kind}")


def _org(state: OrgState, event: Event) -> dict[str, Any]:
    match event:
        case HarnessChanged():
            return {"harnesses": state.harnesses | {event.harness_id: event.entry}, "version": state.version + 1}
        case _:
            raise TypeError(f"an org has no event {event.kind}")
