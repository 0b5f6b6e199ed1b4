"""`worker audit verify`, `rebuild`, `show` and `state` as a black box: a worker's log, as it is and tampered with."""

import json
import signal
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from tests.acceptance.beside import SECONDS, WORKER, Beside, one_line, rows
from tests.acceptance.forked import Forked

NAME = str(uuid4())


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, forked: Forked) -> Beside:
    """Beside what a worker left that cancelled one evaluation."""
    beside = Beside(tmp_path_factory.mktemp("stopped"), forked)
    environment = beside.environment | {"WORKER_PROBES_ENABLED": "false"}
    with subprocess.Popen([WORKER, "run"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("worker.ready" in line for line in process.stdout)
        beside.create("workflow", workflow_id=NAME, team_id="demo")
        assert beside.send("evaluation.cancel", NAME)["code"] == "cancelled"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
    return beside


def test_the_log_is_verified_and_its_documents_are_made_again(stopped: Beside, tmp_path: Path) -> None:
    told, verified, rebuilt = stopped.each(
        ("audit", "verify"), ("audit", "verify", "--json"), ("audit", "rebuild", "--into", str(tmp_path / "new"))
    )
    assert told.stdout.partition("\n")[0].endswith(" of 1 aggregates, no error")
    [report] = rows(verified)
    assert (report["wrong"], report["undecided"], report["records"] >= 2) == ([], 0, True)
    assert sum(each["after"] for each in report["covered"]) == 0
    assert rebuilt.stdout.splitlines()[1:] == ["  equal    1", "  written  1", "  kept     0"]
    shown = [
        json.loads(beside("show", "evaluation", NAME, "--json").stdout)["document"]
        for beside in (stopped, Beside(tmp_path / "new", stopped.forked))
    ]
    assert shown[0]["state"] == shown[1]["state"]
    once_more = stopped("audit", "rebuild", "--into", str(tmp_path / "new"))
    one_line(once_more, 2, f"--into: {tmp_path / 'new' / 'worker.db'} exists")


def test_records_are_shown_with_their_places_and_states_are_told(stopped: Beside) -> None:
    shown, first, none, wrong, nobody = stopped.each(
        ("audit", "show", "evaluation", NAME, "--json"),
        ("audit", "state", "evaluation", NAME, "--at", "0", "--json"),
        ("audit", "state", "evaluation", NAME, "--at", "2001-01-01T00:00:00Z"),
        ("audit", "state", "evaluation", NAME, "--at", "yesterday"),
        ("audit", "show", "evaluation", str(uuid4())),
    )
    [told] = rows(shown)
    assert [each["audit_seq"] for each in told["records"]] == list(range(1, len(told["records"]) + 1))
    assert told["records"][1]["previous_sha256"] == told["records"][0]["sha256"]
    assert told["story"][-1]["verdicts"][0]["code"] == "cancelled"
    [state] = rows(first)
    assert (state["state"]["status"], state["at"]) == ("created", told["records"][0]["at"])
    one_line(none, 1, "not_found: there is no record of evaluation/")
    one_line(wrong, 2, "--at: yesterday is no RFC 3339 time")
    one_line(nobody, 1, "not_found: there is no record of evaluation/")


def test_a_record_that_was_changed_is_named_with_its_place(stopped: Beside) -> None:
    where = json.loads(stopped("audit", "show", "evaluation", NAME, "--json").stdout)["records"][-1]["at"]
    partition, _, offset = where.partition(":")
    stopped.sql(
        "UPDATE records SET value = CAST(replace(CAST(value AS TEXT), 'cancelled', 'succeeded') AS BLOB)"
        " WHERE topic = 'audit' AND partition = ? AND offset = ?",
        int(partition),
        int(offset),
    )
    done = stopped("audit", "verify", "--json")
    assert done.returncode == 1
    places = {each["where"]: each["rule"] for each in json.loads(done.stdout)["wrong"]}
    assert where in places
    assert "checkpoint_root" in places.values()
