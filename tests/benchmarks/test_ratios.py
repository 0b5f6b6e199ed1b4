"""Units of this machine, measured in the same run, and the figures as multiples of them.

A ratio says more than a rate: it can be compared between machines, and between a busy and an idle one.  Runs last, as
it needs what the other files measured; alone, it measures the units only.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from schemas.documents import Document
from tests.benchmarks import load
from tests.benchmarks.report import Report

COMMANDS = 256
BODY = b"x" * 1024
SECONDS = 1.0


def test_sqlite_alone(report: Report, tmp_path: Path) -> None:
    """Appends of 1 KiB with WAL and synchronous FULL, as the embedded stack has them: each with its own fsync."""
    with closing(sqlite3.connect(tmp_path / "raw.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE appended (n INTEGER PRIMARY KEY, body BLOB NOT NULL)")

        def append(rows: int) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO appended (body) VALUES (?)", [(BODY,)] * rows)
            connection.execute("COMMIT")

        report.add("sqlite alone: appends with an fsync each", 1 / seconds_of(lambda: append(1)), "per second")
        report.add("sqlite alone: appends with an fsync per 500", 500 / seconds_of(lambda: append(500)), "per second")
    raw = report.value("sqlite alone: appends with an fsync each")
    for name, value in measured(report, "commands"):
        report.add(f"ratio: {name} / appends with an fsync each", value / raw, "")


async def test_document_alone(report: Report) -> None:
    """One document validated from its JSON and dumped again, after one command and with a full memory."""
    ports = load.in_memory()
    await load.create_documents(ports.store, range(2))
    filling = [load.update(i, 1) for i in range(2, COMMANDS)]
    await load.decide_all(ports, [load.update(0, 0), *filling], [load.update(1, 1)])
    for name, n in (("after one command", 0), ("with a full memory", 1)):
        stored = await ports.store.load(load.document_key(n))
        assert stored is not None, "it was created"
        seconds = seconds_of(partial(validate_and_dump, stored.body), time.process_time)
        report.add(f"document alone, {name}: size", len(stored.body) / 1024, "KiB")
        report.add(f"document alone, {name}: CPU to validate and dump", seconds * 1e3, "ms")
    unit = report.value("document alone, after one command: CPU to validate and dump")
    for name, value in measured(report, "CPU of a command"):
        report.add(f"ratio: {name} / validate and dump", value / unit, "")


def validate_and_dump(body: bytes) -> str:
    return Document.model_validate_json(body).model_dump_json()


def measured(report: Report, what: str) -> list[tuple[str, float]]:
    """Figures of this run by the end of their names."""
    return [(figure.name, figure.value) for figure in report.figures if figure.name.endswith(f": {what}")]


def seconds_of(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, on average over at least a second of that clock."""
    began, calls = clock(), 0
    while (spent := clock() - began) < SECONDS:
        call()
        calls += 1
    return spent / calls
