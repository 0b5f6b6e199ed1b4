"""The catalogues of log events and metrics are what is really seen, both ways, while the demo runs."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from worker.telemetry import logs, metrics

ROOT = Path(__file__).parents[2] / "worker"
METHODS = ("debug", "info", "warning", "error")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run of the demo leaves behind: worker.log and metrics.txt."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "worker.demo", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_events_of_ordinary_work_are_those_of_the_catalogue(demo: Path) -> None:
    lines = [json.loads(line) for line in (demo / "worker.log").read_text().splitlines()]
    seen = {line["event"] for line in lines}
    assert seen >= set(logs.ORDINARY)
    assert seen <= set(logs.CATALOGUE)


def test_each_command_has_one_canonical_line(demo: Path) -> None:
    lines = [json.loads(line) for line in (demo / "worker.log").read_text().splitlines()]
    answered = [(line["partition"], line["offset"]) for line in lines if line["event"] == "command.answered"]
    assert len(answered) == len(set(answered)) > 60
    fields = {"type", "code", "outcome", "http_status", "seconds", "partition", "offset"}
    assert all(fields <= line.keys() for line in lines if line["event"] == "command.answered")


def test_the_metrics_served_are_those_of_the_catalogue(demo: Path) -> None:
    served = (demo / "metrics.txt").read_text().splitlines()
    names = {line.split()[2].removesuffix("_total") for line in served if line.startswith("# TYPE")}
    assert names == set(metrics.catalogue())


def test_ordinary_work_moves_every_metric_but_those_of_trouble(demo: Path) -> None:
    samples = [line for line in (demo / "metrics.txt").read_text().splitlines() if not line.startswith("#")]
    moved = {line.split("{")[0].split()[0] for line in samples if float(line.rsplit(maxsplit=1)[1]) != 0}
    for name in (
        "commands_answered_total",
        "dead_letters_total",
        "effects_total",
        "transactions_total",
        "assignments_total",
    ):
        assert f"worker_{name}" in moved, name
    for name in ("bugs_total", "positions_unreadable_total", "partitions_stopped", "document_conflicts_total"):
        assert f"worker_{name}" not in moved, name


def test_every_event_that_the_source_names_is_in_the_catalogue_and_the_other_way_round() -> None:
    assert named_events() == set(logs.CATALOGUE)


def named_events() -> set[str]:
    """First arguments of `log.info(...)` and its like, and of the shop's `bug(...)`."""
    found: set[str] = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            logged = node.func.attr in METHODS and isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
            first = node.args[0]
            if (logged or node.func.attr == "bug") and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found
