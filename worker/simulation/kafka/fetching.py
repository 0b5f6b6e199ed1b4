"""Where a consumer reads, and the task that fetches ahead for it.

Positions are looked for as soon as partitions are there, what was fetched for another position or a paused partition is
dropped, and errors wait for whoever asks next, as in aiokafka (facts: K4, K13).  Fault: F16.  Knows nothing of groups.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import errors
from aiokafka.structs import ConsumerRecord, TopicPartition

from worker.simulation.kafka.broker import Page, Pages, Poll
from worker.simulation.kafka.link import Link
from worker.simulation.kafka.partition import Stored
from worker.simulation.kafka.transactions import Position

PATIENCE_SECONDS = 4.0
"""How long one fetch waits at most; the real one asks again every 0.2 s, to the same effect."""
CONSUMED_SECONDS = 0.1
"""While something waits to be consumed, nothing more is fetched for so long."""
LOG_APPEND_TIME = 1

Locate = Callable[[list[TopicPartition]], Awaitable[dict[TopicPartition, Position]]]


@dataclass(slots=True)
class Place:
    """An assigned partition; `page` is fetched and not consumed, or an error that waits for whoever asks."""

    position: int | None = None
    paused: bool = False
    page: Page | errors.KafkaError | None = None
    page_at: int = -1
    """The position that the page was fetched for."""


Places = dict[TopicPartition, Place]


class Fetching:
    """Of one consumer.  `locate` says where its group stands; `may_go_deaf`: it may look alive and get nothing."""

    def __init__(self, link: Link, locate: Locate, *, may_go_deaf: bool) -> None:
        self.places: Places = {}
        self.arrived = asyncio.Event()
        """There may be something to be taken."""
        self._link, self._broker, self._locate = link, link.broker, locate
        self._patience_seconds = min(PATIENCE_SECONDS, link.timeout_seconds / 2)
        self._may_go_deaf, self._deaf = may_go_deaf, False
        self._changed = asyncio.Event()
        self._poll: Poll | None = None
        self._task = asyncio.create_task(self._fetch_all())

    async def close(self) -> None:
        """Whoever waits hears of it."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self.arrived.set()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """What was fetched before is gone."""
        self.places = {place: Place() for place in partitions}
        self.stir()

    def stir(self) -> None:
        """What is to be fetched has changed."""
        self._changed.set()
        if self._poll is not None:
            self._poll.hurry()

    def at(self, partition: TopicPartition) -> Place:
        """Raises IllegalStateError where it is not assigned."""
        if partition not in self.places:
            raise errors.IllegalStateError(f"No current assignment for partition {partition}")
        return self.places[partition]

    # ------------------------------------------------------------------------------ what was fetched

    def take(self, max_records: int | None) -> dict[TopicPartition, list[Any]]:
        """Partition by partition; raises an error that waits, where it is the first there is."""
        found: dict[TopicPartition, list[Any]] = {}
        for place, state in self.places.items():
            if state.page is None:
                continue
            if isinstance(state.page, errors.KafkaError):
                if found:
                    break
                error, state.page = state.page, None
                self.stir()
                raise error
            if records := self._consumed(state, state.page, max_records):
                found[place] = [_record(place, each) for each in records]
                if max_records is not None:
                    max_records -= len(records)
                    if not max_records:
                        break
        return found

    def _consumed(self, state: Place, page: Page, max_records: int | None) -> list[Stored]:
        """The rest stays; where the partition was paused or sought meanwhile, all of it is dropped."""
        records, after = page
        if state.paused or state.position != state.page_at:
            state.page = None
            self.stir()
            return []
        taken = records if max_records is None else records[:max_records]
        if len(taken) < len(records):
            state.position = state.page_at = taken[-1].offset + 1
            state.page = (records[len(taken) :], after)
        else:
            state.position, state.page = after, None
            self.stir()
        return taken

    # ------------------------------------------------------------------------------ the task that fetches

    async def _fetch_all(self) -> None:
        while True:
            self._changed.clear()
            places = self.places
            if missing := [place for place, at in places.items() if at.position is None and at.page is None]:
                await self._find(places, missing)
                continue
            wanted = {
                place: state.position
                for place, state in places.items()
                if state.page is None and not state.paused and state.position is not None
            }
            if not wanted or any(state.page is not None for state in places.values()):
                await self._until_changed(CONSUMED_SECONDS if wanted else None)
                if self._changed.is_set():
                    continue
            await self._fetch(places, wanted)

    async def _find(self, places: Places, missing: list[TopicPartition]) -> None:
        """From the group's position; there is no other way to begin (`auto_offset_reset` none)."""
        committed = await self._locate(missing)
        for place in missing:
            state = places[place]
            if state.position is not None:
                continue  # somebody has sought meanwhile
            if place in committed:
                state.position = committed[place][0]
            else:
                state.page = errors.NoOffsetForPartitionError(place)
                self.arrived.set()

    async def _fetch(self, places: Places, wanted: dict[TopicPartition, int]) -> None:
        detail = " ".join(f"{place.topic}:{place.partition}@{offset}" for place, offset in wanted.items())
        try:
            answer = await self._link.ask("Fetch", lambda: self._broker.fetch(wanted, self._patience_seconds), detail)
            if isinstance(answer, Poll):
                answer = await self._polled(answer)
        except errors.KafkaError:
            await self._link.back_off()
            return
        if places is self.places:
            self._got(places, wanted, answer)

    async def _polled(self, poll: Poll) -> Pages:
        self._poll = poll
        try:
            if self._changed.is_set():
                poll.hurry()
            return await poll.answer()
        finally:
            self._poll = None

    def _got(self, places: Places, wanted: dict[TopicPartition, int], pages: Pages) -> None:
        if pages and self._may_go_deaf and not self._deaf:
            self._deaf = self._broker.faults.strikes("F16")
        if self._deaf:
            return
        for place, page in pages.items():
            state = places[place]
            if state.position != wanted[place]:
                continue  # somebody has sought meanwhile
            if isinstance(page, errors.OffsetOutOfRangeError):
                state.page = errors.OffsetOutOfRangeError({place: wanted[place]})
            elif isinstance(page, errors.KafkaError):
                continue
            else:
                state.page, state.page_at = page, wanted[place]
            self.arrived.set()

    async def _until_changed(self, timeout_seconds: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._changed.wait()
        except TimeoutError:
            return


def _record(place: TopicPartition, stored: Stored) -> Any:
    """As the client gives it."""
    key, value = stored.key, stored.value
    return ConsumerRecord(
        topic=place.topic,
        partition=place.partition,
        offset=stored.offset,
        timestamp=stored.timestamp,
        timestamp_type=LOG_APPEND_TIME,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=-1 if key is None else len(key),
        serialized_value_size=-1 if value is None else len(value),
        headers=stored.headers,
    )
