"""Waiting holds nobody up: 5,000 updates pass a long cancel, before and after kill -9; 512 cancels fill a partition.

The real process on one partition; what is asserted is read from its file and its log.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from schemas.documents import Job, WorkflowState
from tests.acceptance.load import TEAM, Load, fresh_uid, message
from worker.adapters.sqlite import Database, SqliteStore, SqliteStream
from worker.ports import Outgoing

WORKER = Path(sys.executable).with_name("worker")
UPDATES, KEYS = 5000, 100
RANDOM = Random(1)  # noqa: S311  # structured mode now and then, no secret


class Stack:
    """One file of one partition, the worker's lives on it, and the processes that are its Jobs."""

    def __init__(self, folder: Path) -> None:
        self.path, self.load = folder / "worker.db", Load()
        self._log = folder / "worker.log"
        self._environment = os.environ | {
            "WORKER_DATA_DIR": str(folder),
            "WORKER_PARTITIONS": "1",
            "WORKER_PROBES_ENABLED": "false",
        }
        self._worker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._worker = subprocess.Popen([WORKER, "run"], env=self._environment, stdout=log, stderr=log)

    def end(self, number: signal.Signals) -> None:
        if self._worker is not None:
            self._worker.send_signal(number)
            self._worker.wait(30)
            self._worker = None

    def evaluation(self, script: str, uid: str) -> str:
        """A running evaluation whose Job is this shell script; -> its id."""
        name = str(uuid4())
        self.load.launch(script, VERDICT_WORKER_EVALUATION_ID=name, VERDICT_WORKER_JOB_UID=uid)
        self.record(name, uid)
        return name

    def record(self, name: str, *uids: str) -> None:
        jobs = tuple(Job(namespace="local", name="process", uid=uid) for uid in uids)
        whole = {"workflow_id": name, "team_id": TEAM, "status": "running", "jobs": jobs}
        state = WorkflowState.model_validate(whole).model_dump(mode="json")
        self.load.objects[f"workflows/{name}.json"] = json.dumps({"state": state}).encode()

    def publish(self, records: list[Outgoing]) -> None:
        """Create what is to be created, then append."""
        asyncio.run(self._publish(records))

    async def _publish(self, records: list[Outgoing]) -> None:
        database = Database(self.path, partitions=1)
        store, stream = SqliteStore(database), SqliteStream(database)
        await store.start()
        await asyncio.gather(*(store.put(key, body) for key, body in self.load.objects.items()))
        self.load.objects.clear()
        await stream.publish(records)
        await stream.stop()

    def query(self, sql: str, *parameters: object) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, parameters).fetchall()

    def answered(self) -> int:
        return int(self.query("SELECT count(*) FROM records WHERE topic = 'results'")[0][0])

    def document(self, name: str) -> Any:
        return json.loads(self.query("SELECT body FROM objects WHERE key = ?", f"workflows/{name}.json")[0][0])

    def status(self, name: str) -> str:
        return str(self.document(name)["state"]["status"])

    def waited_for_a_core_seconds(self) -> float:
        """How long the worker's loop was ready to run while others had the cores: no matter of the worker."""
        assert self._worker is not None
        return int(Path(f"/proc/{self._worker.pid}/schedstat").read_text().split()[1]) / 1e9

    def said(self, event: str) -> bool:
        return event in self._log.read_text()

    def until(self, what: Callable[[], bool], seconds: float) -> None:
        """Wait for it, at most so long."""
        ends = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < ends, f"not within {seconds} s: {self._log.read_text()[-2000:]}"
            time.sleep(0.05)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    try:
        yield stack
    finally:
        stack.end(signal.SIGKILL)
        stack.load.end()


def command(kind: str, name: str, **data: Any) -> Outgoing:
    return message(kind, f"evaluation/{name}", {"evaluation_id": name, **data}, RANDOM)


def updates(stack: Stack) -> list[Outgoing]:
    """5,000 updates over 100 keys, each of which changes something."""
    names = [str(uuid4()) for _ in range(KEYS)]
    for name in names:
        stack.record(name)
    return [command("workflow.update", names[i % KEYS], phase=f"phase {i}") for i in range(UPDATES)]


