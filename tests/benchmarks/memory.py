"""Log, stream and store as dicts and lists: next to no cost, so that what is left is the worker's own.

For measuring only: nothing is durable, nothing is fenced, nothing ever fails.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

from worker.errors import Conflict
from worker.partitioner import partition_of
from worker.ports import Assignment, Outgoing, PartitionOwner, Position, Record, Stored, Topic, Unchanged


class MemoryLog:
    """One assignment per partition, for ever; `published` counts what was committed, by topic."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.commands: list[list[Record]] = [[] for _ in range(partitions)]
        self.published = dict.fromkeys(Topic, 0)
        self._next: dict[int, int] = {}
        self._paused: set[int] = set()

    async def start(self, owner: PartitionOwner) -> None:
        for partition, records in enumerate(self.commands):
            await owner.assigned(Assignment(partition, 1, None, 0, len(records), self.partitions))

    async def fetch(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        for partition, start in self._next.items():
            if partition not in self._paused and (found := self.commands[partition][start : start + max_records]):
                self._next[partition] = start + len(found)
                return found
        await asyncio.sleep(min(timeout_seconds, 0.001))
        return []

    def seek(self, assignment: Assignment, offset: int) -> None:
        self._next[assignment.partition] = offset

    def pause(self, assignment: Assignment) -> None:
        self._paused.add(assignment.partition)

    def resume(self, assignment: Assignment) -> None:
        self._paused.discard(assignment.partition)

    async def commit(self, assignment: Assignment, records: Sequence[Outgoing], position: Position) -> None:
        for record in records:
            self.published[record.topic] += 1
        await asyncio.sleep(0)

    async def renew(self, assignment: Assignment) -> Assignment:
        raise AssertionError("no commit fails here")

    async def stop(self) -> None:
        self._next.clear()


class MemoryStream:
    """Publishes commands into the log beside it."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[tuple[int, int]]:
        now, places = datetime.now(UTC), []
        for record in records:
            partition = partition_of(record.key, self._log.partitions)
            log = self._log.commands[partition]
            places.append((partition, len(log)))
            log.append(Record(record.topic, *places[-1], now, record.key, record.value, record.headers))
        return places

    async def bounds(self, topic: Topic) -> Mapping[int, tuple[int, int]]:
        """All in partition 0: only the sum is asked for."""
        return {0: (0, self._log.published[topic])}

    def read(self, topic: Topic, start: Mapping[int, int], *, follow: bool) -> AsyncIterator[Record]:
        raise AssertionError("nothing is kept that could be read")

    async def stop(self) -> None: ...


class MemoryStore:
    """Objects in a dict; a version is a count of all writes."""

    def __init__(self) -> None:
        self._objects: dict[str, Stored] = {}
        self._writes = 0

    async def start(self) -> None: ...

    async def load(self, key: str) -> Stored | None:
        return self._objects.get(key)

    async def load_if_changed(self, key: str, version: str) -> Stored | Unchanged | None:
        stored = self._objects.get(key)
        return Unchanged() if stored is not None and stored.version == version else stored

    async def create(self, key: str, body: bytes) -> str:
        if key in self._objects:
            raise Conflict(f"{key} exists")
        return self._set(key, body)

    async def replace(self, key: str, body: bytes, version: str) -> str:
        stored = self._objects.get(key)
        if stored is None or stored.version != version:
            raise Conflict(f"{key} has another version")
        await asyncio.sleep(0)
        return self._set(key, body)

    async def put(self, key: str, body: bytes) -> None:
        self._set(key, body)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._objects.pop(key, None)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        return sorted(key for key in self._objects if key.startswith(prefix) and key > after)[:limit]

    async def stop(self) -> None: ...

    def _set(self, key: str, body: bytes) -> str:
        self._writes += 1
        self._objects[key] = Stored(body, str(self._writes))
        return self._objects[key].version
