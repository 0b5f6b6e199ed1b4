"""The whole product of status and trigger: what the deciders do is what the tables say, arrow by arrow (must 1)."""

from typing import Any

import pytest

from schemas.commands import Command
from schemas.documents import SessionState, WorkflowState
from schemas.observations import Finished, JobsFound, Observed, PartialRemoved, Stopped
from schemas.status import HarnessStatus, SessionStatus, Status
from tests.unit.given import NOW, TASK, command, context, creation, evaluation, seen, session
from worker.domain.decide import decide
from worker.domain.decision import AnyState, Decision, Written
from worker.domain.lifecycle import HARNESS, REPORTED, SESSION, TURN, WORKFLOW, Cell, Table, Trigger

Given = Command | Observed
CELLS = [(status, trigger) for status in Status for trigger in Trigger]
IDS = [f"{status.value}, {trigger.value}" for status, trigger in CELLS]
OUTCOMES: dict[Trigger, Any] = {Trigger.PROVED_SUCCEEDED: "succeeded", Trigger.PROVED_FAILED: "failed"}
WORDS = {trigger: status.value for status, trigger in REPORTED.items()}


def observed(*items: Any) -> Observed:
    return Observed(at=NOW, items=items)


def state_after(before: AnyState, decision: Decision) -> Any:
    return decision.state if isinstance(decision, Written) else before


def expected(table: Table, status: Status, trigger: Trigger) -> Status:
    """Where the table leads: along its arrow, or nowhere."""
    cell = table[status][trigger]
    return status if isinstance(cell, Cell) else cell


def workflow_case(status: Status, trigger: Trigger) -> tuple[WorkflowState, Given]:
    """A workflow in this status, and what pulls this trigger; one that is cancelling got there by a cancel."""
    task = trigger in OUTCOMES
    state = creation(status, TASK if task else None) if task or "without" in trigger else evaluation(status)
    cancel = command("custom_harness.cancel" if state.purpose == "custom_harness" else "evaluation.cancel", "c0")
    if status == Status.CANCELLING:
        before = state.model_copy(update={"status": Status.RUNNING})
        reached = state_after(before, decide(before, cancel, context()))
        state = reached if reached.status == Status.CANCELLING else state
    match trigger:
        case Trigger.CANCEL | Trigger.CANCEL_WITHOUT_TASK:
            return state, cancel.model_copy(update={"id": "c1"})
        case Trigger.STOPPED:
            return state, observed(JobsFound(), PartialRemoved())
        case Trigger.PROVED_SUCCEEDED | Trigger.PROVED_FAILED:
            return state, observed(Finished(resource=seen("task", TASK.task_id), outcome=OUTCOMES[trigger]))
        case _:
            return state, command("workflow.update", "r1", 1, status=WORDS[trigger])


@pytest.mark.parametrize(("status", "trigger"), CELLS, ids=IDS)
def test_a_workflow_follows_its_table(status: Status, trigger: Trigger) -> None:
    state, given = workflow_case(status, trigger)
    assert state.status == status
    assert state_after(state, decide(state, given, context(60))).status == expected(WORKFLOW, status, trigger)


def turn_case(status: Status, trigger: Trigger) -> tuple[SessionState, Given]:
    """A session whose last turn is in this status, and what pulls this trigger."""
    state = session(status)
    if status == Status.CANCELLING:
        state = state_after(state, decide(session("running"), command("session.cancel", "c0"), context()))
    match trigger:
        case Trigger.CANCEL | Trigger.CANCEL_WITHOUT_TASK:
            return state, command("session.cancel", "c1", 1)
        case Trigger.STOPPED:
            return state, observed(Stopped(resource=seen("turn", "turn-1")))
        case Trigger.PROVED_SUCCEEDED | Trigger.PROVED_FAILED:
            return state, observed(Finished(resource=seen("turn", "turn-1"), outcome=OUTCOMES[trigger]))
        case _:
            named = command("turn.update", "r1", 1, turn_id="turn-1", turn_number=1, status=WORDS[trigger])
            return state, named


@pytest.mark.parametrize(("status", "trigger"), CELLS, ids=IDS)
def test_a_turn_follows_its_table(status: Status, trigger: Trigger) -> None:
    if trigger == Trigger.CANCEL_WITHOUT_TASK:
        assert TURN[status][trigger] == Cell.ILLEGAL  # a turn is its own task
        return
    state, given = turn_case(status, trigger)
    after = state_after(state, decide(state, given, context(60)))
    assert (after.turn.turn_id, after.turn.status) == ("turn-1", expected(TURN, status, trigger))


def test_evidence_about_another_turn_ends_nothing() -> None:
    """An effect of the turn before, heard late (must 2)."""
    state = decide(session("running", 2), command("session.cancel"), context())
    assert isinstance(state, Written)
    for item in (
        Stopped(resource=seen("turn", "turn-1")),
        Finished(resource=seen("turn", "turn-1"), outcome="failed"),
    ):
        assert state_after(state.state, decide(state.state, observed(item), context())) == state.state


@pytest.mark.parametrize("before", SessionStatus)
@pytest.mark.parametrize("reported", SessionStatus)
def test_a_session_follows_its_table(before: SessionStatus, reported: SessionStatus) -> None:
    state = session(status=before)
    decision = decide(state, command("session.update", status=reported.value), context())
    cell = SESSION[before][reported]
    assert state_after(state, decision).status == (before if isinstance(cell, Cell) else cell)
    assert SESSION[before].keys() == set(SessionStatus)


def test_a_harness_goes_one_way() -> None:
    order = list(HarnessStatus)
    assert set(HARNESS) == set(HarnessStatus)
    for before, afters in HARNESS.items():
        assert all(order.index(after) == order.index(before) + 1 for after in afters)
