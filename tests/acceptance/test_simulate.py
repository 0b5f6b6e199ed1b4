"""`worker simulate` as a black box: what it prints, what it ends with, and a bug that it finds, shrinks and tells."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def simulate(*flags: str, tree: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """The command, with the worker of a tree."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    environment |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", "from worker.cli import main; main()", "simulate", *flags]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_a_run_without_a_violation_ends_with_zero_and_tells_what_struck() -> None:
    done = simulate("--seeds", "3", "--commands", "30", "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:40]] == [f"F{number}" for number in range(1, 41)]
    assert lines[-1] == "0 violations"


def test_for_machines_it_is_one_object(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("version = 1\n[rates]\nF2 = 0.5\nF3 = 0.0\n")
    done = simulate("--seeds", "2", "--commands", "20", "--jobs", "1", "--faults", str(plan), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert (figures["seeds"], figures["violations"], figures["failed"]) == (2, 0, [])
    assert figures["faults"]["F2"] > 10
    assert figures["faults"]["F3"] == 0
    assert figures["seeds_per_second_and_core"] > 0


@pytest.mark.parametrize(("text", "said"), [("[rates]\nF41 = 1\n", "rates.F41"), (None, "No such file")])
def test_a_plan_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, said: str) -> None:
    plan = tmp_path / "plan.toml"
    if text:
        plan.write_text(text)
    done = simulate("--seeds", "1", "--faults", str(plan))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_broken_promise_is_found_made_smaller_and_told(tmp_path: Path) -> None:
    """A worker that passes over unfinished commands, as after a crash nobody would answer them."""
    for package in ("worker", "schemas"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "worker" / "runtime" / "position.py"
    patch = ROOT / "tests" / "mutants" / "06-unfinished-passed-over.patch"
    before = file.read_text()
    git = shutil.which("git") or "git"
    subprocess.run([git, "apply", "-C1", "--recount", str(patch)], cwd=tmp_path, check=True)
    assert file.read_text() != before
    done = simulate("--seeds", "3", "--commands", "40", "--jobs", "2", tree=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stdout[done.stdout.index("violations in") :]
    assert "smallest: " in told
    assert "I5" in told or "I1" in told
    assert "worker-0.0" in told
