"""What the lanes of one assignment share; it exists so that lanes and partition need not know each other."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from schemas.base import Coordinates
from schemas.commands import Aggregate
from schemas.observations import Observed
from worker.handler import Arrived, Handler
from worker.ports import Clock, DocumentStore, Ids
from worker.runtime.cache import Cache
from worker.runtime.committer import Committer
from worker.runtime.flight import Flight
from worker.sealing import Sealer

if TYPE_CHECKING:
    import asyncio

    from worker.runtime.lanes import Lane


class Shop(Protocol):
    """One assignment, as its lanes see it."""

    handler: Handler
    store: DocumentStore
    sealer: Sealer
    clock: Clock
    ids: Ids
    cache: Cache
    committer: Committer
    memory_commands: int

    def mark(self) -> int:
        """A number that grows with every fetch and every read."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run as part of this assignment: dropped with it, and its failure ends it."""

    def flight(self, report: Callable[[Observed], None]) -> Flight:
        """Effects for one lane."""

    def is_committed(self, at: Coordinates) -> bool:
        """Whether the record is of this partition, and its verdict known to be visible."""

    def lane_quiet(self, lane: "Lane") -> None:
        """The lane has nothing to decide now."""

    def answered(self, arrived: Arrived, code: str) -> None:
        """The verdict is committed: one canonical log line."""

    def outage(self, error: Exception, **where: object) -> None:
        """A dependency is away; the work is kept."""

    def repeated(self, aggregate: Aggregate, error: Exception) -> None:
        """A write lost, or does not know its outcome: the step is repeated."""

    def bug(self, event: str, error: Exception, **where: object) -> None:
        """Something unclassified was raised."""

    def bury(self, arrived: Arrived, error: Exception, committed: Callable[[], None]) -> None:
        """Dead letter and verdict for a record that met a bug; then calls `committed`."""
