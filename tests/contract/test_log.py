"""The contract of CommandLog over the embedded file; the integration tier has it over a real broker."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.suites.log import PARTITIONS, LogContract, World
from worker.adapters.sqlite import Database, SqliteLog, SqliteStream
from worker.ports import CommandLog, EventStream


class Sqlite:
    exclusive = True

    def __init__(self, folder: Path) -> None:
        self._path = folder / "worker.db"
        self._database = Database(self._path, partitions=PARTITIONS)
        self.log: CommandLog = SqliteLog(self._database)
        self.stream: EventStream = SqliteStream(self._database)
        self.source = (
            "from pathlib import Path; from worker.adapters.sqlite import Database, SqliteLog, SqliteStream; "
            f"database = Database(Path({str(self._path)!r}), partitions={PARTITIONS}); "
            "log, stream = SqliteLog(database), SqliteStream(database)"
        )

    def another(self) -> CommandLog:
        return SqliteLog(self._database)

    async def trim(self, partition: int, before: int) -> None:
        sql = "DELETE FROM records WHERE topic = 'commands' AND partition = ? AND \"offset\" < ?"
        await self._database.write(lambda connection: connection.execute(sql, (partition, before)).rowcount)


class TestSqlite(LogContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[World]:
        world = Sqlite(tmp_path)
        yield world
        await world.log.stop()
        await world.stream.stop()
