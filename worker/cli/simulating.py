"""`worker simulate`: many seeds on all cores, with a bar on a terminal, and in the end what struck and what broke."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from worker.cli.exits import Exit
from worker.cli.printing import columns, say
from worker.settings import load
from worker.simulation.faults import CATALOGUE, Plan, read_plan
from worker.simulation.kept import kept
from worker.simulation.outcome import Case, Outcome, Scale, Total
from worker.simulation.pool import outcomes
from worker.simulation.shrinking import shrink

FAILURES_TOLD_MAX = 3
"""Failing seeds that are shrunk and told; of the others the seed is named."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    seeds: int
    seed: int
    workers: int
    commands: int
    faults: Path | None
    jobs: int | None


async def simulate(asked: Asked, *, as_json: bool) -> Exit:
    """Raises Misconfigured."""
    return await asyncio.to_thread(_simulate, asked, as_json)


def _simulate(asked: Asked, as_json: bool) -> Exit:
    settings = load()
    plan = read_plan(asked.faults) if asked.faults else Plan()
    scale = Scale(workers=asked.workers, commands=asked.commands)
    cases = [Case(str(asked.seed + number), plan, scale) for number in range(asked.seeds)]
    first = [] if asked.faults else [each.case for each in kept()]
    jobs = min(asked.jobs or os.cpu_count() or 1, len(first) + len(cases)) or 1
    began = time.monotonic()
    whole = Total()
    for outcome in _with_bar(outcomes(chain(first, cases), settings, jobs), len(first) + len(cases)):
        whole.add(outcome)
    seconds = time.monotonic() - began
    say([json.dumps(_figures(whole, seconds, jobs))] if as_json else _lines(whole, seconds, jobs))
    if not whole.failed:
        return Exit.DONE
    if not as_json:
        for failed in whole.failed[:FAILURES_TOLD_MAX]:
            say(_told(failed, shrink(failed, lambda case: next(outcomes([case], settings, 1)))))
    return Exit.NO


def _with_bar(results: Iterable[Outcome], count: int) -> Iterator[Outcome]:
    """On a terminal, on standard error; elsewhere nothing is shown."""
    if not sys.stderr.isatty():
        yield from results
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("seeds", total=count)
        for outcome in results:
            bar.update(task, advance=1, description=f"seeds, {outcome.records} records in the last")
            yield outcome


def _figures(whole: Total, seconds: float, jobs: int) -> dict[str, object]:
    return {
        "seeds": whole.seeds,
        "records": whole.records,
        "verdicts": whole.verdicts,
        "violations": sum(len(failed.violations) for failed in whole.failed),
        "failed": [{"seed": each.case.seed, "violations": each.violations} for each in whole.failed],
        "faults": {fault: whole.faults[fault] for fault in CATALOGUE},
        "seconds": round(seconds, 3),
        "simulated_seconds": round(whole.simulated_seconds),
        "seeds_per_second_and_core": round(whole.seeds / seconds / jobs, 3),
    }


def _lines(whole: Total, seconds: float, jobs: int) -> Iterator[str]:
    yield from columns([(fault, f"{whole.faults[fault]:>7}", CATALOGUE[fault].text) for fault in CATALOGUE])
    rate = whole.seeds / seconds / jobs
    yield (
        f"{whole.seeds} seeds, {whole.records} command records, {whole.verdicts} verdicts, "
        f"{whole.simulated_seconds / 3600:.1f} hours simulated in {seconds:.1f} s: {rate:.2f} seeds a second and core"
    )
    violations = sum(len(failed.violations) for failed in whole.failed)
    yield f"{violations} violations" + (f" in {len(whole.failed)} seeds" if violations else "")


def _told(failed: Outcome, smallest: Outcome) -> Iterator[str]:
    """A failing seed, what is left of it after shrinking, and the story of what broke."""
    case = smallest.case
    yield ""
    yield f"seed {failed.case.seed}: {failed.violations[0]}"
    present = [fault for fault in CATALOGUE if case.plan.rate(fault) > 0]
    yield (
        f"  smallest: {case.scale.commands} commands, {case.scale.workers} workers, faults "
        f"{', '.join(present) or 'none'}"
    )
    for violation in smallest.violations:
        yield f"  {violation}"
    for line in smallest.story:
        yield f"  {line}"
