"""The decider for workflows: an evaluation, or the creation of a custom harness (contract, sections 2 to 4)."""

from schemas.audit import Context
from schemas.commands import (
    Command,
    CustomHarnessCancel,
    EvaluationCancel,
    ReportedJob,
    WorkflowResume,
    WorkflowUpdate,
)
from schemas.documents import HarnessMetadata, Job, ReportedOutcome, Task, Teardown, WorkflowState
from schemas.events import (
    DetailChanged,
    JobRecorded,
    Opened,
    StatusChanged,
    Superseded,
    TaskRecorded,
)
from schemas.status import TERMINAL, Status
from schemas.verdicts import FieldError, VerdictAggregate
from worker.domain.admission import admit, forget, opened, permitted, recall, settle
from worker.domain.decision import Decision, Draft, Refused, refuse, verdict_on
from worker.domain.effects import targets
from worker.domain.evolve import evolve
from worker.domain.lifecycle import REPORTED, WORKFLOW, Cell, Trigger

PERMISSIONS = {
    "evaluation.cancel": "agent:write",
    "custom_harness.cancel": "agent:write",
    "workflow.update": "workflow:report",
    "workflow.resume": "workflow:resume",
}


def decide(state: WorkflowState | None, command: Command, context: Context) -> Decision:
    """One command on a workflow; `state` None: there is no such document."""
    if known := recall(state, command):
        return known
    if refused := permitted(command, PERMISSIONS[command.type], context.now):
        return refused
    if state is None or not _visible(state, command):
        return _absent(state, command, context)
    if refused := admit(state, command, context, version=state.version):
        return refused
    draft = Draft(state, evolve)
    operation = command.operation
    match operation:
        case EvaluationCancel() | CustomHarnessCancel():
            refused = _cancel(draft, command, operation, context)
        case WorkflowUpdate():
            refused = _report(draft, command, operation, context)
        case WorkflowResume():
            refused = _resume(draft, command, context)
        case _:
            raise TypeError(f"not about a workflow: {command.type}")
    if refused:
        return refused
    forget(draft, context)
    return draft.decision()


def about(state: WorkflowState, before: str) -> VerdictAggregate:
    """What a verdict says of the workflow."""
    if state.purpose == "custom_harness":
        kind, identity = "custom-harness", str(state.harness_id)
    else:
        kind, identity = "evaluation", state.workflow_id
    return VerdictAggregate(
        type=kind, id=identity, version=state.version, status_before=before, status_after=state.status.value
    )


def _visible(state: WorkflowState, command: Command) -> bool:
    operation = command.operation
    purpose = "evaluation" if command.aggregate.type == "evaluation" else "custom_harness"
    if state.purpose != purpose or (purpose == "custom_harness" and state.harness_id != command.aggregate.id):
        return False
    if isinstance(operation, WorkflowResume):
        return True
    if isinstance(operation, CustomHarnessCancel) and operation.team_id != state.team_id:
        return False
    return state.team_id in command.caller.team_ids


def _absent(state: WorkflowState | None, command: Command, context: Context) -> Refused:
    """Unknown or another's: 404; but a harness of the caller's without a workflow yet is 400."""
    for read in context.documents:
        if state is None and read.content is not None and read.key.endswith("/metadata.json"):
            harness = HarnessMetadata.model_validate_json(read.content)
            asked = getattr(command.operation, "team_id", harness.team_id)
            mine = harness.team_id in command.caller.team_ids and asked == harness.team_id
            if mine and harness.workflow_id is None:
                return refuse(command, "no_workflow", context.now, fences=True)
    return refuse(command, "not_found", context.now)


def _asked_before(state: WorkflowState, context: Context) -> Teardown:
    """A report or a resume asks for nothing of its own: it goes on as was asked before, or as by default."""
    default = Teardown(
        mode="graceful", grace_period_seconds=30, cleanup=state.purpose == "evaluation", begun_at=context.now
    )
    return state.teardown.model_copy(update={"begun_at": context.now}) if state.teardown else default


