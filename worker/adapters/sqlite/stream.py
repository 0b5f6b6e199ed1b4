"""What an API tier does, on the same file, beside a running worker: publish commands, read any topic."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from worker.adapters.sqlite import records
from worker.adapters.sqlite.database import Database
from worker.ports import Outgoing, Record, Topic

READ_MAX = 500
POLL_SECONDS = 0.02


class SqliteStream:
    """The event stream over one file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, outgoing: Sequence[Outgoing]) -> Sequence[tuple[int, int]]:
        self._database.open()
        partitions = self._database.partitions
        return await self._database.write(lambda c: records.append(c, outgoing, partitions))

    async def bounds(self, topic: Topic) -> Mapping[int, tuple[int, int]]:
        self._database.open()
        return records.bounds(self._database, topic)

    async def read(self, topic: Topic, start: Mapping[int, int], *, follow: bool) -> AsyncIterator[Record]:
        self._database.open()
        ends = {p: end for p, (_, end) in records.bounds(self._database, topic).items()}
        at = dict(start)
        while True:
            found = False
            for partition in sorted(at):
                limit = READ_MAX if follow else min(READ_MAX, ends.get(partition, 0) - at[partition])
                for record in records.read(self._database, topic, partition, at[partition], max(0, limit)):
                    found, at[partition] = True, record.offset + 1
                    yield record
            if not found:
                if not follow:
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        self._database.close()
