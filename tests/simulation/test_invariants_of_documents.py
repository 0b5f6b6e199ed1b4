"""I2, I3, I4, I8, I9, I12 and I15: documents, effects, and what is left, each broken in a history made by hand."""

import json
from math import inf

import pytest

from tests.simulation.breaking import Breaks, Broken, assert_named, cases, set_state
from tests.simulation.told import (
    FOLDER,
    HARNESSES,
    ORG_KEY,
    ORG_PATH,
    SESSION_KEY,
    SESSION_PATH,
    STOPPED,
    WORKFLOW_KEY,
    WORKFLOW_PATH,
    Json,
    Told,
    command,
    opened,
    told,
    verdict,
)
from worker.simulation.invariants import Touch, check

breaks = Breaks()


# ------------------------------------------------------------------------------ I2


@breaks("I2", WORKFLOW_KEY, "makes revision 7 of revision 1")
def _a_revision_left_out(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, lambda body: body.update(revision=7))


@breaks("I2", WORKFLOW_KEY, "has the write id of the one before")
def _a_write_id_that_repeats(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, lambda body: body.update(write_id="write-0"))


@breaks("I2", WORKFLOW_KEY, "goes from audit_seq 2 to 3, with records []")
def _a_decision_without_an_audit_record(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, lambda body: body.update(outbox=[]))


@breaks("I2", WORKFLOW_KEY, "changes the state without a decided input")
def _a_state_changed_behind_the_chain(history: Told) -> None:
    history.write(WORKFLOW_PATH, history.objects[WORKFLOW_PATH], "somebody")
    history.rewrite(WORKFLOW_PATH, set_state(phase="odd"))


@breaks("I2", WORKFLOW_KEY, "command cancel-1 is decided at 4, and at 2")
def _a_command_decided_twice(history: Told) -> None:
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, command("cancel-1", (0, 1)), [{"kind": "remembered"}])


# ------------------------------------------------------------------------------ I3


@breaks("I3", WORKFLOW_KEY, "workflow goes from cancelled to running")
def _a_terminal_status_left(history: Told) -> None:
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, None, [], status="running", version=3)


@breaks("I3", WORKFLOW_KEY, "is cancelled at version 2, and failed again")
def _two_ends(history: Told) -> None:
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, None, [], status="failed", version=3)


@breaks("I3", SESSION_KEY, "turn goes from succeeded to cancelled")
def _a_turn_that_ends_twice(history: Told) -> None:
    turn = {"turn_id": "turn-1", "number": 1, "status": "cancelled"}
    history.decide(SESSION_PATH, SESSION_KEY, None, [], turn=turn, version=2)


@breaks("I3", SESSION_KEY, "turn number goes from 1 to")
def _a_turn_brought_back(history: Told) -> None:
    history.rewrite(SESSION_PATH, set_state(turn=None))


@breaks("I3", ORG_KEY, "goes from active to None")
def _a_harness_lost(history: Told) -> None:
    history.rewrite(ORG_PATH, lambda body: body["state"]["harnesses"].pop(HARNESSES[1]))


# ------------------------------------------------------------------------------ I4


@breaks("I4", WORKFLOW_KEY, "a verdict cancelled that no document holds")
def _a_verdict_outside_of_the_write(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, lambda body: body.update(verdicts={}))


@breaks("I4", WORKFLOW_KEY, "the document holds other bytes than the verdict")
def _a_verdict_with_other_bytes(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, lambda body: body["verdicts"].update({"0:0": "{}"}))


@breaks("I4", WORKFLOW_KEY, "a verdict says cancelled, the document cancelling")
def _a_verdict_that_is_not_true(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, set_state(status="cancelling"))


@breaks("I4", WORKFLOW_KEY, "a verdict at version 2, decided from 1 to 1")
def _a_verdict_of_another_version(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, set_state(version=1))


@breaks("I4", ORG_KEY, "the verdict carries another harness than the directory names")
def _a_verdict_with_another_harness(history: Told) -> None:
    history.rewrite(ORG_PATH, lambda body: body["state"]["harnesses"][HARNESSES[0]].update(body=_first_body(history)))