def _default_deadline(state: WorkflowState, context: Context) -> int:
    limits = context.settings
    return limits.deadline_seconds_evaluation if state.purpose == "evaluation" else limits.deadline_seconds_agent


def _open(draft: Draft[WorkflowState], command: Command, context: Context, before: str, asked: Teardown) -> None:
    """Record the intent; the running teardown becomes as strong as the strongest that was asked for."""
    now = draft.state.teardown if draft.state.open or draft.state.status == Status.CANCELLING else None
    if now:
        asked = Teardown(
            begun_at=now.begun_at,
            mode="force" if "force" in (now.mode, asked.mode) else "graceful",
            grace_period_seconds=min(now.grace_period_seconds, asked.grace_period_seconds),
            cleanup=now.cleanup or asked.cleanup,
        )
    entry = opened(command, before, _default_deadline(draft.state, context), context)
    draft.emit(Opened(command=entry, teardown=asked))


def move(
    draft: Draft[WorkflowState], trigger: Trigger, context: Context, error_message: str | None = None
) -> Cell | None:
    """Follow the table's arrow; -> None if there is one, else the table's word."""
    before = draft.state.status
    cell = WORKFLOW[before][trigger]
    if isinstance(cell, Cell):
        return cell
    draft.emit(StatusChanged(before=before, after=cell, at=context.now, error_message=error_message))
    return None


def _cancel(
    draft: Draft[WorkflowState],
    command: Command,
    options: EvaluationCancel | CustomHarnessCancel,
    context: Context,
) -> Refused | None:
    before = draft.state.status.value
    nothing_runs = draft.state.purpose == "custom_harness" and not targets(draft.state)
    trigger = Trigger.CANCEL_WITHOUT_TASK if nothing_runs and not draft.state.open else Trigger.CANCEL
    if move(draft, trigger, context) == Cell.ILLEGAL:
        aggregate = about(draft.state, before)
        return refuse(command, "already_terminal", context.now, message=f"it is {before} already", aggregate=aggregate)
    if draft.state.status == Status.CANCELLED:
        draft.remember(command, verdict_on(command, "cancelled", context.now, aggregate=about(draft.state, before)))
        return None
    grace = min(options.grace_period_seconds, context.settings.grace_period_seconds_max)
    asked = Teardown(mode=options.mode, grace_period_seconds=grace, cleanup=options.cleanup, begun_at=context.now)
    _open(draft, command, context, before, asked)
    return None


def _report(draft: Draft[WorkflowState], command: Command, report: WorkflowUpdate, context: Context) -> Refused | None:
    before = draft.state.status.value
    if report.job and (refused := _unattributable(draft.state, command, report.job, context)):
        return refused
    if report.task and draft.state.purpose == "evaluation":
        error = FieldError(loc=("task",), msg="an evaluation has Jobs, not tasks", type="not_applicable")
        return refuse(command, "invalid_command", context.now, errors=(error,))
    recorded = _record(draft, report, context)
    if recorded and draft.state.status in (Status.CANCELLING, Status.CANCELLED):
        _note_outcome(draft, report)
        _open(draft, command, context, before, _asked_before(draft.state, context))
        return None
    cell = _follow(draft, report, context)
    if draft.state.status == Status.CANCELLING and before != Status.CANCELLING.value:
        _open(draft, command, context, before, _asked_before(draft.state, context))
        return None
    if cell == Cell.ILLEGAL and not recorded:
        message = f"from {before} to {report.status.value if report.status else 'a new detail'} there is no way"
        return refuse(command, "illegal_transition", context.now, message=message, aggregate=about(draft.state, before))
    code = "superseded" if cell == Cell.SUPERSEDED and not recorded else "updated" if draft.events else "unchanged"
    draft.remember(command, verdict_on(command, code, context.now, aggregate=about(draft.state, before)))
    return None


