"""What every benchmark gets: the report of this run, and log lines that are made but thrown away."""

# ruff: noqa: T201  # a benchmark prints

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.report import Report
from worker.telemetry import logs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """Collects figures; at the end they are printed, and written to `BENCH_FILE` (.bench/<commit>.json)."""
    collected = Report(ROOT, seed=int(os.environ.get("BENCH_SEED", "1")))
    print(collected.header())
    yield collected
    path = Path(os.environ.get("BENCH_FILE") or ROOT / ".bench" / f"{collected.commit}.json")
    collected.write(path)
    print(f"\n{collected.table()}\nwritten to {path}")


@pytest.fixture(scope="session", autouse=True)
def _lines_to_nowhere() -> Iterator[None]:
    """The worker's log lines are made as in production, and thrown away."""
    with Path(os.devnull).open("w") as nowhere:
        with contextlib.redirect_stdout(nowhere):
            logs.configure("json")
        yield