def _first_body(history: Told) -> str:
    entries = json.loads(history.objects_before[ORG_PATH])["state"]["harnesses"]
    return str(entries[HARNESSES[0]]["body"])


@breaks("I4", WORKFLOW_KEY, "the record got already_terminal, and the document another verdict, by worker-0.0 at")
def _a_refusal_that_was_applied_as_well(history: Told) -> None:
    refused = verdict("cancel-1", (0, 0), "already_terminal", 400)
    history.topics["results"][0][0] = history.topics["results"][0][0]._replace(value=refused)


# ------------------------------------------------------------------------------ I8


@breaks("I8", WORKFLOW_KEY, "job uid-1 is touched by worker-9.0 at 0.500 s, before its intent")
def _an_effect_before_its_intent(history: Told) -> None:
    history.touched.insert(0, Touch(0.5, "worker-9.0", "job", "uid-1"))


@breaks("I8", "", "job uid-2 is touched by worker-9.0 at 50.000 s, and no intent was ever recorded")
def _an_identity_that_nobody_recorded(history: Told) -> None:
    history.touched.append(Touch(50.0, "worker-9.0", "job", "uid-2"))


@breaks("I8", SESSION_KEY, "turn turn-1 is touched by worker-9.0 at 50.000 s, and no intent was ever recorded")
def _a_turn_that_nobody_cancelled(history: Told) -> None:
    history.touched.append(Touch(50.0, "worker-9.0", "turn", "turn-1"))


@breaks("I8", WORKFLOW_KEY, "which no command is about")
def _a_bystander(history: Told) -> None:
    history.more["bystanders"] = ["uid-1"]


@breaks("I8", "", "which is kept for ever")
def _a_request_document_removed(history: Told) -> None:
    history.write(f"{FOLDER}/request.json", None)


@breaks("I8", "", "and nobody has asked for it")
def _partial_data_of_somebody_else_removed(history: Told) -> None:
    history.write("teams/team-1/evaluations/another/partial/0.json", None)


# ------------------------------------------------------------------------------ I9, I12


@breaks("I9", WORKFLOW_KEY, "job uid-1 runs, and was seen stopped")
def _a_job_that_runs_on(history: Told) -> None:
    history.more["running"] = [("job", "uid-1")]


@breaks("I9", WORKFLOW_KEY, "a receipt says that job uid-1 has stopped, and it runs")
def _a_receipt_that_is_not_true(history: Told) -> None:
    history.more["ended_at"] = {("job", "uid-1"): inf}


@breaks("I9", WORKFLOW_KEY, "a receipt says that job uid-1 has stopped, and it runs until 60.000 s")
def _a_receipt_that_came_true_later(history: Told) -> None:
    history.more["ended_at"] = {("job", "uid-1"): 60.0}


@breaks("I9", WORKFLOW_KEY, "cancelled, without evidence of job uid-1")
def _a_verdict_without_evidence(history: Told) -> None:
    history.republish("results", 0, lambda said: said["receipt"]["resources"][0].update(evidence="unconfirmed"))


@breaks("I9", WORKFLOW_KEY, "it is cancelling for ever, and no marker says so")
def _a_cancel_without_an_end(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, set_state(status="cancelling"))


@breaks("I9", WORKFLOW_KEY, "command cancel-9 is open for ever")
def _a_command_without_an_end(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, set_state(open=[opened("cancel-9", (0, 0))]))


@breaks("I9", WORKFLOW_KEY, f"its marker unsettled/{WORKFLOW_KEY}/3 is not there")
def _a_marker_lost(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, set_state(unsettled=[{"audit_seq": 3, "why": "unconfirmed"}]))


@breaks("I9", WORKFLOW_KEY, "job uid-2 runs for ever, and no marker says so")
def _a_late_job_that_runs_for_ever(history: Told) -> None:
    late = [{"namespace": "jobs", "name": "job-2", "uid": "uid-2", "gone": None}]
    history.rewrite(WORKFLOW_PATH, lambda body: body["state"].update(jobs=body["state"]["jobs"] + late))
    history.more["running"] = [("job", "uid-2")]


