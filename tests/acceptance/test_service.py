"""The real process told to stop: a drain, a drain that is cut, a second signal; nothing is lost or doubled."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from worker.telemetry import metrics

WORKER = Path(sys.executable).with_name("worker")
SECONDS = 15


class Running:
    """A worker process and what it has logged."""

    def __init__(self, folder: Path, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self._log = folder, folder / f"{uuid4()}.log"
        environment = {**os.environ, "WORKER_DATA_DIR": str(folder), "WORKER_PROBES_PORT": "0", **settings}
        with self._log.open("wb") as output:
            self.process = subprocess.Popen([WORKER, "run"], env=environment, stdout=output, stderr=subprocess.STDOUT)
        until(lambda: "worker.ready" in self.events())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines()]

    def text(self) -> str:
        return self._log.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Running]:
    worker = Running(folder, **settings)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def worker(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"WORKER_DATA_DIR": str(folder)}
    done = subprocess.run(
        [WORKER, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip()


def results(folder: Path) -> list[dict[str, Any]]:
    connection = sqlite3.connect(folder / "worker.db")
    try:
        rows = connection.execute("SELECT value FROM records WHERE topic = 'results'").fetchall()
    finally:
        connection.close()
    return [json.loads(row[0]) for row in rows]


STUBBORN = "bash -c 'trap \"\" TERM; while :; do sleep 0.05; done'"


def test_a_drain_leaves_a_running_teardown_to_the_next_worker(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        name = worker(tmp_path, "create", "evaluation", "--run", STUBBORN)
        worker(tmp_path, "send", "evaluation.cancel", name, "--data", '{"grace_period_seconds": 6}')
        worker(tmp_path, "send", "workflow.update", name, "--data", '{"phase": "x"}', "--wait", "10")
        assert first.end() == 0
        assert first.events()[-2:] == ["worker.draining", "worker.stopped"]
        assert [verdict["code"] for verdict in results(tmp_path)] == ["illegal_transition"]
    with running(tmp_path) as second:
        until(lambda: len(results(tmp_path)) == 2)
        [_, verdict] = results(tmp_path)
        assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
        assert verdict["receipt"]["resources"][0]["escalations"]
        assert second.end(signal.SIGINT) == 0


def test_a_drain_that_does_not_end_is_cut_by_its_deadline(tmp_path: Path) -> None:
    with running(tmp_path, WORKER_DRAIN_TIMEOUT_SECONDS="0.5") as first:
        with stuck(first):
            first.process.send_signal(signal.SIGTERM)
            until(lambda: "worker.drain_cut" in first.events())
        assert first.process.wait(SECONDS) == 0
    assert results(tmp_path) == []
    with running(tmp_path):
        until(lambda: len(results(tmp_path)) == 1)


def test_a_second_signal_ends_it_on_the_spot(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        with stuck(first):
            first.process.send_signal(signal.SIGTERM)
            until(lambda: "worker.draining" in first.events())
            assert first.end() == 0
        assert "stopped at once, by a second SIGTERM; nothing is lost" in first.text()
    assert results(tmp_path) == []
    with running(tmp_path):
        until(lambda: len(results(tmp_path)) == 1)


@contextmanager
def stuck(running: Running) -> Iterator[None]:
    """A command is fetched and cannot be decided: somebody else holds the file's write lock."""
    name = worker(running.folder, "create", "evaluation", "--run", "true")
    running.process.send_signal(signal.SIGSTOP)
    worker(running.folder, "send", "workflow.update", name, "--data", '{"phase": "x"}')
    connection = sqlite3.connect(running.folder / "worker.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        running.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)  # it reads beside the lock, decides, and waits to write
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_probes_tell_and_metrics_are_those_of_the_catalogue(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        [ready] = [line for line in first.lines() if line["event"] == "worker.ready"]
        answers = {path: get(ready["probes_port"], path) for path in ("/livez", "/readyz", "/metrics")}
        assert json.loads(answers["/livez"]) == {"status": "alive"}
        assert json.loads(answers["/readyz"]) == {"status": "ready", "why": {}}
        served = {line.split()[2] for line in answers["/metrics"].splitlines() if line.startswith("# TYPE")}
        assert {name.removesuffix("_total") for name in served} == set(metrics.catalogue())
        assert 'worker_build_info{build="verdict-worker' in answers["/metrics"]


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def test_a_port_in_use_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    with running(tmp_path / "one") as first:
        [ready] = [line for line in first.lines() if line["event"] == "worker.ready"]
        port = {"WORKER_DATA_DIR": str(tmp_path / "two"), "WORKER_PROBES_PORT": str(ready["probes_port"])}
        second = subprocess.run(
            [WORKER, "run"], env=os.environ | port, capture_output=True, text=True, timeout=30, check=False
        )
        assert second.returncode == 2
        assert second.stderr.startswith("WORKER_PROBES_PORT: cannot listen on 127.0.0.1:")


def test_a_worker_that_cannot_even_start_yet_stops_at_once_when_it_is_told_to(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = {
            "STACK": "services",
            "KAFKA__BOOTSTRAP_SERVERS": address,
            "S3__ENDPOINT_URL": f"http://{address}",
            "S3__BUCKET": "documents",
            "S3__ACCESS_KEY": "any",
            "S3__SECRET_KEY": "any",
            "S3__READ_TIMEOUT_SECONDS": "120",
            "S3__REQUEST_TIMEOUT_SECONDS": "120",
            "DATA_DIR": str(tmp_path),
            "PROBES_PORT": "0",
        }
        environment = os.environ | {f"WORKER_{name}": value for name, value in settings.items()}
        process = subprocess.Popen([WORKER, "run"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            silent.settimeout(SECONDS)
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)  # it asks, and waits
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                written, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, written
    assert time.monotonic() - began < SECONDS


def test_a_start_that_fails_says_so_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = {"WORKER_DATA_DIR": str(tmp_path / "file"), "WORKER_PROBES_PORT": "0"}
    for changed, named in (({}, "WORKER_DATA_DIR: "), ({"WORKER_PARTITIONS": "many"}, "WORKER_PARTITIONS: ")):
        environment = os.environ | wrong | changed
        done = subprocess.run([WORKER, "run"], env=environment, capture_output=True, text=True, timeout=30, check=False)
        last = json.loads(done.stdout.splitlines()[-1])
        assert (done.returncode, last["event"], last["level"]) == (2, "worker.failed", "error")
        assert done.stderr == f"{last['error']}\n"
        assert done.stderr.startswith(named)
        assert "exception" not in last
