"""A consumer that looks alive and gets nothing (K13): seen by its positions against the ends of the log.

Its tasks say nothing, they run.  Knows nothing of what is done about it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from worker.adapters.kafka.calling import calling
from worker.adapters.kafka.position import bounds
from worker.errors import AssignmentLost, Transient
from worker.settings import KafkaSettings

LOOKS_PER_STALL = 6


async def watch(
    consumer: AIOKafkaConsumer,
    expecting: Callable[[], Sequence[TopicPartition]],
    fetches: Callable[[], int],
    settings: KafkaSettings,
) -> NoReturn:
    """Look at the partitions that are `expecting` records, again and again; `fetches`: as `Watchdog.look` has it.

    Raises AssignmentLost where the consumer looks alive and gets nothing.
    """
    clock = asyncio.get_running_loop().time
    watchdog = Watchdog(settings.stall_timeout_seconds)
    while True:
        await asyncio.sleep(settings.stall_timeout_seconds / LOOKS_PER_STALL)
        try:
            at = await _standing(consumer, list(expecting()), settings.request_timeout_seconds)
        except Transient:
            watchdog.forget()
            continue
        if stalled := watchdog.look(clock(), fetches(), at):
            raise AssignmentLost(f"the consumer looks alive: {stalled}")


async def _standing(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], timeout_seconds: float
) -> dict[int, tuple[int, int]]:
    """-> {partition: (where its reader stands, where it ends)}.  Raises Unavailable."""
    found = await bounds(consumer, partitions, timeout_seconds) if partitions else {}
    at: dict[int, tuple[int, int]] = {}
    for partition, (_, last) in found.items():
        if partition in consumer.assignment():
            async with calling("read the position", timeout_seconds):
                at[partition.partition] = (await consumer.position(partition), last)
    return at


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a partition stood, and since when, with something left to get."""

    position: int
    since_seconds: float
    fetches: int


class Watchdog:
    """Looked at again and again; times are seconds of one monotonic clock."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._marks: dict[int, _Mark] = {}

    def look(self, now_seconds: float, fetches: int, at: Mapping[int, tuple[int, int]]) -> str | None:
        """`at`: {partition that should get records: (position, end)}; `fetches`: how often was fetched so far.

        -> what stands still for too long, for people; a partition that nobody fetched meanwhile does not count.
        """
        before, self._marks = self._marks, {}
        for partition, (position, end) in sorted(at.items()):
            if position >= end:
                continue
            mark = before.get(partition)
            if mark is None or mark.position != position:
                mark = _Mark(position, now_seconds, fetches)
            self._marks[partition] = mark
            seconds = now_seconds - mark.since_seconds
            if seconds >= self._timeout_seconds and fetches > mark.fetches:
                return f"partition {partition} stands at {position} of {end} for {seconds:.0f} s, and gets nothing"
        return None

    def forget(self) -> None:
        """The broker did not answer: what stands still may be its fault."""
        self._marks.clear()
