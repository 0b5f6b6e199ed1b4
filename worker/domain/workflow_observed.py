"""The workflow decider's other half: decisions on what effects reported (contract, sections 3 and 4)."""

from datetime import timedelta

from schemas.audit import Context
from schemas.documents import Job, OpenCommand, Task, Unsettled, WorkflowState
from schemas.events import Cleaned, Owed, ResourceSeen
from schemas.observations import (
    Finished,
    Forbidden,
    JobsFound,
    Observed,
    PartialRemoved,
    Pending,
    Stopped,
)
from schemas.receipts import Receipt, ResourceReceipt, weakest
from schemas.status import Status
from worker.domain.admission import forget, settle
from worker.domain.decision import Decision, Draft, Nothing, verdict_on
from worker.domain.effects import gone, settles_outcome, targets, wants_cleanup
from worker.domain.evolve import evolve
from worker.domain.lifecycle import PROVED, Trigger
from worker.domain.workflow import about, job_recorded, move


def observe(state: WorkflowState, observed: Observed, context: Context) -> Decision:
    """Record the evidence, then answer whoever can be answered: settled, forbidden, finished before, or too late."""
    if not state.open:
        return Nothing()
    draft = Draft(state, evolve)
    known = {("job", job.uid): job.gone for job in state.jobs} | {("task", t.task_id): t.gone for t in state.tasks}
    for item in observed.items:
        match item:
            case JobsFound():
                _found(draft, item, context)
            case Stopped() | Finished() | Pending() | Forbidden():
                _seen(draft, known, item.resource)
            case PartialRemoved():
                draft.emit(Cleaned(objects=item.objects, warning=item.warning))
    proofs = (item for item in observed.items if isinstance(item, Finished))
    finished = next((item for item in proofs if settles_outcome(draft.state, item)), None)
    forbidden = next((item for item in observed.items if isinstance(item, Forbidden)), None)
    if finished and draft.state.status == Status.CANCELLING:
        _adopt_outcome(draft, finished, context)
    settled = _is_settled(draft.state, observed)
    if _may_write_on(draft.state, observed) and not settled:
        _owe(draft, "sweep", context)
    if settled:
        _settle(draft, observed, context)
    elif forbidden:
        code = "forbidden_by_cluster" if forbidden.resource.kind == "job" else "agent_refused"
        _fail(draft, draft.state.open, code, forbidden.message, context)
    else:
        late = tuple(command for command in draft.state.open if command.deadline_at <= observed.at)
        ended = "all that is known was seen gone; looking for more, or the clean-up, did not end in time"
        _fail(draft, late, "unconfirmed", None if targets(draft.state) else ended, context)
    if draft.events:
        forget(draft, context)
    return draft.decision()


def receipt_of(state: WorkflowState) -> Receipt:
    """The evidence so far; what was never looked at is unconfirmed."""
    resources = (*(_job_receipt(job) for job in state.jobs), *(_task_receipt(task) for task in state.tasks))
    return Receipt(
        evidence=weakest(tuple(resource.evidence for resource in resources)),
        resources=resources,
        objects_removed=state.objects_removed,
        warnings=state.warnings,
    )


def _job_receipt(job: Job) -> ResourceReceipt:
    name = f"{job.namespace}/{job.name}"
    return job.gone or ResourceReceipt(kind="job", name=name, identity=job.uid, evidence="unconfirmed")


def _task_receipt(task: Task) -> ResourceReceipt:
    return task.gone or ResourceReceipt(kind="task", name=task.agent, identity=task.task_id, evidence="unconfirmed")


def _found(draft: Draft[WorkflowState], found: JobsFound, context: Context) -> None:
    for job in found.jobs:
        if all(known.uid != job.uid for known in draft.state.jobs):
            draft.emit(job_recorded(job, context))


Known = dict[tuple[str, str], ResourceReceipt | None]


def _seen(draft: Draft[WorkflowState], known: Known, resource: ResourceReceipt) -> None:
    """Record what became of a resource that is recorded and was not seen gone."""
    identity = (resource.kind, resource.identity)
    if identity in known and not gone(known[identity]) and known[identity] != resource:
        known[identity] = resource
        draft.emit(ResourceSeen(resource=resource))


def _adopt_outcome(draft: Draft[WorkflowState], finished: Finished, context: Context) -> None:
    """The remote side proves that it had finished before the cancel: that outcome stands."""
    reported = draft.state.reported_outcome
    same = reported if reported and reported.status.value == finished.outcome else None
    message = same.error_message if same else finished.resource.detail or None
    move(draft, PROVED[finished.outcome], context, message if finished.outcome == "failed" else None)


def _is_settled(state: WorkflowState, observed: Observed) -> bool:
    if targets(state):
        return False
    if state.purpose == "custom_harness":
        return True
    if not any(isinstance(item, JobsFound) and not item.jobs for item in observed.items):
        return False
    return not wants_cleanup(state) or any(isinstance(item, PartialRemoved) for item in observed.items)


def _settle(draft: Draft[WorkflowState], observed: Observed, context: Context) -> None:
    """Everything recorded was seen gone: one step ends the teardown and answers every open command."""
    move(draft, Trigger.STOPPED, context)
    sweeps = _may_write_on(draft.state, observed)
    settle(draft, context, sweeps=sweeps)
    if sweeps:
        _owe(draft, "sweep", context)
    receipt = receipt_of(draft.state)
    for command in draft.state.open:
        aggregate = about(draft.state, command.status_before)
        if command.type.endswith(".cancel"):
            code = "cancelled" if draft.state.status == Status.CANCELLED else "too_late"
        else:
            code = "resumed" if command.type.endswith(".resume") else "updated"
        verdict = verdict_on(command, code, context.now, aggregate=aggregate, receipt=receipt)
        if verdict.http_status < 300:
            draft.remember(command, verdict)
        else:
            draft.fail(command, verdict)


def _may_write_on(state: WorkflowState, observed: Observed) -> bool:
    """Whether pods were removed without proof just now: they may run on, and write what is to be removed again."""
    forced = any(isinstance(item, Stopped) and item.resource.evidence == "forced" for item in observed.items)
    return forced and state.teardown is not None and state.teardown.cleanup


def _fail(
    draft: Draft[WorkflowState],
    commands: tuple[OpenCommand, ...],
    code: str,
    message: str | None,
    context: Context,
) -> None:
    """Answer 5xx; the status stays `cancelling`, and a marker tells the reconciler."""
    if not commands:
        return
    _owe(draft, "unconfirmed", context)
    receipt = receipt_of(draft.state)
    for command in commands:
        aggregate = about(draft.state, command.status_before)
        draft.fail(
            command, verdict_on(command, code, context.now, message=message, aggregate=aggregate, receipt=receipt)
        )


def _owe(draft: Draft[WorkflowState], why: str, context: Context) -> None:
    if any(marker.why == why for marker in draft.state.unsettled):
        return
    delay = context.settings.sweep_delay_seconds if why == "sweep" else 0
    due_at = context.now + timedelta(seconds=delay)
    draft.emit(Owed(marker=Unsettled.model_validate({"audit_seq": context.audit_seq, "why": why, "due_at": due_at})))
