"""What a simulation leaves behind, as plain values: all that the invariants look at.  Knows no model and no worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Coordinates = tuple[int, int]
"""Partition and offset of a command record."""
Kind = Literal["job", "task", "turn"]
CLOCK_SECONDS = 0.001
"""A record's time is a whole number of milliseconds."""


class Published(NamedTuple):
    """A record that readers of committed data see; `seconds` since the simulation began."""

    offset: int
    seconds: float
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Position(NamedTuple):
    """Where the group stands in a partition."""

    offset: int
    metadata: str


class Write(NamedTuple):
    """A write that the store applied; `body` None: a delete."""

    seconds: float
    process: str
    key: str
    body: bytes | None


class Touch(NamedTuple):
    """Something that a worker asked to stop, when the request was carried out; a pod is touched as its Job."""

    seconds: float
    process: str
    kind: Kind
    identity: str
    """Uid of a Job (or of the owner above it), id of a task or turn."""


class Transaction(NamedTuple):
    """A transaction that has ended."""

    seconds: float
    transactional_id: str
    epoch: int
    committed: bool
    records: tuple[tuple[str, int, int], ...]
    """Topic (without prefix), partition, offset of each."""
    positions: tuple[tuple[int, Position], ...]
    """By input partition."""


class Violation(NamedTuple):
    """An invariant that does not hold; `key` is the aggregate's, where it is about one."""

    invariant: str
    key: str
    text: str
    at: Coordinates | None = None

    def __str__(self) -> str:
        where = f" (record {self.at[0]}:{self.at[1]})" if self.at else ""
        return f"{self.invariant} {self.key or '-'}: {self.text}{where}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one simulation, while it runs or `at_rest`: faults over, and nothing left to do."""

    topics: Mapping[str, Sequence[Sequence[Published]]]
    """By topic without prefix: each partition's committed records, in offset order."""
    positions: Mapping[int, Position]
    """Of the commands' partitions, where there is one."""
    objects_before: Mapping[str, bytes]
    """What was in the store before the first command."""
    writes: Sequence[Write]
    """In the order in which they were applied."""
    objects: Mapping[str, bytes]
    """What is in the store."""
    transactions: Sequence[Transaction] = ()
    """In the order in which they ended."""
    touched: Sequence[Touch] = ()
    """By workers, in order; what the cluster deletes by itself is not of them."""
    running: Sequence[tuple[Kind, str]] = ()
    """What truly runs, by identity: Jobs with a pod alive; tasks and turns of which the other side never said that
    they had ended (where it lies, nobody can know)."""
    ended_at: Mapping[tuple[Kind, str], float] = field(default_factory=dict)
    """When each of those that ever ran had truly ended, or its other side first said so; `inf`: never."""
    rebuilt: Mapping[str, str] = field(default_factory=dict)
    """By aggregate: hash of the state that a rebuild from the audit topic gives."""
    disturbed: Sequence[str] = ()
    """Processes that have slept, or whose clock has jumped."""
    bystanders: Sequence[str] = ()
    """Uids of Jobs that no command is about."""
    tasks: int = 0
    """Tasks that are left in the processes."""
    tasks_baseline: int = 0
    """Tasks of processes that have nothing to do."""
    memory_commands: int = 128
    """Answered commands that a document remembers at least."""
    at_rest: bool = True
