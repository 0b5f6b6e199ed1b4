"""The consumer, a member of a group or a reader of what it is told to: as much of aiokafka's as the adapter uses.

Fault: F15.  Knows nothing of how partitions are shared, and of how records are fetched.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.structs import TopicPartition

from worker.simulation.kafka.broker import Broker
from worker.simulation.kafka.fetching import CONSUMED_SECONDS, Fetching
from worker.simulation.kafka.link import Link
from worker.simulation.kafka.members import Assignment
from worker.simulation.kafka.membership import Membership, Settings
from worker.simulation.kafka.transactions import Position
from worker.simulation.service import never


class ConsumerModel:
    """Stands for `AIOKafkaConsumer`: with `settings` a member of a group."""

    def __init__(
        self, broker: Broker, client_id: str, timeout_seconds: float, settings: Settings | None = None
    ) -> None:
        self.assigned: Assignment = ()
        self._broker, self._settings = broker, settings
        self._link = Link(broker, client_id, timeout_seconds)
        self._topics: tuple[str, ...] = ()
        self._listener: Any = None
        self._coordinator: Membership | None = None
        self._fetcher: Fetching | None = None
        self._moving = settings is not None
        self._there = asyncio.Event()
        self._failure: BaseException | None = None
        self._askers = 0
        self._clock = asyncio.get_running_loop().time
        self._asked_seconds = self._clock()
        self._closed = False

    # ------------------------------------------------------------------------------ life

    def subscribe(self, topics: Iterable[str], listener: Any = None) -> None:
        """Before the start; the listener is told of partitions that come and go."""
        self._topics, self._listener = tuple(topics), listener

    async def start(self) -> None:
        """A member returns once it has its partitions.  Raises KafkaConnectionError, KafkaError."""
        await self._link.bootstrap()
        self._fetcher = Fetching(self._link, self._committed, may_go_deaf=self._settings is not None)
        if self._settings is not None:
            self._coordinator = Membership(self._link, self._settings, self._topics, self._listener, self)
            self._coordinator.start()
            await self._until_there()

    async def stop(self) -> None:
        """Leave the group, unless there is an instance id (K10)."""
        if self._closed:
            return
        self._closed = True
        if self._broker.faults.strikes("F15"):
            await never()
        if self._coordinator is not None:
            await self._coordinator.close()
        if self._fetcher is not None:
            await self._fetcher.close()

    # ------------------------------------------------------------------------------ partitions come and go

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """These, and no others."""
        self.assigned = tuple(sorted(partitions))
        self._fetching.assign(self.assigned)
        self._moving = False
        self._there.set()

    def hold(self) -> None:
        """Partitions move: nothing is delivered until they are there."""
        self._moving = True
        self._there.clear()

    def fail(self, error: BaseException) -> None:
        """There will be no assignment."""
        self._failure = error
        self._there.set()
        self._fetching.arrived.set()

    @property
    def idle_seconds(self) -> float:
        """Since somebody last asked for records."""
        return 0.0 if self._askers else self._clock() - self._asked_seconds

    async def _committed(self, places: list[TopicPartition]) -> dict[TopicPartition, Position]:
        return {} if self._coordinator is None else await self._coordinator.committed(places)

    async def _until_there(self) -> None:
        await self._there.wait()
        if self._failure is not None:
            raise self._failure

    # ------------------------------------------------------------------------------ partitions that are there

    def assignment(self) -> set[TopicPartition]:
        return set(self.assigned)

    def paused(self) -> set[TopicPartition]:
        return {place for place, state in self._fetching.places.items() if state.paused}

    def pause(self, *partitions: TopicPartition) -> None:
        """What was fetched already is dropped where it would be delivered.  Raises IllegalStateError."""
        for place in partitions:
            self._fetching.at(place).paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        """Raises IllegalStateError."""
        for place in partitions:
            self._fetching.at(place).paused = False
        self._fetching.stir()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Raises IllegalStateError, ValueError."""
        if offset < 0:
            raise ValueError("Offset must be a positive integer")
        state = self._fetching.at(partition)
        state.position, state.page = offset, None
        self._fetching.stir()

    async def position(self, partition: TopicPartition) -> int:
        """The next offset to be delivered, once it is known.  Raises IllegalStateError."""
        while True:
            position = self._fetching.at(partition).position
            if position is not None:
                return position
            self._check()
            await asyncio.sleep(CONSUMED_SECONDS)

    @property
    def _fetching(self) -> Fetching:
        assert self._fetcher is not None, "not started"
        return self._fetcher

    def _check(self) -> None:
        if self._coordinator is not None:
            self._coordinator.check()

    # ------------------------------------------------------------------------------ bounds

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Raises KafkaTimeoutError."""
        return {place: first for place, (first, _) in (await self._bounds(partitions)).items()}

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """For readers of committed data: the last stable offset.  Raises KafkaTimeoutError."""
        return {place: last for place, (_, last) in (await self._bounds(partitions)).items()}

    async def _bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        places = list(partitions)
        detail = " ".join(f"{place.topic}:{place.partition}" for place in places)
        try:
            async with asyncio.timeout(self._link.timeout_seconds):
                while True:
                    try:
                        return await self._link.ask("ListOffsets", lambda: self._broker.bounds(places), detail)
                    except errors.KafkaError as error:
                        if not error.retriable:
                            raise
                        await self._link.back_off()
        except TimeoutError as error:
            raise errors.KafkaTimeoutError("Failed to get offsets by times") from error

    # ------------------------------------------------------------------------------ records

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        """The time-out does not count while partitions move.

        Raises ConsumerStoppedError, OffsetOutOfRangeError, NoOffsetForPartitionError, what ended the membership.
        """
        assert not partitions, "the adapters ask for all"
        if self._closed:
            raise errors.ConsumerStoppedError
        self._check()
        self._askers += 1
        try:
            return await self._delivered(timeout_ms / 1000, max_records)
        finally:
            self._askers -= 1
            self._asked_seconds = self._clock()

    async def _delivered(self, timeout_seconds: float, max_records: int | None) -> dict[TopicPartition, list[Any]]:
        fetcher = self._fetching
        while True:
            if self._moving:
                await self._until_there()
            began_seconds = self._clock()
            fetcher.arrived.clear()
            if found := fetcher.take(max_records):
                return found
            try:
                async with asyncio.timeout(timeout_seconds):
                    await fetcher.arrived.wait()
            except TimeoutError:
                return {}
            if self._closed:
                return {}
            timeout_seconds = max(0.0, timeout_seconds - (self._clock() - began_seconds))
