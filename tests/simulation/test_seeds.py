"""Many seeds, all faults: no promise breaks; those that ever failed run first.

How many follows from SIMULATED_SEEDS; the default is what must pass before a change lands.
"""

import os
from itertools import chain

from worker.settings import Settings
from worker.simulation.faults import CATALOGUE, Plan
from worker.simulation.kept import kept
from worker.simulation.outcome import Case, total
from worker.simulation.pool import outcomes

SEEDS = int(os.environ.get("SIMULATED_SEEDS", "200"))
DIFFERENT_FAULTS = 38
"""Of forty; each comes in a tenth of the seeds or more, so a thousand of them miss none but by a fault of ours."""


def test_no_promise_breaks_in_any_seed() -> None:
    cases = chain((each.case for each in kept()), (Case(str(seed), Plan()) for seed in range(SEEDS)))
    whole = total(outcomes(cases, Settings(), os.cpu_count() or 1))
    assert {failed.case.seed: failed.violations for failed in whole.failed} == {}
    assert whole.records >= 100 * SEEDS
    assert len([fault for fault in CATALOGUE if whole.faults[fault] > 0]) >= DIFFERENT_FAULTS
