"""Records that a producer has yet to send, in batches by partition, and the futures that tell what became of them.

A batch keeps the sequence number with which it was sent first, however often it is sent.  Knows nothing of requests.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import errors
from aiokafka.structs import RecordMetadata, TopicPartition

from worker.simulation.kafka.partition import Batch, Content


@dataclass(slots=True)
class Pending:
    """A batch of one partition; `sequence` once it was sent."""

    records: list[Content] = field(default_factory=list)
    futures: list["asyncio.Future[RecordMetadata]"] = field(default_factory=list)
    size: int = 0
    sequence: int | None = None


class Batches:
    """True while there is something to send."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._pending: dict[TopicPartition, deque[Pending]] = {}

    def __bool__(self) -> bool:
        return bool(self._pending)

    def begins_one(self, place: TopicPartition, size: int) -> bool:
        """Whether a record of so many bytes is the first of a new batch."""
        batches = self._pending.get(place)
        return not batches or batches[-1].sequence is not None or batches[-1].size + size > self._bytes_max

    def add(self, place: TopicPartition, content: Content, size: int) -> "asyncio.Future[RecordMetadata]":
        """-> what tells whether it was written, and where."""
        if self.begins_one(place, size):
            self._pending.setdefault(place, deque()).append(Pending())
        batch = self._pending[place][-1]
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        batch.records.append(content)
        batch.futures.append(future)
        batch.size += size
        return future

    def first(self, manager: Any) -> dict[TopicPartition, Batch]:
        """-> the first batch of each partition, under a sequence number that `manager` gives."""
        found: dict[TopicPartition, Batch] = {}
        for place, batches in self._pending.items():
            batch = batches[0]
            if batch.sequence is None:
                batch.sequence = int(manager.sequence_number(place))
                manager.increment_sequence_number(place, len(batch.records))
            transactional = manager.transactional_id is not None
            found[place] = Batch(
                manager.producer_id, manager.producer_epoch, batch.sequence, transactional, batch.records
            )
        return found

    def answered(self, place: TopicPartition, answer: int | errors.KafkaError) -> None:
        """The first batch of a partition is written, or never will be; after an error that passes it stays."""
        if isinstance(answer, errors.KafkaError) and answer.retriable:
            return
        batch = self._pending[place].popleft()
        if not self._pending[place]:
            del self._pending[place]
        if isinstance(answer, int):
            _done(batch, place, answer)
        else:
            _fail(batch, errors.ProducerFenced() if isinstance(answer, errors.InvalidProducerEpoch) else answer)

    def fail(self, error: BaseException) -> None:
        """None of them is sent any more."""
        for batches in self._pending.values():
            for batch in batches:
                _fail(batch, error)
        self._pending.clear()


def _done(batch: Pending, place: TopicPartition, offset: int) -> None:
    for number, future in enumerate(batch.futures, offset):
        if not future.done():
            future.set_result(RecordMetadata(place.topic, place.partition, place, number, -1, 0, 0))


def _fail(batch: Pending, error: BaseException) -> None:
    for future in batch.futures:
        if not future.done():
            future.set_exception(error)
            future.exception()  # an error that nobody looks at is the caller's fault, and silent


def shortened(records: Sequence[Content]) -> str:
    """How many, and a hash of what they say."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(repr(record).encode())
    return f"{len(records)}x{digest.hexdigest()[:12]}"
