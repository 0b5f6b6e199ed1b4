"""What is asked of a simulation, and what came of it: values that travel between processes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from worker.simulation.faults import Plan


@dataclass(frozen=True, slots=True)
class Scale:
    """How large one simulation is."""

    workers: int = 3
    commands: int = 100
    partitions: int = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One simulation: the same case gives the same trace, on every machine, as long as the code is the same."""

    seed: str
    plan: Plan
    scale: Scale = Scale()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case; `violations` are invariants that did not hold, `story` is told where there are any."""

    case: Case
    records: int
    verdicts: int
    faults: dict[str, int]
    simulated_seconds: float
    trace_hash: str
    violations: tuple[str, ...] = ()
    story: tuple[str, ...] = ()


@dataclass(slots=True)
class Total:
    """Of many outcomes."""

    seeds: int = 0
    records: int = 0
    verdicts: int = 0
    simulated_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.records += outcome.records
        self.verdicts += outcome.verdicts
        self.simulated_seconds += outcome.simulated_seconds
        self.faults.update(outcome.faults)
        if outcome.violations:
            self.failed.append(outcome)


def total(outcomes: Iterable[Outcome]) -> Total:
    """All of them together."""
    whole = Total()
    for outcome in outcomes:
        whole.add(outcome)
    return whole
