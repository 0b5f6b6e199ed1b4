"""How much of everything a run has, and which faults in which order: all of it follows from size and seed."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """What is done to a run."""

    KILL = "worker killed (-9)"
    FREEZE = "worker frozen past its session, thawed"
    BROKER = "broker killed and restarted"
    STORE = "S3 server killed and restarted"
    API = "API server killed and restarted"
    CUT_LOG = "connection to Kafka cut mid-answer"
    CUT_STORE = "connection to S3 cut mid-answer"
    CUT_API = "connection to the API server cut mid-answer"


NEEDED = 2
"""How often each kind has to strike while work was in flight."""


@dataclass(frozen=True, slots=True)
class Size:
    """Commands, aggregates by sort, and how often each kind of fault is tried."""

    commands: int
    evaluations: int
    with_jobs: int
    sessions: int
    turns: int
    creations: int
    orgs: int
    stories_at_once: int
    unanswered_max: int
    faults: dict[Kind, int]

    @property
    def aggregates(self) -> int:
        return self.evaluations + self.sessions + self.turns + self.creations + self.orgs


FULL = Size(
    commands=20_000,
    evaluations=1650,
    with_jobs=220,
    sessions=130,
    turns=100,
    creations=100,
    orgs=20,
    stories_at_once=150,
    unanswered_max=400,
    faults={
        Kind.KILL: 10,
        Kind.FREEZE: 4,
        Kind.BROKER: 5,
        Kind.STORE: 6,
        Kind.API: 6,
        Kind.CUT_LOG: 6,
        Kind.CUT_STORE: 6,
        Kind.CUT_API: 6,
    },
)
SMALL = Size(
    commands=2000,
    evaluations=165,
    with_jobs=40,
    sessions=12,
    turns=11,
    creations=10,
    orgs=2,
    stories_at_once=60,
    unanswered_max=300,
    faults=dict.fromkeys(Kind, NEEDED),
)


def order(random: Random, size: Size) -> list[Kind]:
    """All faults of a run, mixed; no two of a kind in a row where that can be had."""
    kinds = [kind for kind, count in size.faults.items() for _ in range(count)]
    random.shuffle(kinds)
    for i in range(1, len(kinds)):
        if kinds[i] is kinds[i - 1]:
            j = next((j for j in range(i + 1, len(kinds)) if kinds[j] is not kinds[i]), i)
            kinds[i], kinds[j] = kinds[j], kinds[i]
    return kinds
