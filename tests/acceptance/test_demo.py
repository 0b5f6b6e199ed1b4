"""The demo as its users run it, and the parts of it that say whether something went wrong."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.base import Coordinates
from schemas.commands import OPERATIONS
from schemas.receipts import Receipt
from schemas.verdicts import Verdict, VerdictAggregate, VerdictCommand
from worker.demo.cast import RUNNING, SURVIVORS
from worker.demo.census import RUN_MARKER, THING_MARKER, census, kill_all
from worker.demo.judging import Answer, Check, differences
from worker.demo.report import Report
from worker.demo.scenario import SCENES
from worker.demo.step import Expected

WORKER = Path(sys.executable).with_name("worker")


def test_the_demo_cancels_real_things_and_finds_that_nothing_is_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [WORKER, "demo", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["ok"], said["failures"]) == (True, [])
    assert len(said["commands"]) >= 24
    assert {command["type"] for command in said["commands"]} == set(OPERATIONS)
    assert all(check["holds"] for check in said["checks"])
    assert census(said["run"]) == {}
    assert list(tmp_path.iterdir()) == []


def test_every_thing_of_the_scenario_has_a_fate() -> None:
    targets = {step.target for scene in SCENES for step in scene.steps}
    assert targets >= RUNNING
    assert RUNNING > SURVIVORS


def test_without_a2a_sdk_one_line_says_what_to_install() -> None:
    program = "import asyncio, sys; sys.modules['a2a'] = None; from worker.demo import run_demo; "
    program += "sys.exit(asyncio.run(run_demo(json=False)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the demo needs its extra: pip install 'verdict-worker[demo]'\n"


NOW = datetime(2026, 1, 31, tzinfo=UTC)
CANCELLED = Verdict(
    id="verdict-1",
    outcome="applied",
    code="cancelled",
    http_status=200,
    message="done",
    command=VerdictCommand(id="c1", type="evaluation.cancel", at=Coordinates(partition=0, offset=0)),
    aggregate=VerdictAggregate(
        type="evaluation", id="e1", version=2, status_before="running", status_after="cancelled"
    ),
    receipt=Receipt(evidence="stopped", objects_removed=3),
    received_at=NOW,
    decided_at=NOW,
    finished_at=NOW,
)
PROMISED = Expected(200, "cancelled", "stopped", "cancelled", objects_removed=3)


def test_a_verdict_as_promised_differs_in_nothing() -> None:
    assert list(differences(PROMISED, CANCELLED)) == []


@pytest.mark.parametrize(
    "promised",
    [
        replace(PROMISED, http_status=400),
        replace(PROMISED, code="updated"),
        replace(PROMISED, evidence="forced"),
        replace(PROMISED, evidence=None),
        replace(PROMISED, status_after="failed"),
        replace(PROMISED, processes_min=1),
        replace(PROMISED, escalations_min=1),
        replace(PROMISED, objects_removed=2),
        replace(PROMISED, would=True),
        replace(PROMISED, harness={"name": "writer"}),
    ],
)
def test_each_broken_promise_is_named(promised: Expected) -> None:
    assert len(list(differences(promised, CANCELLED))) == 1


def test_one_broken_promise_or_check_fails_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    step = SCENES[0].steps[0]
    good, bad = (Answer(step, "c1", (0, 0), CANCELLED, amiss) for amiss in ((), ("another status was promised",)))
    codes = []
    for answers, holds in (([good], True), ([good, bad], True), ([good], False)):
        report = Report("run-1", json=False)
        report.scene(SCENES[0], answers)
        report.check(Check("nothing is left", holds, "what was seen"))
        codes.append(report.close())
    assert codes == [0, 1, 1]
    said = capsys.readouterr().out
    assert "another status was promised" in said
    assert "failed: nothing is left: what was seen" in said


async def test_the_census_finds_descendants_and_leaves_none() -> None:
    run = os.urandom(8).hex()
    environment = os.environ | {RUN_MARKER: run, THING_MARKER: "family"}
    program = "setsid sleep 60 & sleep 60 & echo started; wait"
    process = await asyncio.create_subprocess_exec("sh", "-c", program, env=environment, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"started\n"
    assert len(census(run)["family"]) == 3
    await kill_all(run)
    assert census(run) == {}
    assert await process.wait() < 0
