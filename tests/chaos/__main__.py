"""`python -m tests.chaos [--small] [--seed N] [--keep]`: the run, what it counted, the checker's findings.

Exit code 1 where anything is wrong; what was left behind then stays in a folder: topics, objects, Jobs, logs.  2: the
servers cannot be had here.
"""

import argparse
import asyncio
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.acceptance.chaos import machine
from tests.chaos import plan
from tests.chaos.plan import Kind
from tests.chaos.play import Play
from tests.chaos.stage import Stage
from tests.services import container, engine, images

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, check, print; -> exit code."""
    parser = argparse.ArgumentParser(prog="chaos-services", description=__doc__)
    parser.add_argument("--small", action="store_true", help="the size of make test")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of workload and plan of faults")
    parser.add_argument("--keep", action="store_true", help="leave the folder, whatever was found")
    options = parser.parse_args(arguments)
    if not engine.answers() or not all(map(images.exists, (images.KAFKA, images.S3, images.KUBERNETES))):
        sys.stderr.write("no Docker engine, or an image is missing: make services\n")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="chaos-services-"))
    sys.stdout.write(f"chaos on real servers: seed {options.seed}; {machine()}\n")
    container.remove_leftovers()
    play = Play(plan.SMALL if options.small else plan.FULL, options.seed, folder)
    try:
        asyncio.run(played(play, folder))
    except BaseException:
        sys.stdout.write(f"the run was cut off; its logs are in {folder}\n")
        raise
    sys.stdout.write(report(play))
    sys.stdout.flush()
    found = checked(folder)
    if play.wrong or found:
        sys.stdout.writelines(f"FAILED: {wrong}\n" for wrong in play.wrong or ["the checker has found something"])
        sys.stdout.write(f"what is left is in {folder}\n")
        return 1
    if options.keep:
        sys.stdout.write(f"what is left is in {folder}\n")
    else:
        shutil.rmtree(folder)
    sys.stdout.write("passed\n")
    return 0


async def played(play: Play, folder: Path) -> None:
    """To its end, or until SIGTERM: either way nothing is left running."""
    task = asyncio.current_task()
    assert task is not None, "asyncio runs it as one"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await play.go(lambda stage: gathered(stage, folder))


async def gathered(stage: Stage, folder: Path) -> None:
    """As a process of its own, which can know nothing of the product; the servers still run."""
    (folder / "access.json").write_text(json.dumps(stage.access()))
    command = (sys.executable, "-m", "tests.chaos.gather", str(folder))
    ended = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    if code := await ended.wait():
        raise RuntimeError(f"gathering the evidence has failed with {code}")


def checked(folder: Path) -> int:
    """As a process of its own, without site packages."""
    command = [sys.executable, "-S", "-m", "tests.chaos.checker", str(folder)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def report(play: Play) -> str:
    """The counts of a run, as a table."""
    commands, struck = sum(play.published.values()), Counter(strike.kind for strike in play.faults.strikes)
    lines = [f"{commands} commands over {play.size.aggregates} aggregates, {len(play.jobs.uids)} real Jobs"]
    lines += [f"  {count:6} {kind}" for kind, count in sorted(play.published.items())]
    lines += ["faults: tried, struck while work was in flight"]
    lines += [f"  {struck[kind]:4} {play.faults.counted[kind]:4}  {kind}" for kind in Kind]
    during = Counter((strike.kind, strike.during) for strike in play.faults.strikes if strike.counts)
    lines += [f"       {count:4}  {kind}, {what}" for (kind, what), count in sorted(during.items())]
    ended = sum(play.fleet.ended.values())
    lines += [f"workers that ended by themselves and were started again: {ended}"]
    lines += [f"       {count:4}  {what}" for what, count in sorted(play.fleet.ended.items())]
    rate = commands / play.seconds if play.seconds else 0
    lines += [f"{play.tier.answered} verdicts in {play.seconds:.0f} s, {rate:.0f} commands/s"]
    lines += [f"longest time without any verdict while commands waited: {play.tier.silence_seconds:.1f} s"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
