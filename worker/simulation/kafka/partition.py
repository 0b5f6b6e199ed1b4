"""The log of one partition: records, markers, what is decided of them, and whose turn it is to write.

As in Kafka a marker takes an offset, nothing behind an open transaction is shown, and a producer's batches come in the
order of its sequence numbers, once (facts: K1, K7, K15).  Knows nothing of clients and of who decides.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka import errors
from aiokafka.structs import TopicPartition

Headers = tuple[tuple[str, bytes], ...]
NO_PRODUCER = -1
BATCHES_REMEMBERED = 5
"""Of each producer, so that one sent again is answered as it was."""
BATCH_BYTES = 61
"""Of a batch beside its records."""


class Content(NamedTuple):
    """A record as it is sent."""

    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(slots=True)
class Stored:
    """What an offset holds: a record, or a marker; `aborted` None: not decided."""

    offset: int
    timestamp: int
    """Milliseconds of wall clock, the broker's own."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    marker: bool = False
    aborted: bool | None = False


class Batch(NamedTuple):
    """Records of one producer for one partition; `sequence` is the first one's."""

    producer_id: int
    epoch: int
    sequence: int
    transactional: bool
    records: Sequence[Content]


@dataclass(slots=True)
class Writer:
    """What a partition knows of a producer."""

    epoch: int
    last: int = -1
    """Sequence of its last record under this epoch; -1: none."""
    recent: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=BATCHES_REMEMBERED))
    """First sequence, count, offset of its last batches."""


class PartitionLog:
    """Offsets are indexes: what retention removes is kept, and no longer shown."""

    def __init__(self, name: TopicPartition, batch_bytes_max: int) -> None:
        self.name, self.batch_bytes_max = name, batch_bytes_max
        self.start = 0
        self.committed: list[Stored] = []
        """Records that readers of committed data see, in order; those before `start`, too."""
        self.waiting: list[Callable[[], None]] = []
        """Called, once, as soon as there is more to see."""
        self._entries: list[Stored] = []
        self._decided = 0
        self._open: dict[int, list[Stored]] = {}
        self._writers: dict[int, Writer] = {}

    @property
    def end(self) -> int:
        """The offset after the last entry."""
        return len(self._entries)

    @property
    def stable(self) -> int:
        """The first offset of the oldest transaction that is open; else the end."""
        for undecided in self._open.values():
            return undecided[0].offset
        return len(self._entries)

    def append(self, records: Sequence[Content], timestamp: int) -> int:
        """-> the first one's offset."""
        first = len(self._entries)
        for offset, (key, value, headers) in enumerate(records, first):
            self._entries.append(Stored(offset, timestamp, key, value, headers))
        self._show()
        return first

    def write(self, batch: Batch, timestamp: int) -> int:
        """-> the first one's offset, the same for a batch that comes again.

        Raises InvalidProducerEpoch, OutOfOrderSequenceNumber, MessageSizeTooLargeError.
        """
        writer = self._writers.get(batch.producer_id)
        if writer is not None:
            if batch.epoch < writer.epoch:
                raise errors.InvalidProducerEpoch
            if batch.epoch == writer.epoch:
                for first, count, offset in writer.recent:
                    if (first, count) == (batch.sequence, len(batch.records)):
                        return offset
            if batch.sequence != (writer.last + 1 if batch.epoch == writer.epoch else 0):
                raise errors.OutOfOrderSequenceNumber
        if BATCH_BYTES + sum(map(record_bytes, batch.records)) > self.batch_bytes_max:
            raise errors.MessageSizeTooLargeError
        if writer is None or writer.epoch != batch.epoch:
            writer = self._writers[batch.producer_id] = Writer(batch.epoch)
        offset = len(self._entries)
        writer.last = batch.sequence + len(batch.records) - 1
        writer.recent.append((batch.sequence, len(batch.records), offset))
        if not batch.transactional:
            return self.append(batch.records, timestamp)
        undecided = self._open.setdefault(batch.producer_id, [])
        for number, (key, value, headers) in enumerate(batch.records, offset):
            entry = Stored(number, timestamp, key, value, headers, aborted=None)
            self._entries.append(entry)
            undecided.append(entry)
        return offset

    def is_writing(self, producer_id: int) -> bool:
        """Whether it has an open transaction here."""
        return producer_id in self._open

    def mark(self, producer_id: int, epoch: int, timestamp: int, *, committed: bool) -> list[int]:
        """A transaction is decided: a marker is written, with the epoch from now on.  -> offsets of its records."""
        writer = self._writers.get(producer_id)
        if writer is None or writer.epoch != epoch:
            self._writers[producer_id] = Writer(epoch)
        undecided = self._open.pop(producer_id, [])
        for entry in undecided:
            entry.aborted = not committed
        self._entries.append(Stored(len(self._entries), timestamp, None, None, (), marker=True))
        self._show()
        return [entry.offset for entry in undecided]

    def trim(self, before: int) -> None:
        """As retention does."""
        self.start = max(self.start, min(before, self.end))

    def read(self, offset: int, bytes_max: int) -> tuple[list[Stored], int]:
        """-> committed records from there on, one at least where there are some, and where to go on.

        Raises OffsetOutOfRangeError.
        """
        if not self.start <= offset <= self.end:
            raise errors.OffsetOutOfRangeError
        found: list[Stored] = []
        left, at, stable = bytes_max, offset, self.stable
        while at < stable and left > 0:
            entry = self._entries[at]
            at += 1
            if not entry.marker and not entry.aborted:
                found.append(entry)
                left -= len(entry.value or b"") + len(entry.key or b"")
        return found, at

    def _show(self) -> None:
        stable = self.stable
        if stable == self._decided:
            return
        for entry in self._entries[self._decided : stable]:
            if not entry.marker and not entry.aborted:
                self.committed.append(entry)
        self._decided = stable
        waiting, self.waiting = self.waiting, []
        for wake in waiting:
            wake()


def record_bytes(record: Content) -> int:
    """Of a record in a batch, as far as its place in it does not matter."""
    size = 3 + _sized(record.key) + _sized(record.value) + _varint(len(record.headers))
    for name, value in record.headers:
        size += _sized(name.encode()) + _sized(value)
    return size + _varint(size)


def _sized(part: bytes | None) -> int:
    return 1 if part is None else _varint(len(part)) + len(part)


def _varint(number: int) -> int:
    """Bytes of a number that is not negative."""
    return max(1, ((2 * number).bit_length() + 6) // 7)
