"""I13: the same seed gives the same trace, in another process and under another hash seed."""

import os
import subprocess
import sys

PROGRAM = """
from worker.settings import Settings
from worker.simulation.faults import CATALOGUE, Plan
from worker.simulation.outcome import Case, Scale
from worker.simulation.simulation import simulate

for seed in ("1", "2", "3"):
    outcome = simulate(Case(seed, Plan(), Scale(workers=3, commands=60)), Settings())
    print(seed, outcome.trace_hash, outcome.records, sorted(outcome.faults.items()))
"""


def traces(hash_seed: str) -> list[str]:
    """Of some seeds, in a process of their own: a line each."""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.splitlines()


def test_the_same_seed_gives_the_same_trace_in_another_process_and_under_another_hash_seed() -> None:
    one, other = traces("1"), traces("2")
    assert one == other
    assert len({line.split()[1] for line in one}) == 3
    assert all("'F" in line for line in one), "faults were on"
