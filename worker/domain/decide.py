"""`decide(state, input, context) -> Decision`: the one entrance to the deciders.  Pure."""

from schemas.audit import Context
from schemas.commands import Command
from schemas.documents import OrgState, SessionState, WorkflowState
from schemas.events import Opened, Remembered
from schemas.observations import Observed
from worker.domain import org, session, workflow, workflow_observed
from worker.domain.decision import AnyState, Decision, Nothing, Refused, Written, verdict_on
from worker.domain.effects import describe, effects


def decide(state: AnyState | None, given: Command | Observed, context: Context) -> Decision:
    """Decide one input of one aggregate; a dry run gets the verdict that it would have had, and changes nothing."""
    if isinstance(given, Observed):
        return _observe(state, given, context)
    decision = _command(state, given, context)
    return _preview(decision, given, context) if given.dry_run else decision


def _command(state: AnyState | None, command: Command, context: Context) -> Decision:
    match command.aggregate.type:
        case "evaluation" | "custom-harness":
            assert state is None or isinstance(state, WorkflowState), "the key leads to a workflow"
            return workflow.decide(state, command, context)
        case "session":
            assert state is None or isinstance(state, SessionState), "the key leads to a session"
            return session.decide(state, command, context)
        case "org":
            assert state is None or isinstance(state, OrgState), "the key leads to an org"
            return org.decide(state, command, context)


def _observe(state: AnyState | None, observed: Observed, context: Context) -> Decision:
    match state:
        case WorkflowState():
            return workflow_observed.observe(state, observed, context)
        case SessionState():
            return session.observe(state, observed, context)
        case _:
            return Nothing()


def _preview(decision: Decision, command: Command, context: Context) -> Decision:
    if not isinstance(decision, Written):
        return decision
    for event in decision.events:
        if isinstance(event, Remembered) and event.entry.id == command.id:
            return Refused(event.verdict.model_copy(update={"harness": None}))
        if isinstance(event, Opened):
            would = tuple(describe(effect) for effect in effects(decision.state))
            code = "cancelled" if command.type.endswith(".cancel") else "updated"
            message = "a dry run: the intent would be recorded, and these effects would begin"
            return Refused(verdict_on(command, code, context.now, message=message, would=would))
    return decision
