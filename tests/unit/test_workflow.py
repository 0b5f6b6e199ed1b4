"""The workflow decider: given a document, when a command or an observation comes, then this is decided."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.audit import Context
from schemas.commands import Caller, Command, ReportedJob
from schemas.documents import WorkflowState
from schemas.events import Event, Failed, Owed, Remembered, Settled, StatusChanged
from schemas.observations import Finished, Forbidden, JobsFound, Observed, PartialRemoved, Pending, Stopped
from schemas.receipts import Escalation, ResourceReceipt
from schemas.status import Status
from schemas.verdicts import Verdict
from tests.unit.given import (
    EVALUATION,
    HARNESS,
    JOB,
    LABELS,
    NOW,
    TASK,
    TEAM,
    command,
    context,
    creation,
    evaluation,
    metadata,
    seen,
)
from worker.domain.decide import decide
from worker.domain.decision import Decision, Known, Nothing, Refused, Waiting, Written
from worker.domain.effects import FindJobs, RemovePartial, StopJob, StopTask, effects

REPORTED_JOB = {"namespace": "local", "name": "job-1", "uid": "uid-1", "labels": LABELS}


def events(decision: Decision) -> tuple[Event, ...]:
    assert isinstance(decision, Written), decision
    return decision.events


def after(decision: Decision) -> WorkflowState:
    assert isinstance(decision, Written), decision
    assert isinstance(decision.state, WorkflowState)
    return decision.state


def verdicts(decision: Decision) -> list[Verdict]:
    if isinstance(decision, Refused):
        return [decision.verdict]
    return [event.verdict for event in events(decision) if isinstance(event, Remembered | Failed)]


def code(decision: Decision) -> str:
    [verdict] = verdicts(decision)
    return verdict.code


def cancelling(**options: Any) -> WorkflowState:
    return after(decide(evaluation("running", JOB), command("evaluation.cancel", **options), context()))


def stopped(resource: ResourceReceipt, *, removed: int = 0, at: float = 5) -> Observed:
    items = (Stopped(resource=resource), JobsFound(), PartialRemoved(objects=removed))
    return Observed(at=NOW + timedelta(seconds=at), items=items)


class TestCancelAnEvaluation:
    @pytest.mark.parametrize("status", ["created", "starting", "running"])
    def test_records_the_intent_and_asks_for_the_job_by_uid(self, status: str) -> None:
        state = after(decide(evaluation(status, JOB), command("evaluation.cancel"), context()))
        assert state.status == Status.CANCELLING
        [effect] = effects(state)
        assert isinstance(effect, StopJob)
        assert effect.job.uid == "uid-1"

    def test_is_cancelled_only_when_everything_was_seen_gone(self) -> None:
        decision = decide(cancelling(), stopped(seen("job", "uid-1"), removed=3), context(5))
        assert after(decision).status == Status.CANCELLED
        [verdict] = verdicts(decision)
        assert (verdict.code, verdict.http_status) == ("cancelled", 200)
        assert verdict.receipt is not None
        assert (verdict.receipt.evidence, verdict.receipt.objects_removed) == ("stopped", 3)
        assert verdict.aggregate is not None
        assert (verdict.aggregate.status_before, verdict.aggregate.status_after) == ("running", "cancelled")

    def test_without_a_recorded_job_looks_for_the_label_first(self) -> None:
        state = after(decide(evaluation("running"), command("evaluation.cancel"), context()))
        assert effects(state) == (FindJobs(EVALUATION),)
        assert effects(state, [JobsFound()]) == (RemovePartial(TEAM, EVALUATION),)

    def test_records_what_the_label_led_to_before_touching_it(self) -> None:
        state = after(decide(evaluation("running"), command("evaluation.cancel"), context()))
        found = JobsFound.model_validate({"jobs": [{**REPORTED_JOB, "uid": "uid-9"}]})
        assert effects(state, [found]) == ()
        state = after(decide(state, Observed(at=NOW, items=(found,)), context()))
        [effect] = effects(state)
        assert isinstance(effect, StopJob)
        assert effect.job.uid == "uid-9"
        assert state.status == Status.CANCELLING

    def test_without_cleanup_leaves_partial_data(self) -> None:
        state = cancelling(cleanup=False)
        assert effects(state, [Stopped(resource=seen("job", "uid-1")), JobsFound()]) == ()
        observed = Observed(at=NOW, items=(Stopped(resource=seen("job", "uid-1")), JobsFound()))
        assert after(decide(state, observed, context())).status == Status.CANCELLED

    def test_a_clean_up_failure_is_a_warning(self) -> None:
        items = (Stopped(resource=seen("job", "uid-1")), JobsFound(), PartialRemoved(warning="store away"))
        [verdict] = verdicts(decide(cancelling(), Observed(at=NOW, items=items), context()))
        assert verdict.code == "cancelled"
        assert verdict.receipt is not None
        assert verdict.receipt.warnings == ("store away",)

    def test_after_forced_evidence_a_later_sweep_is_owed(self) -> None:
        decision = decide(cancelling(), stopped(seen("job", "uid-1", "forced")), context(5))
        [owed] = [event.marker for event in events(decision) if isinstance(event, Owed)]
        assert (owed.why, owed.due_at) == ("sweep", NOW + timedelta(seconds=305))
        assert verdicts(decision)[0].receipt is not None

    def test_forced_evidence_is_remembered_while_another_job_still_has_to_go(self) -> None:
        found = JobsFound(jobs=(ReportedJob(namespace="local", name="job-2", uid="uid-2", labels=LABELS),))
        items = (Stopped(resource=seen("job", "uid-1", "forced")), found)
        state = after(decide(cancelling(), Observed(at=NOW, items=items), context(5)))
        assert (state.status, [marker.why for marker in state.unsettled]) == (Status.CANCELLING, ["sweep"])
        state = after(decide(state, stopped(seen("job", "uid-2")), context(6, audit_seq=2)))
        assert (state.status, [marker.why for marker in state.unsettled]) == (Status.CANCELLED, ["sweep"])

    def test_a_removal_that_is_about_to_come_is_recorded_before_it_goes_on(self) -> None:
        state = cancelling()
        removal = Escalation(at=NOW, pod="pod-1", grace_period_seconds=0)
        planned = seen("job", "uid-1", "unconfirmed").model_copy(update={"escalations": (removal,)})
        assert effects(state, [Pending(resource=planned)]) == ()
        state = after(decide(state, Observed(at=NOW, items=(Pending(resource=planned),)), context(5)))
        [effect] = effects(state)
        assert isinstance(effect, StopJob)
        assert (effect.job.gone, state.status) == (planned, Status.CANCELLING)

    def test_a_clock_that_is_behind_keeps_nobody_waiting_for_longer(self) -> None:
        state = after(decide(evaluation("running", JOB), command("evaluation.cancel"), context(-3600)))
        [opened] = state.open
        assert opened.deadline_at == NOW + timedelta(seconds=120 - 3600)

    def test_at_the_deadline_is_unconfirmed_and_stays_cancelling(self) -> None:
        pending = Pending(resource=seen("job", "uid-1", "unconfirmed"))
        decision = decide(cancelling(), Observed(at=NOW + timedelta(seconds=120), items=(pending,)), context(120))
        [verdict] = verdicts(decision)
        assert (verdict.code, verdict.http_status) == ("unconfirmed", 504)
        assert after(decision).status == Status.CANCELLING
        assert [marker.why for marker in after(decision).unsettled] == ["unconfirmed"]
        assert effects(after(decision)) == ()

    def test_a_later_cancel_resumes_and_settles_the_marker(self) -> None:
        late = Observed(at=NOW + timedelta(seconds=120), items=(Pending(resource=seen("job", "uid-1", "unconfirmed")),))
        state = after(decide(cancelling(), late, context(120)))
        state = after(decide(state, command("evaluation.cancel", id="c2", offset=9), context(130)))
        assert [type(effect) for effect in effects(state)] == [StopJob]
        decision = decide(state, stopped(seen("job", "uid-1"), at=140), context(140))
        assert any(isinstance(event, Settled) for event in events(decision))
        assert code(decision) == "cancelled"

    def test_forbidden_by_the_cluster_is_502_with_its_reason(self) -> None:
        item = Forbidden(resource=seen("job", "uid-1", "unconfirmed"), message="no delete for you")
        decision = decide(cancelling(), Observed(at=NOW, items=(item,)), context())
        [verdict] = verdicts(decision)
        assert (verdict.http_status, verdict.message) == (502, "no delete for you")
        assert after(decision).status == Status.CANCELLING

    @pytest.mark.parametrize("status", ["cancelled", "succeeded", "failed"])
    def test_terminal_is_400(self, status: str) -> None:
        decision = decide(evaluation(status, JOB), command("evaluation.cancel"), context())
        assert isinstance(decision, Refused)
        assert (decision.verdict.code, decision.verdict.http_status) == ("already_terminal", 400)

    def test_evidence_about_what_is_not_recorded_changes_nothing(self) -> None:
        observed = Observed(at=NOW, items=(Stopped(resource=seen("job", "uid-other")), JobsFound(), PartialRemoved()))
        assert after(decide(cancelling(), observed, context())).status == Status.CANCELLING

    def test_an_observation_after_the_end_is_nothing(self) -> None:
        assert decide(evaluation("cancelled", JOB), stopped(seen("job", "uid-1")), context()) == Nothing()


class TestASecondCancel:
    def test_joins_with_the_higher_mode_the_shorter_grace_and_either_cleanup(self) -> None:
        state = cancelling(cleanup=False, grace_period_seconds=20)
        second = command("evaluation.cancel", id="c2", offset=1, mode="force", grace_period_seconds=60)
        state = after(decide(state, second, context(1)))
        assert state.teardown is not None
        asked = {"mode": "force", "grace_period_seconds": 20, "cleanup": True}
        assert state.teardown.model_dump(exclude={"begun_at"}) == asked

    def test_both_are_answered_by_one_step(self) -> None:
        state = after(decide(cancelling(), command("evaluation.cancel", id="c2", offset=1), context(1)))
        answers = verdicts(decide(state, stopped(seen("job", "uid-1")), context(5)))
        assert [(verdict.command.id, verdict.code) for verdict in answers] == [("c1", "cancelled"), ("c2", "cancelled")]

    def test_each_keeps_its_own_deadline(self) -> None:
        state = cancelling(deadline_seconds=30)
        state = after(decide(state, command("evaluation.cancel", id="c2", offset=1, deadline_seconds=90), context(1)))
        pending = Pending(resource=seen("job", "uid-1", "unconfirmed"))
        decision = decide(state, Observed(at=NOW + timedelta(seconds=30), items=(pending,)), context(30))
        assert [verdict.command.id for verdict in verdicts(decision)] == ["c1"]
        [effect] = effects(after(decision))
        assert isinstance(effect, StopJob)
        assert effect.deadline_at >= NOW + timedelta(seconds=89)

    def test_a_deadline_leaves_ten_seconds_from_the_first_decision(self) -> None:
        state = after(decide(evaluation("running", JOB), command("evaluation.cancel", deadline_seconds=1), context(50)))
        assert state.open[0].deadline_at == NOW + timedelta(seconds=60)


class TestTheOrderOfChecks:
    def test_a_known_command_comes_before_everything(self) -> None:
        first = command("evaluation.cancel")
        state = after(decide(cancelling(), stopped(seen("job", "uid-1")), context(5)))
        stranger = first.model_copy(update={"caller": Caller()})
        assert isinstance(decide(state, stranger, context(6)), Known)

    def test_an_open_command_waits(self) -> None:
        assert decide(cancelling(), command("evaluation.cancel", offset=5), context()) == Waiting("c1")

    def test_permission_comes_before_existence(self) -> None:
        assert code(decide(None, command("evaluation.cancel", caller=Caller()), context())) == "permission_denied"

    def test_another_teams_is_not_found_and_carries_nothing(self) -> None:
        stranger = Caller(team_ids=("other",), permissions=("agent:write",))
        [verdict] = verdicts(decide(evaluation("running"), command("evaluation.cancel", caller=stranger), context()))
        assert (verdict.http_status, verdict.aggregate) == (404, None)

    def test_a_reused_id_is_refused_before_its_age_is_looked_at(self) -> None:
        state = cancelling().model_copy(update={"horizon": NOW + timedelta(days=1)})
        other = command("evaluation.cancel", mode="force")
        assert code(decide(state, other, context())) == "command_id_reused"

    def test_too_old_comes_before_expired(self) -> None:
        state = evaluation("running", horizon=NOW + timedelta(days=1))
        assert code(decide(state, command("evaluation.cancel", expires_at=NOW), context(9))) == "too_old_to_tell"

    def test_expired_comes_before_the_version_and_moves_the_etag(self) -> None:
        given = command("evaluation.cancel", expires_at=NOW, expected_version=9)
        decision = decide(evaluation("running"), given, context(9))
        assert isinstance(decision, Refused)
        assert (decision.verdict.code, decision.fences) == ("expired", True)

    def test_a_version_conflict_comes_before_the_operations_own_rules(self) -> None:
        given = command("evaluation.cancel", expected_version=9)
        assert code(decide(evaluation("cancelled"), given, context())) == "version_conflict"


class TestReports:
    @pytest.mark.parametrize(
        ("before", "reported", "expected", "status"),
        [
            ("created", "starting", "updated", "starting"),
            ("created", "running", "updated", "running"),
            ("running", "succeeded", "updated", "succeeded"),
            ("starting", "failed", "updated", "failed"),
            ("running", "running", "unchanged", "running"),
            ("running", "starting", "illegal_transition", None),
            ("cancelling", "succeeded", "superseded", "cancelling"),
            ("cancelling", "failed", "superseded", "cancelling"),
            ("cancelling", "running", "illegal_transition", None),
            ("cancelled", "succeeded", "superseded", "cancelled"),
            ("cancelled", "running", "illegal_transition", None),
            ("succeeded", "failed", "superseded", "succeeded"),
            ("failed", "failed", "unchanged", "failed"),
            ("running", "cancelled", "updated", "cancelled"),
        ],
    )
    def test_a_status_follows_the_table(self, before: str, reported: str, expected: str, status: str | None) -> None:
        decision = decide(evaluation(before), command("workflow.update", status=reported), context())
        assert code(decision) == expected
        if status:
            assert after(decision).status.value == status

    @pytest.mark.parametrize(
        ("word", "canonical"),
        [("Completed", "succeeded"), ("SAVED", "succeeded"), ("errored", "failed"), ("saving", "running")],
    )
    def test_accepted_words_are_folded(self, word: str, canonical: str) -> None:
        decision = decide(evaluation("created"), command("workflow.update", status=word), context())
        assert after(decision).status.value == canonical

    def test_the_same_status_with_a_new_phase_is_applied(self) -> None:
        decision = decide(
            evaluation("running"), command("workflow.update", status="running", phase="scoring"), context()
        )
        assert (code(decision), after(decision).phase, after(decision).version) == ("updated", "scoring", 1)

    def test_a_reported_cancelled_with_a_recorded_job_starts_the_teardown(self) -> None:
        decision = decide(evaluation("running", JOB), command("workflow.update", status="cancelled"), context())
        state = after(decision)
        assert (state.status, [o.type for o in state.open]) == (Status.CANCELLING, ["workflow.update"])
        assert code(decide(state, stopped(seen("job", "uid-1")), context(5))) == "updated"

    def test_a_job_is_recorded_whatever_the_status_says(self) -> None:
        given = command("workflow.update", status="starting", job=REPORTED_JOB)
        decision = decide(evaluation("running"), given, context())
        recorded = JOB.model_copy(update={"recorded_at": NOW})
        assert (code(decision), after(decision).jobs) == ("updated", (recorded,))

    def test_a_job_reported_while_cancelling_joins_the_teardown(self) -> None:
        state = after(decide(evaluation("running"), command("evaluation.cancel"), context()))
        report = command("workflow.update", id="r1", offset=1, job=REPORTED_JOB)
        state = after(decide(state, report, context(1)))
        assert [type(effect) for effect in effects(state)] == [StopJob]
        answers = verdicts(decide(state, stopped(seen("job", "uid-1")), context(5)))
        assert [(v.command.id, v.code) for v in answers] == [("c1", "cancelled"), ("r1", "updated")]

    def test_a_job_reported_after_cancelled_is_torn_down_and_the_status_stays(self) -> None:
        state = after(decide(evaluation("cancelled"), command("workflow.update", job=REPORTED_JOB), context()))
        assert [type(effect) for effect in effects(state)] == [StopJob]
        decision = decide(state, stopped(seen("job", "uid-1")), context(5))
        assert after(decision).status == Status.CANCELLED
        assert not any(isinstance(event, StatusChanged) for event in events(decision))
        assert verdicts(decision)[0].receipt is not None

    @pytest.mark.parametrize("change", [{"labels": {}}, {"namespace": "kube-system"}])
    def test_a_job_that_is_not_attributable_is_refused_and_moves_the_etag(self, change: dict[str, Any]) -> None:
        given = command("workflow.update", job=REPORTED_JOB | change)
        decision = decide(evaluation("running"), given, context())
        assert isinstance(decision, Refused)
        assert (decision.verdict.code, decision.fences) == ("job_not_attributable", True)


class TestCancelACreation:
    GIVEN = command("custom_harness.cancel")

    def with_metadata(self, **more: Any) -> Context:
        return context(documents=[metadata(**more)])

    def test_without_a_task_it_is_cancelled_at_once(self) -> None:
        decision = decide(creation("running", task=None), self.GIVEN, self.with_metadata())
        assert (code(decision), after(decision).status) == ("cancelled", Status.CANCELLED)

    def test_with_a_task_the_agent_is_asked_by_task_id(self) -> None:
        state = after(decide(creation("running"), self.GIVEN, self.with_metadata()))
        [effect] = effects(state)
        assert isinstance(effect, StopTask)
        assert (effect.task, state.status) == (TASK, Status.CANCELLING)

    def test_once_the_agent_confirms_it_is_cancelled(self) -> None:
        state = after(decide(creation("running"), self.GIVEN, self.with_metadata()))
        observed = Observed(at=NOW, items=(Stopped(resource=seen("task", "task-1")),))
        decision = decide(state, observed, context())
        assert (code(decision), after(decision).status) == ("cancelled", Status.CANCELLED)

    @pytest.mark.parametrize("outcome", ["succeeded", "failed"])
    def test_an_outcome_proved_by_the_agent_stands_and_the_cancel_is_too_late(self, outcome: str) -> None:
        state = after(decide(creation("running"), self.GIVEN, self.with_metadata()))
        item = Finished.model_validate({"resource": seen("task", "task-1"), "outcome": outcome})
        decision = decide(state, Observed(at=NOW, items=(item,)), context())
        [verdict] = verdicts(decision)
        assert (verdict.code, verdict.http_status, after(decision).status.value) == ("too_late", 400, outcome)

    def test_an_unknown_harness_is_404(self) -> None:
        absent = context(documents=[{"key": metadata()["key"]}])
        assert code(decide(None, self.GIVEN, absent)) == "not_found"

    def test_a_harness_without_a_workflow_is_400(self) -> None:
        assert code(decide(None, self.GIVEN, self.with_metadata(workflow_id=None))) == "no_workflow"

    def test_another_teams_harness_without_a_workflow_is_404(self) -> None:
        assert code(decide(None, self.GIVEN, self.with_metadata(workflow_id=None, team_id="other"))) == "not_found"

    def test_an_evaluation_is_not_reached_through_a_creations_command(self) -> None:
        assert code(decide(evaluation("running"), self.GIVEN, self.with_metadata())) == "not_found"


class TestResume:
    def unsettled(self) -> WorkflowState:
        late = Observed(at=NOW + timedelta(seconds=120), items=(Pending(resource=seen("job", "uid-1", "unconfirmed")),))
        return after(decide(cancelling(), late, context(120)))

    def resume(self, offset: int = 7) -> Command:
        return command("workflow.resume", id=f"w{offset}", offset=offset, marker="unsettled/x/1")

    def test_joins_a_teardown_that_was_left(self) -> None:
        state = after(decide(self.unsettled(), self.resume(), context(200)))
        assert [type(effect) for effect in effects(state)] == [StopJob]
        decision = decide(state, stopped(seen("job", "uid-1"), at=210), context(210))
        assert (code(decision), after(decision).unsettled) == ("resumed", ())

    def test_sweeps_again_once_it_is_due_and_not_before(self) -> None:
        state = after(decide(cancelling(), stopped(seen("job", "uid-1", "forced")), context(5)))
        early = decide(state, self.resume(), context(10))
        assert (code(early), len(after(early).unsettled)) == ("unchanged", 1)
        state = after(decide(state, self.resume(8), context(400)))
        assert effects(state, [JobsFound()]) == (RemovePartial(TEAM, EVALUATION),)
        observed = Observed(at=NOW, items=(JobsFound(), PartialRemoved(objects=1)))
        decision = decide(state, observed, context(401))
        assert (code(decision), after(decision).unsettled) == ("resumed", ())

    def test_the_grace_of_a_job_runs_from_the_first_decision_and_of_a_late_one_from_its_report(self) -> None:
        late = command("workflow.update", "u1", offset=3, job={**REPORTED_JOB, "name": "job-2", "uid": "uid-2"})
        state = after(decide(cancelling(), late, context(6)))
        asked = {effect.job.uid: effect.asked_at for effect in effects(state) if isinstance(effect, StopJob)}
        assert asked == {"uid-1": NOW, "uid-2": NOW + timedelta(seconds=6)}

    def test_a_late_job_that_stops_in_time_does_not_take_the_sweep_away(self) -> None:
        state = after(decide(cancelling(), stopped(seen("job", "uid-1", "forced")), context(5)))
        late = command("workflow.update", "u1", offset=3, job={**REPORTED_JOB, "name": "job-2", "uid": "uid-2"})
        state = after(decide(state, late, context(6, audit_seq=8)))
        state = after(decide(state, stopped(seen("job", "uid-2")), context(7, audit_seq=9)))
        assert [(marker.why, marker.audit_seq) for marker in state.unsettled] == [("sweep", 1)]

    def test_a_later_forced_end_moves_the_sweep(self) -> None:
        state = after(decide(cancelling(), stopped(seen("job", "uid-1", "forced")), context(5)))
        late = command("workflow.update", "u1", offset=3, job={**REPORTED_JOB, "name": "job-2", "uid": "uid-2"})
        state = after(decide(state, late, context(6, audit_seq=8)))
        state = after(decide(state, stopped(seen("job", "uid-2", "forced")), context(100, audit_seq=9)))
        assert [(m.audit_seq, m.due_at) for m in state.unsettled] == [(9, NOW + timedelta(seconds=400))]

    def test_a_resume_finishes_what_a_late_job_left_undone(self) -> None:
        state = after(decide(cancelling(), stopped(seen("job", "uid-1")), context(5)))
        late = command("workflow.update", "u1", offset=3, job={**REPORTED_JOB, "name": "job-2", "uid": "uid-2"})
        state = after(decide(state, late, context(6)))
        gone = Observed(at=NOW + timedelta(seconds=200), items=(Stopped(resource=seen("job", "uid-2")),))
        state = after(decide(state, gone, context(200)))
        assert (state.status, [marker.why for marker in state.unsettled]) == (Status.CANCELLED, ["unconfirmed"])
        state = after(decide(state, self.resume(300), context(300)))
        assert effects(state) == (FindJobs(EVALUATION),)

    def test_the_grace_goes_on_when_the_first_command_has_been_answered(self) -> None:
        options = {"grace_period_seconds": 12, "deadline_seconds": 10}
        state = cancelling(**options)
        state = after(decide(state, command("evaluation.cancel", "c2", offset=9), context(9)))
        pending = Pending(resource=seen("job", "uid-1", "unconfirmed"))
        state = after(decide(state, Observed(at=NOW + timedelta(seconds=10), items=(pending,)), context(10)))
        [effect] = effects(state)
        assert isinstance(effect, StopJob)
        assert effect.asked_at == NOW


class TestAnEarlierTask:
    def test_its_end_is_no_outcome_of_the_workflow(self) -> None:
        second = {"agent": "helper", "task_id": "task-2"}
        state = after(decide(creation(), command("workflow.update", "u1", harness_id=HARNESS, task=second), context()))
        state = after(decide(state, command("custom_harness.cancel", "c1", offset=2), context()))
        ended = Finished(resource=seen("task", "task-1"), outcome="failed")
        assert [effect.task.task_id for effect in effects(state, [ended]) if isinstance(effect, StopTask)] == ["task-2"]
        items = (ended, Stopped(resource=seen("task", "task-2")))
        decision = decide(state, Observed(at=NOW, items=items), context(1))
        assert (code(decision), after(decision).status) == ("cancelled", Status.CANCELLED)


class TestTheMemory:
    def test_an_entry_leaves_only_once_its_commit_is_known_and_raises_the_horizon(self) -> None:
        few = context().settings.model_copy(update={"memory_commands": 1})
        state = evaluation("created")
        for offset, status in enumerate(["starting", "running"]):
            given = command("workflow.update", id=f"r{offset}", offset=offset, status=status)
            state = after(decide(state, given, context(settings=few)))
        assert [entry.id for entry in state.answered] == ["r0", "r1"]
        given = command("workflow.update", id="r2", offset=2, status="running", phase="late")
        decision = decide(state, given, context(settings=few, settled=[{"partition": 0, "offset": 0}]))
        assert [entry.id for entry in after(decision).answered] == ["r1", "r2"]
        assert after(decision).horizon == command("workflow.update", offset=0).time
        again = command("workflow.update", id="r0", offset=9, status="starting").model_copy(
            update={"time": command("workflow.update", offset=0).time}
        )
        assert code(decide(after(decision), again, context())) == "too_old_to_tell"

    def test_a_failure_is_known_by_its_record_only(self) -> None:
        late = Observed(at=NOW + timedelta(seconds=120), items=(Pending(resource=seen("job", "uid-1", "unconfirmed")),))
        state = after(decide(cancelling(), late, context(120)))
        assert isinstance(decide(state, command("evaluation.cancel"), context(121)), Known)
        assert isinstance(decide(state, command("evaluation.cancel", offset=4), context(121)), Written)

    def test_a_record_keeps_its_own_failure_whatever_becomes_of_the_command_in_another_record(self) -> None:
        late = Observed(at=NOW + timedelta(seconds=120), items=(Pending(resource=seen("job", "uid-1", "unconfirmed")),))
        state = after(decide(cancelling(), late, context(120)))
        state = after(decide(state, command("evaluation.cancel", offset=4), context(121)))
        failed = decide(state, command("evaluation.cancel"), context(122))
        assert isinstance(failed, Known)
        assert failed.entry.code == "unconfirmed"
        state = after(decide(state, stopped(seen("job", "uid-1"), at=123), context(123)))
        assert decide(state, command("evaluation.cancel"), context(124)) == failed
        applied = decide(state, command("evaluation.cancel", offset=5), context(124))
        assert isinstance(applied, Known)
        assert applied.entry.code == "cancelled"


def test_a_dry_run_says_what_would_happen_and_writes_nothing() -> None:
    decision = decide(evaluation("running", JOB), command("evaluation.cancel", dry_run=True), context())
    assert isinstance(decision, Refused)
    assert decision.verdict.dry_run
    assert any("uid-1" in line for line in decision.verdict.would)
