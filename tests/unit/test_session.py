"""The session decider: the last turn's cancel, and the reports on it."""

from datetime import timedelta
from itertools import permutations

import pytest

from schemas.commands import Caller, Command
from schemas.documents import SessionState
from schemas.events import Failed, Remembered, TurnReplaced
from schemas.observations import Finished, Forbidden, Observed, Pending, Stopped
from schemas.status import TERMINAL, Status
from schemas.verdicts import Verdict
from tests.unit.given import NOW, SETTINGS, command, context, seen, session
from worker.domain.decide import decide
from worker.domain.decision import Decision, Refused, Written
from worker.domain.effects import StopTurn, effects


def after(decision: Decision) -> SessionState:
    assert isinstance(decision, Written), decision
    assert isinstance(decision.state, SessionState)
    return decision.state


def verdicts(decision: Decision) -> list[Verdict]:
    if isinstance(decision, Refused):
        return [decision.verdict]
    assert isinstance(decision, Written), decision
    return [event.verdict for event in decision.events if isinstance(event, Remembered | Failed)]


def code(decision: Decision) -> str:
    [verdict] = verdicts(decision)
    return verdict.code


def turn(state: SessionState) -> Status:
    assert state.turn is not None
    return state.turn.status


def cancelling(offset: int = 0) -> SessionState:
    return after(decide(session(), command("session.cancel", offset=offset), context()))


def report(status: str, number: int = 1, offset: int = 5, turn_id: str | None = None) -> Command:
    name = turn_id or f"turn-{number}"
    return command("turn.update", id=f"t{offset}", offset=offset, turn_id=name, turn_number=number, status=status)


STOPPED = Observed(at=NOW, items=(Stopped(resource=seen("turn", "turn-1")),))


class TestCancel:
    def test_names_the_turn_and_is_cancelled_once_the_executor_confirms(self) -> None:
        state = cancelling()
        [effect] = effects(state)
        assert isinstance(effect, StopTurn)
        assert (effect.zone, effect.turn_id) == ("g", "turn-1")
        decision = decide(state, STOPPED, context())
        assert (code(decision), turn(after(decision))) == ("cancelled", Status.CANCELLED)
        ended = after(decision).turn
        assert ended is not None
        assert ended.reason == "client-cancelled"

    @pytest.mark.parametrize("status", [None, "cancelled", "succeeded", "failed"])
    def test_without_a_running_turn_it_is_unchanged(self, status: str | None) -> None:
        [verdict] = verdicts(decide(session(status), command("session.cancel"), context()))
        assert (verdict.code, verdict.http_status, verdict.outcome) == ("no_running_turn", 200, "unchanged")

    def test_aimed_at_an_earlier_turn_it_leaves_the_running_one_alone(self) -> None:
        decision = decide(session("running", number=2), command("session.cancel", turn_id="turn-1"), context())
        assert (code(decision), turn(after(decision)), effects(after(decision))) == (
            "no_running_turn",
            Status.RUNNING,
            (),
        )

    @pytest.mark.parametrize("status", ["closed", "expired", "deleted"])
    def test_an_unusable_session_is_412(self, status: str) -> None:
        [verdict] = verdicts(decide(session(status=status), command("session.cancel"), context()))
        assert (verdict.code, verdict.http_status) == ("session_unusable", 412)

    def test_unknown_and_another_tenants_are_412_alike(self) -> None:
        stranger = Caller(tenant="other", permissions=("session:write",))
        unknown = decide(None, command("session.cancel"), context())
        foreign = decide(session(), command("session.cancel", caller=stranger), context())
        assert code(unknown) == code(foreign) == "session_unusable"
        assert verdicts(foreign)[0].aggregate is None

    def test_a_zone_that_is_not_configured_is_400(self) -> None:
        settings = SETTINGS.model_copy(update={"zones": ("h",)})
        decision = decide(session(), command("session.cancel"), context(settings=settings))
        assert isinstance(decision, Refused)
        assert (decision.verdict.code, decision.fences) == ("invalid_session_id", True)

    def test_a_silent_executor_is_424_at_the_deadline_and_the_intent_stays(self) -> None:
        pending = Pending(resource=seen("turn", "turn-1", "unconfirmed"))
        decision = decide(cancelling(), Observed(at=NOW + timedelta(seconds=50), items=(pending,)), context(50))
        [verdict] = verdicts(decision)
        assert (verdict.http_status, turn(after(decision))) == (424, Status.CANCELLING)
        late = decide(after(decision), report("succeeded"), context(51))
        assert (code(late), turn(after(late))) == ("superseded", Status.CANCELLING)
        assert after(late).version == after(decision).version  # no change that a user can see
        again = decide(after(late), command("session.cancel", id="c2", offset=9), context(52))
        assert [type(effect) for effect in effects(after(again))] == [StopTurn]
        assert code(decide(after(again), STOPPED, context(53))) == "cancelled"

    def test_refused_credentials_are_502(self) -> None:
        item = Forbidden(resource=seen("turn", "turn-1", "unconfirmed"), message="401")
        [verdict] = verdicts(decide(cancelling(), Observed(at=NOW, items=(item,)), context()))
        assert (verdict.code, verdict.http_status) == ("executor_refused", 502)

    @pytest.mark.parametrize("outcome", ["succeeded", "failed"])
    def test_a_turn_that_had_finished_keeps_its_outcome(self, outcome: str) -> None:
        item = Finished.model_validate({"resource": seen("turn", "turn-1"), "outcome": outcome})
        decision = decide(cancelling(), Observed(at=NOW, items=(item,)), context())
        [verdict] = verdicts(decision)
        assert (verdict.code, verdict.outcome, verdict.http_status) == ("turn_already_finished", "unchanged", 200)
        assert turn(after(decision)).value == outcome

    def test_a_reported_cancelled_is_proof_and_answers_the_cancel(self) -> None:
        decision = decide(cancelling(), report("cancelled"), context())
        answers = {verdict.command.id: verdict.code for verdict in verdicts(decision)}
        assert (answers, turn(after(decision))) == ({"c1": "cancelled", "t5": "updated"}, Status.CANCELLED)