def verdicts(stack: Stack, text: str = "") -> list[Any]:
    """The verdicts in which this text stands, each as often as it was published."""
    sql = "SELECT value FROM records WHERE topic = 'results' AND instr(value, ?)"
    return [json.loads(value) for (value,) in stack.query(sql, text.encode())]


def each_once(stack: Stack) -> bool:
    """No command record has two verdicts."""
    places = [headers for (headers,) in stack.query("SELECT headers FROM records WHERE topic = 'results'")]
    return len(set(places)) == len(places)


def test_updates_of_other_keys_pass_a_cancel_of_30_s(stack: Stack) -> None:
    name = stack.evaluation("trap 'trap \"\" TERM; sleep 30' TERM; while :; do sleep 99 & wait; done", fresh_uid())
    stack.start()
    stack.publish([command("evaluation.cancel", name, grace_period_seconds=60)])
    stack.until(lambda: stack.status(name) == "cancelling", 10)
    began, waited_seconds = time.monotonic(), stack.waited_for_a_core_seconds()
    stack.publish(updates(stack))
    stack.until(lambda: stack.answered() >= UPDATES, 30)
    waited_seconds = stack.waited_for_a_core_seconds() - waited_seconds
    assert time.monotonic() - began - waited_seconds < 10
    assert stack.status(name) == "cancelling"
    assert Counter(verdict["code"] for verdict in verdicts(stack)) == {"updated": UPDATES}
    assert each_once(stack)


def test_after_kill_9_among_the_updates_none_is_told_twice_and_the_cancel_keeps_its_deadline(stack: Stack) -> None:
    name = stack.evaluation("trap '' TERM; exec sleep 9999", fresh_uid())
    stack.start()
    stack.publish([command("evaluation.cancel", name, grace_period_seconds=3600, deadline_seconds=15)])
    stack.until(lambda: stack.status(name) == "cancelling", 10)
    [intent] = stack.document(name)["state"]["open"]
    stack.publish(updates(stack))
    stack.until(lambda: stack.answered() >= UPDATES // 4, 10)
    stack.end(signal.SIGKILL)
    assert stack.answered() < UPDATES
    stack.start()
    stack.until(lambda: stack.answered() > UPDATES, 30)
    stack.end(signal.SIGTERM)

    assert each_once(stack)
    [cancel] = verdicts(stack, name)
    assert (cancel["code"], cancel["decided_at"]) == ("cancelled", intent["decided_at"])
    assert cancel["receipt"]["resources"][0]["escalations"]
    early = datetime.fromisoformat(intent["deadline_at"]) - datetime.fromisoformat(cancel["finished_at"])
    assert timedelta(0) < early < timedelta(seconds=6)  # killed when two fifths at most were left of what was stored


def test_at_512_unfinished_cancels_the_partition_waits_says_so_and_goes_on(stack: Stack) -> None:
    """One process is the Job of all of them, so that all end when it does."""
    uid = fresh_uid()
    names = [stack.evaluation("trap '' TERM; exec sleep 9999", uid), *(str(uuid4()) for _ in range(511))]
    other = str(uuid4())
    for name in names[1:]:
        stack.record(name, uid)
    stack.record(other)
    cancels = [command("evaluation.cancel", name, grace_period_seconds=3600, deadline_seconds=600) for name in names]
    stack.publish([*cancels, command("workflow.update", other, phase="behind the bound")])
    stack.start()
    stack.until(lambda: all(stack.status(name) == "cancelling" for name in names), 20)
    assert stack.said("partition.full")
    time.sleep(0.5)
    assert stack.answered() == 0  # the update is not even taken in
    stack.load.end()
    stack.until(lambda: stack.answered() == len(names) + 1, 20)
    assert stack.said("partition.resumed")
    assert Counter(verdict["code"] for verdict in verdicts(stack)) == {"cancelled": len(names), "updated": 1}
    assert each_once(stack)
