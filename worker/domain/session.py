"""The decider for sessions: the last turn's cancel and the reports on it (contract, section 5)."""

from schemas.audit import Context
from schemas.commands import Command, SessionCancel, SessionResume, SessionUpdate, TurnUpdate
from schemas.documents import OpenCommand, ReportedOutcome, SessionState, Turn, Unsettled
from schemas.events import Opened, Owed, ResourceSeen, SessionStatusChanged, Superseded, TurnReplaced
from schemas.observations import Finished, Forbidden, Observed, Pending, Stopped
from schemas.receipts import Receipt, ResourceReceipt
from schemas.status import TERMINAL, SessionStatus, Status
from schemas.verdicts import VerdictAggregate
from worker.domain.admission import admit, forget, opened, permitted, recall, settle
from worker.domain.decision import Decision, Draft, Nothing, Refused, refuse, verdict_on
from worker.domain.effects import gone
from worker.domain.evolve import evolve
from worker.domain.lifecycle import PROVED, REPORTED, SESSION, TURN, Cell, Trigger

PERMISSIONS = {
    "session.cancel": "session:write",
    "session.update": "workflow:report",
    "turn.update": "workflow:report",
    "session.resume": "workflow:resume",
}
Sessions = Draft[SessionState]


def decide(state: SessionState | None, command: Command, context: Context) -> Decision:
    """One command on a session; `state` None: there is no such document."""
    if known := recall(state, command):
        return known
    if refused := permitted(command, PERMISSIONS[command.type], context.now):
        return refused
    operation = command.operation
    zone = command.aggregate.id.partition(".")[2]
    if isinstance(operation, SessionCancel) and zone not in context.settings.zones:
        message = f"zone {zone} is not configured"
        return refuse(command, "invalid_session_id", context.now, message=message, fences=True)
    resume = isinstance(operation, SessionResume)
    if state is None or (state.tenant != command.caller.tenant and not resume):
        return refuse(command, "session_unusable" if isinstance(operation, SessionCancel) else "not_found", context.now)
    if refused := admit(state, command, context, version=state.version):
        return refused
    draft = Draft(state, evolve)
    match operation:
        case SessionCancel():
            refused = _cancel(draft, command, operation, context)
        case TurnUpdate():
            refused = _turn_report(draft, command, operation, context)
        case SessionUpdate():
            refused = _session_report(draft, command, operation, context)
        case SessionResume():
            refused = _resume(draft, command, context)
        case _:
            raise TypeError(f"not about a session: {command.type}")
    if refused:
        return refused
    forget(draft, context)
    return draft.decision()


def _word(state: SessionState) -> str:
    return state.turn.status.value if state.turn else state.status.value


def _about(state: SessionState, before: str) -> VerdictAggregate:
    return VerdictAggregate(
        type="session", id=state.session_id, version=state.version, status_before=before, status_after=_word(state)
    )


def _answer(draft: Sessions, command: Command, code: str, before: str, context: Context) -> None:
    aggregate = _about(draft.state, before)
    draft.remember(command, verdict_on(command, code, context.now, aggregate=aggregate))


def _cancel(draft: Sessions, command: Command, cancel: SessionCancel, context: Context) -> Refused | None:
    before, turn = _word(draft.state), draft.state.turn
    if draft.state.status != SessionStatus.OPEN:
        return refuse(command, "session_unusable", context.now)
    if turn is None or turn.status in TERMINAL or cancel.turn_id not in (None, turn.turn_id):
        _answer(draft, command, "no_running_turn", before, context)
        return None
    _move(draft, Trigger.CANCEL, context)
    draft.emit(Opened(command=opened(command, before, context.settings.deadline_seconds_turn, context)))
    return None


def _move(draft: Sessions, trigger: Trigger, context: Context, **fields: object) -> Cell | None:
    """Follow the table's arrow for the last turn; -> None if there is one, else the table's word."""
    turn = draft.state.turn
    assert turn is not None, "only a turn moves"
    cell = TURN[turn.status][trigger]
    if isinstance(cell, Cell):
        return cell
    reason = {"reason": "client-cancelled"} if cell == Status.CANCELLED else {}
    after = turn.model_copy(update={"status": cell, **reason, **fields})
    draft.emit(TurnReplaced(turn=after, at=context.now))
    return None


def _turn_report(draft: Sessions, command: Command, report: TurnUpdate, context: Context) -> Refused | None:
    before, turn = _word(draft.state), draft.state.turn
    if turn is None or report.turn_number > turn.number:
        if turn is not None and turn.status not in TERMINAL:
            message = f"turn {turn.number} is still {turn.status.value}"
            return refuse(command, "turn_still_running", context.now, message=message)
        status = Status.RUNNING if report.status == Status.CANCELLING else report.status
        new = Turn(turn_id=report.turn_id, number=report.turn_number, status=status, error_message=report.error_message)
        draft.emit(TurnReplaced(turn=new, at=context.now))
        _answer(draft, command, "updated", before, context)
        return None
    if report.turn_number < turn.number:
        _answer(draft, command, "superseded", before, context)
        return None
    if report.turn_id != turn.turn_id:
        message = f"turn {turn.number} has another id"
        return refuse(
            command, "illegal_transition", context.now, message=message, aggregate=_about(draft.state, before)
        )
    error = {"error_message": report.error_message} if report.error_message else {}
    cell = _move(draft, REPORTED[report.status], context, **error)
    if cell == Cell.ILLEGAL:
        message = f"from {before} to {report.status.value} there is no way"
        return refuse(
            command, "illegal_transition", context.now, message=message, aggregate=_about(draft.state, before)
        )
    if cell == Cell.SUPERSEDED:
        _note_outcome(draft, turn, report)
    elif draft.state.open and report.status == Status.CANCELLED:
        _settle(draft, _reported_stop(draft.state, turn, context), "cancelled", context)
    code = "superseded" if cell == Cell.SUPERSEDED else "unchanged" if cell == Cell.SAME else "updated"
    _answer(draft, command, code, before, context)
    return None