class TestReports:
    def test_a_higher_number_becomes_the_last_turn(self) -> None:
        state = after(decide(session("succeeded"), report("running", number=2), context()))
        assert state.turn is not None
        assert (state.turn.turn_id, state.turn.number, state.turn.status) == ("turn-2", 2, Status.RUNNING)

    @pytest.mark.parametrize("status", ["running", "cancelling"])
    def test_a_higher_number_while_the_last_one_runs_is_409(self, status: str) -> None:
        assert code(decide(session(status), report("running", number=2), context())) == "turn_still_running"

    def test_a_lower_number_never_brings_an_old_turn_back(self) -> None:
        decision = decide(session("running", number=2), report("running", number=1), context())
        assert (code(decision), turn(after(decision))) == ("superseded", Status.RUNNING)

    @pytest.mark.parametrize(
        ("before", "reported", "expected"),
        [
            ("running", "succeeded", "updated"),
            ("running", "running", "unchanged"),
            ("running", "starting", "illegal_transition"),
            ("cancelled", "succeeded", "superseded"),
            ("succeeded", "running", "illegal_transition"),
        ],
    )
    def test_the_same_turn_follows_the_table(self, before: str, reported: str, expected: str) -> None:
        assert code(decide(session(before), report(reported), context())) == expected

    @pytest.mark.parametrize(
        ("before", "reported", "expected"),
        [("open", "closed", "updated"), ("closed", "closed", "unchanged"), ("closed", "open", "illegal_transition")],
    )
    def test_a_session_closes_and_never_opens_again(self, before: str, reported: str, expected: str) -> None:
        decision = decide(session(status=before), command("session.update", status=reported), context())
        assert code(decision) == expected


def test_any_interleaving_of_cancels_and_completions_has_one_terminal_state() -> None:
    inputs: dict[str, Command | Observed] = {
        "cancel": command("session.cancel"),
        "cancel again": command("session.cancel", id="c2", offset=1),
        "done": report("succeeded", offset=2),
        "broken": report("failed", offset=3),
        "stopped": STOPPED,
    }
    for order in permutations(inputs):
        state, ends = session(), 0
        for name in order:
            decision = decide(state, inputs[name], context())
            if isinstance(decision, Written):
                turns = [event.turn for event in decision.events if isinstance(event, TurnReplaced)]
                was = turn(state) in TERMINAL
                ends += sum(1 for each in turns if each.status in TERMINAL and not was)
                state = after(decision)
        assert ends == (1 if turn(state) in TERMINAL else 0), order
        assert turn(state) in TERMINAL or turn(state) == Status.CANCELLING
