"""How many seeds the simulator needs to find each deliberate bug.  `make mutants-simulated`.

Each patch is applied to a copy of the tree, and seeds are simulated there, one after another, up to the first that
breaks an invariant.  In the end every seed that has found something is simulated without any patch: there it must
find nothing.  A bug that is not found stays in the table, and is an error.  Some patches are those that tests must
notice, others stand in `simulated/`, and open with lines `must:` and `breaks:`; the diff follows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.__main__ import HERE, copy

SEEDS_MAX = 1000
TIMEOUT_SECONDS = 3600
"""Of one mutant."""
NICE = 10
FROM_THE_ISSUE = (
    "05-kafka-send-not-awaited",
    "06-unfinished-passed-over",
    "06-unfinished-set-dropped",
    "simulated/intent-after-effect",
    "simulated/conflict-is-a-verdict",
    "simulated/verdict-in-a-write-of-its-own",
    "01-terminal-status-left",
    "06-lane-out-of-order",
    "07-resume-forgets-a-joiner",
    "09-stale-refusal",
    "04-trimmed-before-the-commit",
    "simulated/drain-drops-work",
    "02-deadline-begins-again",
    "07-outage-dead-lettered",
    "simulated/receipt-without-evidence",
)
FROM_THE_DESIGN = (
    "03-no-barrier",
    "04-loaded-outbox-not-published",
    "05-memory-kept-across-a-renewal",
    "06-refusals-not-first",
    "08-blobs-after-the-write",
)
"""Chosen from the musts alone, before anybody had looked at what the simulator does."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one mutant; `seed` None: nothing was found."""

    name: str
    seed: int | None
    said: str
    seconds: float

    @property
    def line(self) -> str:
        seeds = f"{self.seed:>5}" if self.seed is not None else "NEVER"
        return f"{self.name:42} {seeds} seeds {self.seconds:7.1f} s  {self.said[:160]}"


def seek(first: int, last: int) -> tuple[int, str] | None:
    """The first seed of these that breaks something -> it, and what it breaks; runs inside of a copy of the tree."""
    from worker.settings import Settings
    from worker.simulation.faults import Plan
    from worker.simulation.outcome import Case
    from worker.simulation.simulation import simulate

    for seed in range(first, last + 1):
        try:
            violations = simulate(Case(str(seed), Plan()), Settings()).violations
        except Exception as error:  # noqa: BLE001  # a deadlock, or a bug that nothing has caught: found as well
            return seed, f"{type(error).__name__}: {error}"
        if violations:
            return seed, violations[0]
    return None


@contextmanager
def _tree(patch: Path | None) -> Iterator[Path]:
    """A copy of the tree, broken by the patch.  Raises CalledProcessError where it does not apply."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        copy(tree)
        if patch is not None:
            subprocess.run(["git", "apply", "--recount", "-C1", str(patch)], cwd=tree, capture_output=True, check=True)
        yield tree


def _seek_in(tree: Path, first: int, last: int) -> tuple[int, str] | None:
    """`seek` in a process of its own, with this tree's packages first on the path."""
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.mutants.simulated", "--seek", str(first), str(last)]
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    if done.returncode:
        raise SystemExit(f"seeds {first} to {last} could not be simulated:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return (found[0], found[1]) if found else None


def judge(name: str, seeds: int) -> Found:
    """One mutant, up to so many seeds."""
    began = time.monotonic()
    try:
        with _tree(HERE / f"{name}.patch") as tree:
            found = _seek_in(tree, 1, seeds)
    except subprocess.CalledProcessError as error:
        found, said = None, f"the patch does not apply: {error.stderr.decode().strip()}"
    except subprocess.TimeoutExpired:
        found, said = None, f"not within {TIMEOUT_SECONDS} s"
    else:
        said = "nothing was found" if found is None else found[1]
    return Found(name.rpartition("/")[2], found[0] if found else None, said, time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.simulated", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants to try; none: all")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="to try at most, of each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seek", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.seek:
        os.nice(NICE)
        print(json.dumps(seek(*arguments.seek)))
        return 0
    mutants = (*FROM_THE_ISSUE, *FROM_THE_DESIGN)
    chosen = [each for each in mutants if not arguments.names or each.rpartition("/")[2] in arguments.names]
    if len(chosen) < len(arguments.names):
        parser.error(f"there are {', '.join(each.rpartition('/')[2] for each in mutants)}")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = [pool.submit(judge, name, arguments.seeds) for name in chosen]
        for each in as_completed(running):
            print(each.result().line, flush=True)
    return _conclude([each.result() for each in running])


def _conclude(results: list[Found]) -> int:
    """The table, in the order of the lists above, and what is wrong with it; -> exit code."""
    print("\nbug, seeds until found:")
    for result in results:
        print(f"  {result.name:42} {'NEVER' if result.seed is None else result.seed:>5}")
    with _tree(None) as tree:
        blind = [seed for seed in sorted({each.seed for each in results if each.seed}) if _seek_in(tree, seed, seed)]
    for seed in blind:
        print(f"seed {seed} breaks something without any mutant: what it has found above says nothing")
    missed = sum(each.seed is None for each in results)
    print(f"{len(results)} mutants, {missed} not found")
    return 1 if missed or blind else 0


if __name__ == "__main__":
    sys.exit(main())
