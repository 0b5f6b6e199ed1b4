"""I11: a deadline that has passed is told at once, by a worker that is awake."""

from datetime import timedelta
from typing import Any

from tests.simulation.told import EVALUATION, TIME, WORKFLOW_KEY, WORKFLOW_PATH, Json, Told, command, opened
from worker.simulation.invariants.deadlines import i11_deadlines
from worker.simulation.invariants.reading import Reading
from worker.simulation.process import EPOCH

JOB = {"namespace": "jobs", "name": "job-1", "uid": "uid-1"}
SEEN: Json = {"kind": "job", "name": "jobs/job-1", "identity": "uid-1", "evidence": "unconfirmed"}


def at(seconds: float) -> str:
    """The deadline is at 0."""
    return (EPOCH + timedelta(seconds=seconds)).isoformat()


def torn_down(asked: float) -> Told:
    """A cancel whose deadline passes, which its worker reports after 20 seconds."""
    history = Told()
    state = {"kind": "workflow", "workflow_id": EVALUATION, "team_id": "team-1", "status": "running", "jobs": [JOB]}
    history.create(WORKFLOW_PATH, state)
    record = history.send(0, WORKFLOW_KEY, "cancel-1")
    intent: Json = {"open": [opened("cancel-1", record)], "status": "cancelling", "version": 1}
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, command("cancel-1", record), [], **intent)
    report(history, asked, 20.0)
    return history


def report(history: Told, asked: float, seconds: float, **state: Any) -> None:
    pending = {"kind": "pending", "resource": SEEN | {"asked_at": at(asked)}}
    given = {"kind": "observed", "at": at(seconds), "items": [pending]}
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, given, [], **state)


def said(history: Told) -> list[str]:
    return [violation.text for violation in i11_deadlines(Reading(history.evidence()))]


def test_a_deadline_that_begins_again_is_named() -> None:
    assert at(0).replace("+00:00", "Z") == TIME
    (text,) = said(torn_down(asked=10.0))
    assert "a deadline had passed for 10.000 s when worker-0.0 said so" in text


def test_a_worker_that_resumes_after_the_deadline_says_so_at_once() -> None:
    assert said(torn_down(asked=19.9)) == []


def test_a_worker_that_has_slept_could_not_say_so() -> None:
    history = torn_down(asked=10.0)
    history.more["disturbed"] = ["worker-0.0"]
    assert said(history) == []


def test_a_second_report_waits_for_the_first_one_and_what_an_earlier_owner_has_asked_says_nothing() -> None:
    history = torn_down(asked=19.9)
    report(history, 19.9, 40.0, jobs=[JOB | {"gone": SEEN}])
    report(history, 41.0, 60.0)
    assert said(history) == []
