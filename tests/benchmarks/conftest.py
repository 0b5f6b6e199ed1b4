"""What every benchmark gets: the report of this run, and log lines that are made but thrown away."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.report import Report, reporting
from worker.telemetry import logs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """Collects figures, prints and writes them."""
    with reporting(ROOT) as collected:
        yield collected


@pytest.fixture(scope="session", autouse=True)
def _lines_to_nowhere() -> Iterator[None]:
    """The worker's log lines are made as in production, and thrown away."""
    with Path(os.devnull).open("w") as nowhere:
        with contextlib.redirect_stdout(nowhere):
            logs.configure("json")
        yield
