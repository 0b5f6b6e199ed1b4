"""A failing case made smaller: fewer commands, fewer workers, fewer kinds of faults, as long as it still fails.

Chance has a source per concern, so that most of what is left stays as it was.  Knows nothing of why it fails.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from worker.simulation.faults import CATALOGUE
from worker.simulation.outcome import Case, Outcome

TRIES_MAX = 120


def shrink(failed: Outcome, run: Callable[[Case], Outcome], tries_max: int = TRIES_MAX) -> Outcome:
    """-> the outcome of the smallest case found that breaks one of the same invariants."""
    broken = _names(failed)
    tries = 0
    smaller = True
    while smaller and tries < tries_max:
        smaller = False
        for case in _smaller(failed.case):
            tries += 1
            outcome = run(case)
            if broken & _names(outcome):
                failed, smaller = outcome, True
                break
            if tries >= tries_max:
                break
    return failed


def _names(outcome: Outcome) -> set[str]:
    """The invariants that were broken."""
    return {violation.split(" ", 1)[0] for violation in outcome.violations}


def _smaller(case: Case) -> Iterator[Case]:
    """The boldest first."""
    scale = case.scale
    for part in (2, 4 / 3, 10 / 9):
        if int(scale.commands / part) < scale.commands and scale.commands > 1:
            yield replace(case, scale=replace(scale, commands=max(1, int(scale.commands / part))))
    if scale.workers > 1:
        yield replace(case, scale=replace(scale, workers=scale.workers - 1))
    present = [fault for fault in CATALOGUE if case.plan.rate(fault) > 0]
    size = len(present) // 2
    while size >= 1:
        for start in range(0, len(present), size):
            yield replace(case, plan=case.plan.without(*present[start : start + size]))
        size //= 2
