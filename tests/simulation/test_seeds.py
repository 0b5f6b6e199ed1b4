"""Many seeds, all faults: no promise breaks; those that ever failed run first.

How many follows from SIMULATED_SEEDS; the default is what must pass before a change lands.
"""

import json
import os
import subprocess
import sys
from itertools import chain

from worker.settings import Settings
from worker.simulation.faults import CATALOGUE, Plan
from worker.simulation.kept import kept
from worker.simulation.outcome import Case, total
from worker.simulation.pool import outcomes

SEEDS = int(os.environ.get("SIMULATED_SEEDS", "1000"))
DIFFERENT_FAULTS = 38
"""Of forty; each comes in a tenth of the seeds or more, so a thousand of them miss none but by a fault of ours."""


def test_no_promise_breaks_in_any_seed() -> None:
    cases = chain((each.case for each in kept()), (Case(str(seed), Plan()) for seed in range(SEEDS)))
    whole = total(outcomes(cases, Settings(), os.cpu_count() or 1))
    assert {failed.case.seed: failed.violations for failed in whole.failed} == {}
    assert whole.records >= 100 * SEEDS
    assert len([fault for fault in CATALOGUE if whole.faults[fault] > 0]) >= DIFFERENT_FAULTS


def trace_hashes(hash_seed: str) -> list[str]:
    """Of three seeds, in a process of its own."""
    script = """
import json
from worker.settings import Settings
from worker.simulation.faults import Plan
from worker.simulation.outcome import Case, Scale
from worker.simulation.simulation import simulate
print(json.dumps([simulate(Case(str(seed), Plan(), Scale(3, 60)), Settings()).trace_hash for seed in range(3)]))
"""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    hashes: list[str] = json.loads(done.stdout)
    return hashes


def test_the_same_seed_gives_the_same_trace_in_every_process() -> None:
    first, second = trace_hashes("1"), trace_hashes("2")
    assert first == second
    assert len(set(first)) == 3