@breaks("I12", "", "3 tasks are left, 1 are the baseline")
def _tasks_left_behind(history: Told) -> None:
    history.more |= {"tasks": 3, "tasks_baseline": 1}


# ------------------------------------------------------------------------------ I15


@breaks("I15", ORG_KEY, "hold the name changed")
def _two_of_one_name(history: Told) -> None:
    history.rewrite(ORG_PATH, lambda body: body["state"]["harnesses"][HARNESSES[1]].update(name="changed"))


@breaks("I15", ORG_KEY, f"{HARNESSES[0]} is among its own parents")
def _a_cycle(history: Told) -> None:
    def change(body: Json) -> None:
        entries = body["state"]["harnesses"]
        entries[HARNESSES[0]]["parent"], entries[HARNESSES[1]]["parent"] = HARNESSES[1], HARNESSES[0]

    history.rewrite(ORG_PATH, change)


# ------------------------------------------------------------------------------ the tests


@pytest.mark.parametrize("broken", cases(breaks))
def test_what_breaks_a_promise_is_named(broken: Broken) -> None:
    assert_named(broken)


def test_each_of_these_invariants_is_broken_here() -> None:
    assert breaks.invariants == {"I2", "I3", "I4", "I8", "I9", "I12", "I15"}


def test_a_command_that_has_failed_may_be_decided_again() -> None:
    history = told()
    first, second = history.send(0, WORKFLOW_KEY, "u-1"), history.send(0, WORKFLOW_KEY, "u-1")
    failed = [{"kind": "failed", "entry": {"id": "u-1"}}]
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, command("u-1", first), failed, phase="one")
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, command("u-1", second), failed, phase="two")
    for at in (first, second):
        history.result(at, WORKFLOW_KEY, verdict("u-1", at, "unconfirmed", 504))
    history.commit(0, 5)
    assert check(history.evidence()) == []


def _with_a_late_job(evidence: str) -> Told:
    """A Job that is reported after the cancel, and runs on."""
    history = told()
    at = history.send(0, WORKFLOW_KEY, "report-2")
    gone = STOPPED | {"identity": "uid-2", "evidence": evidence}
    jobs = [*history.state(WORKFLOW_PATH)["jobs"], {"namespace": "jobs", "name": "job-2", "uid": "uid-2", "gone": gone}]
    where = {"partition": at[0], "offset": at[1]}
    failures = [{"id": "report-2", "at": where, "code": "unconfirmed", "verdict_sha256": "0" * 64}]
    given = command("report-2", at)
    owed = [{"audit_seq": 4, "why": "unconfirmed", "due_at": "2026-01-01T00:00:00Z"}]
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, given, [], jobs=jobs, failures=failures, unsettled=owed)
    history.write(f"unsettled/{WORKFLOW_KEY}/4", b"{}")
    history.result(at, WORKFLOW_KEY, verdict("report-2", at, "unconfirmed", 504))
    history.commit(0, 4)
    history.more["running"] = [("job", "uid-2")]
    return history


@pytest.mark.parametrize("evidence", ["unconfirmed", "forced"])
def test_what_runs_on_may_do_so_where_verdict_and_marker_say_so(evidence: str) -> None:
    assert check(_with_a_late_job(evidence).evidence()) == []


def test_what_runs_on_needs_a_verdict_that_says_so() -> None:
    history = _with_a_late_job("unconfirmed")
    history.republish("results", -1, lambda said: said.update(outcome="rejected"))
    assert [each.text for each in check(history.evidence())] == ["job uid-2 runs, and no verdict says so"]


def test_the_owner_that_a_document_names_may_be_touched() -> None:
    history = told()
    change = {"owner": "batch.test/v1/Trial/trial-1/uid-owner"}
    history.rewrite(WORKFLOW_PATH, lambda body: body["state"]["jobs"][0].update(change), 0)
    history.touched.append(Touch(50.0, "worker-0.0", "job", "uid-owner"))
    assert [each for each in check(history.evidence()) if each.invariant == "I8"] == []
