"""The contract of EventStream over the embedded file; the integration tier has it over a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.suites.stream import PARTITIONS, StreamContract, World
from worker.adapters.sqlite import Database, SqliteLog, SqliteStream
from worker.ports import CommandLog, EventStream


class Sqlite:
    def __init__(self, folder: Path) -> None:
        path = folder / "worker.db"
        self.stream: EventStream = SqliteStream(Database(path, partitions=PARTITIONS))
        self._database = Database(path, partitions=PARTITIONS)
        self.log: CommandLog = SqliteLog(self._database)
        self.source = (
            "from pathlib import Path; from worker.adapters.sqlite import Database, SqliteStream; "
            f"stream = SqliteStream(Database(Path({str(path)!r}), partitions={PARTITIONS}))"
        )

    async def stop(self) -> None:
        await self.log.stop()
        await self.stream.stop()
        self._database.close()


class TestSqlite(StreamContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[World]:
        world = Sqlite(tmp_path)
        yield world
        await world.stop()
