"""What an API tier does, on the same file, beside a running worker: publish commands, read any topic."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice

from worker.adapters.sqlite import records
from worker.adapters.sqlite.database import Database
from worker.ports import Outgoing, Record, Topic

PUBLISH_MAX = 500  # of one transaction, so that other writers get their turn
READ_MAX = 500
POLL_SECONDS = 0.02


class SqliteStream:
    """The event stream over one file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, outgoing: Sequence[Outgoing]) -> Sequence[tuple[int, int]]:
        self._database.open()
        places: list[tuple[int, int]] = []
        for i in range(0, len(outgoing), PUBLISH_MAX):
            some = outgoing[i : i + PUBLISH_MAX]
            places += await self._database.write(
                partial(records.append, records=some, partitions=self._database.partitions)
            )
        return places

    async def restore(self, found: Iterable[Record]) -> int:
        """Put records of another log where they stood there; -> how many."""
        self._database.open()
        left, count = iter(found), 0
        while some := list(islice(left, PUBLISH_MAX)):
            await self._database.write(partial(records.restore, records=some))
            count += len(some)
        return count

    async def bounds(self, topic: Topic) -> Mapping[int, tuple[int, int]]:
        self._database.open()
        return records.bounds(self._database, topic)

    async def read(self, topic: Topic, start: Mapping[int, int], *, follow: bool) -> AsyncIterator[Record]:
        self._database.open()
        bounds = records.bounds(self._database, topic)
        at = dict(start)
        seen: int | None = None
        while True:
            if (changes := self._database.changes()) == seen:
                await asyncio.sleep(POLL_SECONDS)
                continue
            found = False
            for partition in sorted(at):
                end = records.NO_END if follow else bounds.get(partition, (0, 0))[1]
                for record in records.read(self._database, topic, partition, at[partition], READ_MAX, end=end):
                    found, at[partition] = True, record.offset + 1
                    yield record
            if not (found or follow):
                return
            seen = None if found else changes
            await asyncio.sleep(0)  # a reader that awaits nothing itself holds up the loop for a page only

    async def stop(self) -> None:
        self._database.close()
