"""The real process as a black box: run, create, send, results."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

WORKER = Path(sys.executable).with_name("worker")


def worker(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"WORKER_DATA_DIR": str(folder)}
    return subprocess.run(
        [WORKER, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A worker beside the commands; drained at the end by SIGTERM."""
    environment = os.environ | {"WORKER_DATA_DIR": str(tmp_path)}
    with subprocess.Popen([WORKER, "run"], env=environment, stdout=subprocess.DEVNULL) as process:
        yield tmp_path
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_an_evaluation_is_created_cancelled_and_told_about(running: Path) -> None:
    created = worker(running, "create", "evaluation", "--run", "sleep 300")
    name = created.stdout.strip()
    cancelled = worker(running, "send", "evaluation.cancel", name, "--reason", "a test", "--wait", "15")
    assert cancelled.returncode == 0, cancelled
    verdict = json.loads(cancelled.stdout)
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    again = worker(running, "send", "evaluation.cancel", name, "--wait", "15")
    assert (again.returncode, json.loads(again.stdout)["code"]) == (1, "already_terminal")
    told = [json.loads(line) for line in worker(running, "status").stdout.splitlines()]
    assert [event["after"] for event in told] == ["cancelling", "cancelled"]
    assert len(worker(running, "results").stdout.splitlines()) == 2


def test_a_second_worker_is_told_who_has_the_file(running: Path) -> None:
    worker(running, "send", "evaluation.cancel", "00000000-0000-4000-8000-000000000000", "--wait", "15")
    second = worker(running, "run")
    assert second.returncode == 2
    assert "pid" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_wrong_setting_is_one_line_that_names_it(tmp_path: Path) -> None:
    environment = os.environ | {"WORKER_DATA_DIR": str(tmp_path), "WORKER_PARTITIONS": "many"}
    done = subprocess.run([WORKER, "run"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("WORKER_PARTITIONS: ")
