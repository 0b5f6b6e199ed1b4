"""The play: raise the scenes one by one, then look at the processes, drain the worker, and clean up.

Knows nothing of how results are printed (report.py) or of what the things are (world.py).
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from worker.demo.cast import RUNNING, SURVIVORS
from worker.demo.census import census
from worker.demo.judging import Check
from worker.demo.publishing import Verdicts
from worker.demo.report import Report
from worker.demo.scenario import SCENES
from worker.demo.stage import Stage
from worker.demo.world import World


async def play(*, json: bool, folder: Path | None = None) -> int:
    """-> exit code: 0 all expectations held, 1 some did not.

    A given folder is kept, with what the processes said and the worker's last metrics; else a temporary one is taken,
    and kept only where something did not hold.
    """
    place = folder or Path(tempfile.mkdtemp(prefix="verdict-demo-"))
    world = World(place)
    report = Report(world.run, json=json)
    try:
        await _perform(world, report)
    finally:
        await world.end()
    if report.failures:
        report.say(f"what the processes said is kept in {place}")
    elif folder is None:
        shutil.rmtree(place)
    return report.close()


async def _everybody(run: str) -> dict[str, list[int]]:
    """The census once all are there: one that is between fork and exec shows no marker yet."""
    until = time.monotonic() + 2
    while True:
        found = census(run)
        if found.keys() >= RUNNING or time.monotonic() > until:
            return found
        await asyncio.sleep(0.05)


async def _perform(world: World, report: Report) -> None:
    began = time.monotonic()
    report.say("starting a worker, an A2A agent, an executor, and things to cancel")
    await world.start()
    before = await _everybody(world.run)
    report.say(f"{len(before) - 1} things, {sum(map(len, before.values()))} processes")
    verdicts = Verdicts(world.stream)
    await verdicts.start()
    try:
        stage = Stage(world, verdicts)
        for scene in SCENES:
            if world.worker_runs:
                report.scene(scene, await stage.scene(scene))
        report.check(Check("the worker still runs", world.worker_runs, "it does" if world.worker_runs else "it ended"))
        for check in (*_processes(before, census(world.run)), *await stage.settled()):
            report.check(check)
        if world.worker_runs:
            (world.folder / "metrics.txt").write_text(await world.metrics())
        code = await world.drain_worker()
        report.check(Check("it drains on SIGTERM", code == 0, f"exit code {code}"))
    finally:
        await verdicts.stop()
    report.seconds = time.monotonic() - began


def _processes(before: dict[str, list[int]], after: dict[str, list[int]]) -> Iterator[Check]:
    """Nothing cancelled is left; what was not cancelled still runs, the same processes as before."""
    missing = sorted(RUNNING - before.keys())
    yield Check("all of them ran in the beginning", not missing, ", ".join(missing) or f"{len(RUNNING)} things")
    left = sorted(after.keys() - SURVIVORS - {""})
    yield Check("nothing that was cancelled is left", not left, ", ".join(left) or "no process")
    touched = sorted(name for name in SURVIVORS if before.get(name) != after.get(name))
    yield Check("what was not cancelled still runs", not touched, ", ".join(touched or sorted(SURVIVORS)))
