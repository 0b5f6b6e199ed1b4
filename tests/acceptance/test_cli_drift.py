"""`worker audit drift` and `erase` as a black box: real processes beside a running worker, and a database edited."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from tests.acceptance.beside import SECONDS, WORKER, Beside, rows
from tests.acceptance.forked import Done, Forked
from worker.adapters.processes import boot_id


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, forked: Forked) -> Iterator[Beside]:
    """Beside a running worker."""
    folder = tmp_path_factory.mktemp("running")
    environment = os.environ | {"WORKER_DATA_DIR": str(folder), "WORKER_PROBES_ENABLED": "false"}
    with subprocess.Popen([WORKER, "run"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("worker.ready" in line for line in process.stdout)
        yield Beside(folder, forked)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)


@contextmanager
def started_by_hand(evaluation_id: str) -> Iterator[str]:
    """A process under an evaluation's label; -> the uid of the Job that it is."""
    uid = f"{boot_id()}.{uuid4().hex}"
    marks = {"VERDICT_WORKER_EVALUATION_ID": evaluation_id, "VERDICT_WORKER_JOB_UID": uid}
    with subprocess.Popen(["/bin/sleep", "300"], env=os.environ | marks) as process:
        try:
            yield uid
        finally:
            process.kill()


def cancelled(worker: Beside) -> str:
    name = worker.create("workflow", workflow_id=str(uuid4()), team_id="demo")
    assert worker.send("evaluation.cancel", name)["code"] == "cancelled"
    return name


def drift(done: Done, code: int) -> dict[str, Any]:
    assert done.returncode == code, done
    [told] = rows(Done(done.args, 0, done.stdout, done.stderr))
    return dict(told)


def named(told: dict[str, Any], where: str = "findings") -> set[tuple[str, str]]:
    return {(each["kind"], each["aggregate"].partition("/")[2]) for each in told[where]}


def test_drift_names_what_was_done_behind_its_back_and_settles_what_it_may(worker: Beside) -> None:
    assert worker("audit", "drift").stdout.endswith("nothing drifted\n")
    running, edited, deleted, kept = (cancelled(worker) for _ in range(4))
    behind = {("document_changed", edited), ("document_deleted", deleted)}
    changed = 'CAST(replace(CAST(body AS TEXT), \'"status":"cancelled"\', \'"status":"running"\') AS BLOB)'
    worker.sql(f"UPDATE objects SET body = {changed} WHERE key = ?", f"workflows/{edited}.json")  # noqa: S608
    worker.sql("DELETE FROM objects WHERE key = ?", f"workflows/{deleted}.json")
    with started_by_hand(running) as uid:
        assert named(drift(worker("audit", "drift", "--json"), 1)) == behind | {("still_running", running)}
        told = drift(worker("audit", "drift", "--fix", "--json"), 1)
    assert named(told, "left") == behind, "what stands in documents is for a person"
    [verdict] = told["verdicts"]
    assert (verdict["command"]["type"], verdict["code"]) == ("workflow.update", "updated")
    assert [(each["identity"], each["evidence"]) for each in verdict["receipt"]["resources"]] == [(uid, "stopped")]
    text = worker("audit", "drift")
    assert text.returncode == 1
    assert f"  document_deleted  evaluation/{deleted}\n    what        workflows/{deleted}.json\n" in text.stdout
    assert kept not in text.stdout


def test_a_settled_finding_leaves_nothing(alone: Beside, worker: Beside) -> None:
    name = cancelled(worker)
    with started_by_hand(name):
        before = named(drift(worker("audit", "drift", "--json"), 1))
        done = worker("audit", "drift", "--fix")
    assert ("still_running", name) in before
    assert "updated (200, applied): " in done.stdout
    assert alone("audit", "drift").returncode == 2, "a folder without a log was mistyped"


def test_without_a_worker_the_command_is_published_and_late(alone: Beside) -> None:
    name = alone.create("workflow", workflow_id=str(uuid4()), team_id="demo", status="cancelled")
    with started_by_hand(name):
        late = alone("audit", "drift", "--fix", "--wait", "0.2", "--json")
    assert drift(late, 3)["verdicts"] == []
    assert "is a worker running?" in late.stderr


def test_a_person_is_erased_and_the_records_are_counted(worker: Beside) -> None:
    name = worker.create("workflow", workflow_id=str(uuid4()), team_id="demo")
    worker.send("evaluation.cancel", name, "--subject", "eve@example.test", "--reason", "secret plans")
    [first], [second] = (rows(worker("audit", "erase", "eve@example.test", "--json")) for _ in range(2))
    assert (first["had_key"], first["records"], second["had_key"], second["records"]) == (True, 1, False, 1)
    assert worker("audit", "erase", "nobody", "--no-count").stdout.startswith("no key was there: ")
    assert " by erased: erased\n" in worker("show", "evaluation", name).stdout
