"""The pure core over any history: given any inputs in any order, each decision keeps its promises (musts 1, 2, 9)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.commands import Caller, Command
from schemas.documents import SessionState, WorkflowState
from schemas.events import StatusChanged
from schemas.observations import Finished, Forbidden, JobsFound, Observed, PartialRemoved, Pending, Stopped
from schemas.status import TERMINAL, Status
from tests.unit.given import JOB, LABELS, NOW, PERMISSIONS, TASK, command, context, creation, evaluation, seen, session
from worker.domain.decide import decide
from worker.domain.decision import AnyState, Refused, Written
from worker.domain.effects import FindJobs, StopJob, StopTask, effects
from worker.domain.evolve import evolve
from worker.domain.lifecycle import TURN, WORKFLOW

Given = Command | Observed
STATUSES = st.sampled_from(list(Status))
OTHER_JOB = {"namespace": "local", "name": JOB.name, "uid": "uid-2", "labels": LABELS}


def observed(*items: Any) -> Observed:
    return Observed(at=NOW, items=items)


@st.composite
def about_evaluations(draw: st.DrawFn) -> list[Given]:
    """Any inputs of an evaluation: commands with their own ids and offsets, observations in between."""
    inputs: list[Given] = []
    for offset in range(draw(st.integers(1, 8))):
        match draw(st.integers(0, 7)):
            case 0 | 1:
                inputs.append(command("evaluation.cancel", f"c{offset}", offset, mode="force"))
            case 2 | 3:
                status = draw(STATUSES).value
                inputs.append(command("workflow.update", f"c{offset}", offset, status=status, phase=f"p{offset}"))
            case 4:
                inputs.append(command("workflow.update", f"c{offset}", offset, job=OTHER_JOB))
            case 5:
                gone = [Stopped(resource=seen("job", uid)) for uid in ("uid-1", "uid-2")]
                inputs.append(observed(*gone, JobsFound(), PartialRemoved(objects=1)))
            case 6:
                inputs.append(observed(Pending(resource=seen("job", "uid-1", "unconfirmed"))))
            case _:
                inputs.append(observed(Forbidden(resource=seen("job", "uid-1", "unconfirmed"), message="no")))
    return inputs


@st.composite
def about_sessions(draw: st.DrawFn) -> list[Given]:
    """Any inputs of a session and its first two turns."""
    inputs: list[Given] = []
    for offset in range(draw(st.integers(1, 8))):
        number = draw(st.integers(1, 2))
        match draw(st.integers(0, 4)):
            case 0:
                inputs.append(command("session.cancel", f"c{offset}", offset))
            case 1 | 2:
                turn = f"turn-{number}"
                status = draw(STATUSES).value
                given = command("turn.update", f"c{offset}", offset, turn_id=turn, turn_number=number, status=status)
                inputs.append(given)
            case 3:
                inputs.append(observed(Stopped(resource=seen("turn", f"turn-{number}"))))
            case _:
                inputs.append(observed(Finished(resource=seen("turn", f"turn-{number}"), outcome="succeeded")))
    return inputs


def visible(state: AnyState) -> object:
    """What a user sees of it."""
    match state:
        case WorkflowState():
            return state.status, state.phase, state.error_message
        case SessionState(turn=turn):
            return state.status, turn and (turn.turn_id, turn.number, turn.status, turn.reason, turn.error_message)
        case _:
            return state


def history(state: AnyState, inputs: list[Given]) -> list[tuple[AnyState, Written]]:
    """What was written, each with the state before; every decision is asked for twice and is the same."""
    written: list[tuple[AnyState, Written]] = []
    for each in inputs:
        decision = decide(state, each, context(60))
        assert decision == decide(state, each, context(60))
        if isinstance(decision, Written):
            written.append((state, decision))
            state = decision.state
    return written


def test_workflows_change_status_by_arrows_of_the_table_only() -> None:
    @given(STATUSES, about_evaluations())
    @settings(max_examples=150, deadline=None, derandomize=True)
    def run(status: Status, inputs: list[Given]) -> None:
        for before, decision in history(evaluation(status, JOB), inputs):
            state: Any = before
            for event in decision.events:
                after = evolve(state, event)
                if after.status != state.status:
                    assert isinstance(event, StatusChanged)
                    assert (event.before, event.after) == (state.status, after.status)
                    assert after.status in WORKFLOW[state.status].values()
                state = after

    run()


def test_turns_change_status_by_arrows_of_the_table_only() -> None:
    @given(STATUSES, about_sessions())
    @settings(max_examples=150, deadline=None, derandomize=True)
    def run(status: Status, inputs: list[Given]) -> None:
        for before, decision in history(session(status), inputs):
            assert isinstance(before, SessionState)
            assert isinstance(decision.state, SessionState)
            old, new = before.turn, decision.state.turn
            assert old is not None
            assert new is not None
            if new.turn_id == old.turn_id and new.status != old.status:
                assert new.status in TURN[old.status].values()
            elif new.turn_id != old.turn_id:
                assert old.status in TERMINAL
                assert new.number > old.number

    run()


@pytest.mark.parametrize("kind", ["evaluation", "session"])
def test_what_is_written_is_what_the_events_fold_to_and_each_visible_change_raises_the_version(kind: str) -> None:
    inputs = about_evaluations() if kind == "evaluation" else about_sessions()

    @given(inputs)
    @settings(max_examples=150, deadline=None, derandomize=True)
    def run(inputs: list[Given]) -> None:
        start: AnyState = evaluation("running", JOB) if kind == "evaluation" else session("running")
        for before, decision in history(start, inputs):
            state: AnyState = before
            for event in decision.events:
                after = evolve(state, event)
                assert after.version == state.version + (visible(after) != visible(state))
                state = after
            assert state == decision.state

    run()


# ------------------------------------------------------------------------------------ effects


def test_an_effect_names_the_identity_that_was_recorded_and_nothing_else() -> None:
    """Two Jobs under one name, as a controller makes them: each has an effect of its own, by uid (must 2)."""
    reported = command("workflow.update", "r1", 1, job=OTHER_JOB)
    state = decide(evaluation("running", JOB), reported, context())
    assert isinstance(state, Written)
    state = decide(state.state, command("evaluation.cancel", "c1", 2), context())
    assert isinstance(state, Written)
    stops = [effect for effect in effects(state.state) if isinstance(effect, StopJob)]
    assert [(stop.job.name, stop.job.uid) for stop in stops] == [("job-1", "uid-1"), ("job-1", "uid-2")]
    one_gone = effects(state.state, [Stopped(resource=seen("job", "uid-1"))])
    assert [stop.job.uid for stop in one_gone if isinstance(stop, StopJob)] == ["uid-2"]


def test_what_the_label_led_to_is_recorded_before_it_is_touched() -> None:
    cancelling = decide(evaluation("running"), command("evaluation.cancel"), context())
    assert isinstance(cancelling, Written)
    assert [type(effect) for effect in effects(cancelling.state)] == [FindJobs]
    found = JobsFound.model_validate({"jobs": [OTHER_JOB]})
    assert effects(cancelling.state, [found]) == ()


def test_nothing_is_asked_for_before_an_intent_is_recorded() -> None:
    assert effects(evaluation("running", JOB)) == ()
    assert effects(creation("running", TASK)) == ()
    assert effects(session("running")) == ()
    opened = decide(creation("running", TASK), command("custom_harness.cancel"), context())
    assert isinstance(opened, Written)
    assert [type(effect) for effect in effects(opened.state)] == [StopTask]


# ------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("state", [evaluation("running", JOB), creation("cancelled"), session("running")])
@pytest.mark.parametrize("missing", ["permission", "ownership"])
def test_a_403_or_404_carries_nothing_of_the_aggregate(state: AnyState, missing: str) -> None:
    permissions = () if missing == "permission" else PERMISSIONS
    stranger = Caller(team_ids=("other",), permissions=permissions, org_id="other", tenant="other")
    types = {
        "session": "session.update",
        "evaluation": "evaluation.cancel",
        "custom_harness": "custom_harness.cancel",
    }
    op = types[state.purpose if isinstance(state, WorkflowState) else "session"]
    more: dict[str, Any] = {"status": "closed"} if op == "session.update" else {}
    asked = command(op, caller=stranger, **more)
    decision = decide(state, asked, context())
    assert isinstance(decision, Refused)
    verdict = decision.verdict
    assert verdict.http_status == (403 if missing == "permission" else 404)
    assert (verdict.aggregate, verdict.receipt, verdict.harness, verdict.would) == (None, None, None, ())
    absent = decide(None, asked, context())
    assert isinstance(absent, Refused)
    assert absent.verdict == verdict
