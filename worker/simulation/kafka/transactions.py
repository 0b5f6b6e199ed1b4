"""The transaction coordinator: who may write under a transactional id, and what becomes of what was written.

Whoever initialises an id fences all others that use it, and ends what they left open.  The end of a transaction has no
epoch of its own, so that a late one ends whatever is open by then (facts: K2, K3, K5, K7).  Faults: F7, F8, F10, F14.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from aiokafka import errors
from aiokafka.structs import TopicPartition

from worker.simulation.kafka.partition import PartitionLog
from worker.simulation.world import World

SWEEP_SECONDS = 10.0
"""How often is looked for transactions that took too long."""
MARKERS_SECONDS = (0.0005, 0.006)
SLOW_MARKERS_SECONDS = (0.05, 3.0)
STORM_SECONDS = (0.05, 4.0)

Position = tuple[int, str]
"""Offset and metadata."""


class Ended(NamedTuple):
    """A transaction that was decided: when, whose, how, with which records and positions."""

    seconds: float
    transactional_id: str
    epoch: int
    committed: bool
    records: tuple[tuple[str, int, int], ...]
    """Topic, partition, offset."""
    positions: tuple[tuple[str, TopicPartition, Position], ...]
    """Group, partition, position."""


@dataclass(slots=True)
class Transactional:
    """A transactional id; `state` is that of its last transaction."""

    name: str
    producer_id: int
    epoch: int = -1
    state: Literal["none", "open", "committing", "aborting", "committed", "aborted"] = "none"
    timeout_seconds: float = 0.0
    began_seconds: float = 0.0
    storm_until_seconds: float = 0.0
    partitions: dict[TopicPartition, None] = field(default_factory=dict)
    groups: dict[str, None] = field(default_factory=dict)
    positions: dict[tuple[str, TopicPartition], Position] = field(default_factory=dict)

    @property
    def ending(self) -> bool:
        return self.state in ("committing", "aborting")


class Transactions:
    """All ids; `decided` is told the positions of a transaction that was committed."""

    def __init__(
        self,
        world: World,
        logs: Mapping[TopicPartition, PartitionLog],
        timestamp: Callable[[], int],
        decided: Callable[[str, TopicPartition, Position], None],
    ) -> None:
        self.history: list[Ended] = []
        self._world, self._faults = world, world.faults
        self._logs, self._timestamp, self._decided = logs, timestamp, decided
        self._chance = world.random("kafka/transactions")
        self._ids: dict[str, Transactional] = {}
        self._by_producer: dict[int, Transactional] = {}
        self._producers = 0
        self._sweeping = False

    # ------------------------------------------------------------------------------ requests

    def fresh_producer(self) -> tuple[int, int]:
        """-> id and epoch of a producer without transactions."""
        self._producers += 1
        return self._producers, 0

    def init(self, name: str, timeout_seconds: float) -> tuple[int, int]:
        """Everybody else with this id is fenced.  -> producer id and epoch.

        Raises ConcurrentTransactions while an earlier transaction is being ended.
        """
        used = self._ids.get(name)
        if used is None:
            used = self._ids[name] = Transactional(name, self.fresh_producer()[0])
            self._by_producer[used.producer_id] = used
        if self._storms(used) or used.ending:
            raise errors.ConcurrentTransactions
        if used.state == "open":
            self._fence(used)
            raise errors.ConcurrentTransactions
        used.epoch += 1
        used.timeout_seconds = timeout_seconds
        used.state = "none"
        return used.producer_id, used.epoch

    def add(self, name: str, producer_id: int, epoch: int, partitions: list[TopicPartition], group: str = "") -> None:
        """A transaction is about to write there; the first of these begins it.

        Raises InvalidProducerIdMapping, InvalidProducerEpoch, ConcurrentTransactions.
        """
        used = self._checked(name, producer_id, epoch)
        if self._storms(used) or used.ending:
            raise errors.ConcurrentTransactions
        if used.state != "open":
            used.state = "open"
            used.began_seconds = self._world.now
            self._sweep_later()
        used.partitions.update(dict.fromkeys(partitions))
        if group:
            used.groups[group] = None

    def verify(self, producer_id: int, epoch: int, partition: TopicPartition) -> None:
        """Unless a transaction may begin to write there: raises InvalidProducerEpoch, InvalidTxnState."""
        used = self._of_producer(producer_id, epoch)
        if used.state != "open" or partition not in used.partitions:
            raise errors.InvalidTxnState

    def commit_positions(
        self, group: str, producer_id: int, epoch: int, positions: Mapping[TopicPartition, Position]
    ) -> None:
        """They count once the transaction is committed; who is a member of the group is not asked (K2).

        Raises InvalidProducerEpoch, InvalidTxnState.
        """
        used = self._of_producer(producer_id, epoch)
        if used.state != "open" or group not in used.groups:
            raise errors.InvalidTxnState
        used.positions.update({(group, partition): position for partition, position in positions.items()})

    def end(self, name: str, producer_id: int, epoch: int, *, commit: bool) -> None:
        """Raises InvalidProducerIdMapping, InvalidProducerEpoch, InvalidTxnState, ConcurrentTransactions."""
        used = self._checked(name, producer_id, epoch)
        match used.state:
            case "open":
                self._decide(used, commit=commit)
            case "committing" | "aborting" if (used.state == "committing") == commit:
                raise errors.ConcurrentTransactions
            case "committed" if commit:
                pass
            case "aborted" if not commit:
                pass
            case _:
                raise errors.InvalidTxnState

    # ------------------------------------------------------------------------------

    def _checked(self, name: str, producer_id: int, epoch: int) -> Transactional:
        used = self._ids.get(name)
        if used is None or used.producer_id != producer_id:
            raise errors.InvalidProducerIdMapping
        if used.epoch == epoch:
            self._strike(used)
        if used.epoch != epoch:
            raise errors.InvalidProducerEpoch
        return used

    def _of_producer(self, producer_id: int, epoch: int) -> Transactional:
        used = self._by_producer[producer_id]
        if used.epoch != epoch:
            raise errors.InvalidProducerEpoch
        return used

    def _strike(self, used: Transactional) -> None:
        """Somebody else has initialised the id a moment ago (F7), or the coordinator has had enough (F10)."""
        if used.state == "open" and self._faults.strikes("F10"):
            self._fence(used)
        elif not used.ending and self._faults.strikes("F7"):
            if used.state == "open":
                self._fence(used)
            else:
                used.epoch += 1

    def _storms(self, used: Transactional) -> bool:
        """F8: for a while every answer is that the last transaction is still being ended."""
        if self._faults.strikes("F8"):
            used.storm_until_seconds = self._world.now + self._faults.source("F8").uniform(*STORM_SECONDS)
        return self._world.now < used.storm_until_seconds

    def _fence(self, used: Transactional) -> None:
        """Abort what is open, under an epoch that its producer does not have."""
        used.epoch += 1
        self._world.note("kafka", "fences", f"{used.name} epoch {used.epoch}")
        self._decide(used, commit=False)

    def _decide(self, used: Transactional, *, commit: bool) -> None:
        """The decision is durable; markers follow, and only they make it seen."""
        used.state = "committing" if commit else "aborting"
        seconds = self._chance.uniform(*MARKERS_SECONDS)
        if commit and used.positions and self._faults.strikes("F14"):
            seconds = self._faults.source("F14").uniform(*SLOW_MARKERS_SECONDS)
        self._world.after(seconds, lambda: self._mark(used, commit=commit))

    def _mark(self, used: Transactional, *, commit: bool) -> None:
        timestamp = self._timestamp()
        records = tuple(
            (partition.topic, partition.partition, offset)
            for partition in used.partitions
            for offset in self._logs[partition].mark(used.producer_id, used.epoch, timestamp, committed=commit)
        )
        positions = tuple((group, partition, position) for (group, partition), position in used.positions.items())
        if commit:
            for each in positions:
                self._decided(*each)
        self.history.append(Ended(self._world.now, used.name, used.epoch, commit, records, positions))
        self._world.note("kafka", "commits" if commit else "aborts", f"{used.name} epoch {used.epoch} {positions}")
        used.partitions, used.groups, used.positions = {}, {}, {}
        used.state = "committed" if commit else "aborted"

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._world.after(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Abort what took too long (F10): its producer hears that it is fenced (K3)."""
        self._sweeping = False
        for used in self._ids.values():
            if used.state == "open":
                if self._world.now - used.began_seconds > used.timeout_seconds:
                    self._faults.met("F10")
                    self._fence(used)
                else:
                    self._sweep_later()