def _note_outcome(draft: Sessions, turn: Turn, report: TurnUpdate) -> None:
    outcome = ReportedOutcome(status=report.status, error_message=report.error_message)
    if outcome != turn.reported_outcome:
        draft.emit(Superseded(outcome=outcome))


def _reported_stop(state: SessionState, turn: Turn, context: Context) -> ResourceReceipt:
    zone = state.session_id.partition(".")[2]
    detail = "its executor reported it cancelled"
    return ResourceReceipt(
        kind="turn", name=zone, identity=turn.turn_id, evidence="stopped", detail=detail, gone_at=context.now
    )


def _session_report(draft: Sessions, command: Command, report: SessionUpdate, context: Context) -> Refused | None:
    before = draft.state.status
    cell = SESSION[before][report.status]
    if cell == Cell.ILLEGAL:
        message = f"from {before.value} to {report.status.value} there is no way"
        aggregate = _about(draft.state, _word(draft.state))
        return refuse(command, "illegal_transition", context.now, message=message, aggregate=aggregate)
    if isinstance(cell, SessionStatus):
        draft.emit(SessionStatusChanged(before=before, after=cell, at=context.now))
    aggregate = _about(draft.state, before.value).model_copy(update={"status_after": draft.state.status.value})
    code = "unchanged" if cell == Cell.SAME else "updated"
    draft.remember(command, verdict_on(command, code, context.now, aggregate=aggregate))
    return None


def _resume(draft: Sessions, command: Command, context: Context) -> Refused | None:
    before, turn = _word(draft.state), draft.state.turn
    if turn is not None and turn.status == Status.CANCELLING:
        draft.emit(Opened(command=opened(command, before, context.settings.deadline_seconds_turn, context)))
        return None
    settle(draft, context)
    _answer(draft, command, "unchanged", before, context)
    return None


def observe(state: SessionState, observed: Observed, context: Context) -> Decision:
    """Decide on what the effect reported about the last turn."""
    if not state.open or state.turn is None:
        return Nothing()
    draft = Draft(state, evolve)
    for item in observed.items:
        match item:
            case Stopped() | Finished() if item.resource.identity == state.turn.turn_id:
                _ended(draft, item, context)
            case Pending() | Forbidden() if item.resource.identity == state.turn.turn_id and not gone(state.turn.gone):
                if item.resource != state.turn.gone:
                    draft.emit(ResourceSeen(resource=item.resource))
            case _:
                pass
    forbidden = next((item for item in observed.items if isinstance(item, Forbidden)), None)
    if draft.state.open and forbidden:
        _fail(draft, draft.state.open, "executor_refused", forbidden.message, context)
    late = tuple(command for command in draft.state.open if command.deadline_at <= observed.at)
    _fail(draft, late, "executor_timeout", None, context)
    if draft.events:
        forget(draft, context)
    return draft.decision()


def _ended(draft: Sessions, item: Stopped | Finished, context: Context) -> None:
    """Stopped by us, or finished before: in both cases every open command is answered."""
    turn = draft.state.turn
    assert turn is not None, "the caller compared its id"
    if isinstance(item, Stopped):
        _move(draft, Trigger.STOPPED, context)
        _settle(draft, item.resource, "cancelled", context)
        return
    reported = turn.reported_outcome
    error = reported.error_message if reported and reported.status.value == item.outcome else None
    _move(draft, PROVED[item.outcome], context, **({"error_message": error} if error else {}))
    _settle(draft, item.resource, "turn_already_finished", context)


def _settle(draft: Sessions, resource: ResourceReceipt, code: str, context: Context) -> None:
    draft.emit(ResourceSeen(resource=resource))
    settle(draft, context)
    receipt = Receipt(evidence=resource.evidence, resources=(resource,))
    for command in draft.state.open:
        own = code if command.type.endswith(".cancel") else "resumed"
        aggregate = _about(draft.state, command.status_before)
        draft.remember(command, verdict_on(command, own, context.now, aggregate=aggregate, receipt=receipt))


def _fail(draft: Sessions, commands: tuple[OpenCommand, ...], code: str, message: str | None, context: Context) -> None:
    if not commands:
        return
    if not draft.state.unsettled:
        draft.emit(Owed(marker=Unsettled(audit_seq=context.audit_seq, why="unconfirmed", due_at=context.now)))
    turn = draft.state.turn
    resources = (turn.gone,) if turn and turn.gone else ()
    receipt = Receipt(evidence="unconfirmed", resources=resources)
    for command in commands:
        aggregate = _about(draft.state, command.status_before)
        draft.fail(
            command, verdict_on(command, code, context.now, message=message, aggregate=aggregate, receipt=receipt)
        )