def _unattributable(state: WorkflowState, command: Command, job: ReportedJob, context: Context) -> Refused | None:
    """One bad report must not delete somebody's Job."""
    settings = context.settings
    if state.purpose != "evaluation" or job.labels.get(settings.job_label) != state.workflow_id:
        message = f"the Job must carry the label {settings.job_label} with the evaluation's id"
    elif job.namespace not in settings.namespaces:
        message = f"namespace {job.namespace} is not one of those allowed by the settings"
    else:
        return None
    error = FieldError(loc=("job",), msg=message, type="not_attributable")
    return refuse(command, "job_not_attributable", context.now, message=message, errors=(error,), fences=True)


def job_recorded(job: ReportedJob, context: Context) -> JobRecorded:
    """A Job becomes known now."""
    known = Job(namespace=job.namespace, name=job.name, uid=job.uid, owner=job.owner, recorded_at=context.now)
    return JobRecorded(job=known)


def _record(draft: Draft[WorkflowState], report: WorkflowUpdate, context: Context) -> bool:
    """Record a Job or task that was not known; -> whether there was one."""
    recorded = False
    job, task = report.job, report.task
    if job and all(known.uid != job.uid for known in draft.state.jobs):
        draft.emit(job_recorded(job, context))
        recorded = True
    if task and all(known.task_id != task.task_id for known in draft.state.tasks):
        draft.emit(TaskRecorded(task=Task(agent=task.agent, task_id=task.task_id, session_id=task.session_id)))
        recorded = True
    return recorded


def _note_outcome(draft: Draft[WorkflowState], report: WorkflowUpdate) -> None:
    """Keep a reported outcome that does not win."""
    if report.status is not None and WORKFLOW[draft.state.status][REPORTED[report.status]] == Cell.SUPERSEDED:
        outcome = ReportedOutcome(status=report.status, phase=report.phase, error_message=report.error_message)
        if outcome != draft.state.reported_outcome:
            draft.emit(Superseded(outcome=outcome))


def _follow(draft: Draft[WorkflowState], report: WorkflowUpdate, context: Context) -> Cell | None:
    """The report's status through the table, then its details; -> None: moved."""
    state = draft.state
    if report.status is None:
        frozen = state.status == Status.CANCELLING or state.status in TERMINAL
        new = report.phase is not None or report.error_message is not None
        return Cell.ILLEGAL if frozen and new else _detail(draft, report)
    trigger = REPORTED[report.status]
    if report.status == Status.CANCELLED and targets(state) and WORKFLOW[state.status][trigger] == Status.CANCELLED:
        trigger = Trigger.CANCEL  # what is recorded could still run: its end must be seen
    cell = move(draft, trigger, context, report.error_message)
    if cell == Cell.SUPERSEDED:
        _note_outcome(draft, report)
    elif cell == Cell.SAME:
        return _detail(draft, report)
    elif cell is None and report.phase is not None and report.phase != state.phase:
        draft.emit(DetailChanged(phase=report.phase))
    return cell


def _detail(draft: Draft[WorkflowState], report: WorkflowUpdate) -> Cell | None:
    phase = report.phase if report.phase != draft.state.phase else None
    error = report.error_message if report.error_message != draft.state.error_message else None
    if phase is None and error is None:
        return Cell.SAME
    draft.emit(DetailChanged(phase=phase, error_message=error))
    return None


def _resume(draft: Draft[WorkflowState], command: Command, context: Context) -> Refused | None:
    """Join an unsettled teardown, or sweep again once it is due; otherwise there is nothing to do."""
    state, before = draft.state, draft.state.status.value
    due = {marker.why for marker in state.unsettled if marker.due_at <= context.now}
    late = state.status == Status.CANCELLED and (bool(targets(state)) or "unconfirmed" in due)
    asked = _asked_before(state, context)
    if state.status == Status.CANCELLING or late:
        _open(draft, command, context, before, asked)
    elif "sweep" in due and state.purpose == "evaluation":
        _open(draft, command, context, before, asked.model_copy(update={"cleanup": True}))
    else:
        settle(draft, context)
        draft.remember(command, verdict_on(command, "unchanged", context.now, aggregate=about(draft.state, before)))
    return None
