"""The document store as a table; a version is a hash of the bytes, as S3's ETag is (A, B, A repeats it)."""

import hashlib
import sqlite3
from collections.abc import Sequence

from worker.adapters.sqlite.database import Database
from worker.errors import Conflict
from worker.ports import Stored, Unchanged


class SqliteStore:
    """Compare-and-set inside the one writer's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self) -> None:
        self._database.open()

    async def load(self, key: str) -> Stored | None:
        rows = self._database.read("SELECT body, version FROM objects WHERE key = ?", (key,))
        return Stored(*rows[0]) if rows else None

    async def load_if_changed(self, key: str, version: str) -> Stored | Unchanged | None:
        sql = "SELECT iif(version = ?, NULL, body), version FROM objects WHERE key = ?"
        rows = self._database.read(sql, (version, key))
        if not rows:
            return None
        return Unchanged() if rows[0][0] is None else Stored(*rows[0])

    async def create(self, key: str, body: bytes) -> str:
        version = _version(body)

        def run(connection: sqlite3.Connection) -> str:
            done = connection.execute("INSERT OR IGNORE INTO objects VALUES (?, ?, ?)", (key, version, body))
            if done.rowcount != 1:
                raise Conflict(f"{key} exists")
            return version

        return await self._database.write(run)

    async def replace(self, key: str, body: bytes, version: str) -> str:
        new = _version(body)

        def run(connection: sqlite3.Connection) -> str:
            sql = "UPDATE objects SET version = ?, body = ? WHERE key = ? AND version = ?"
            if connection.execute(sql, (new, body, key, version)).rowcount != 1:
                raise Conflict(f"{key} has another version")
            return new

        return await self._database.write(run)

    async def put(self, key: str, body: bytes) -> None:
        row = (key, _version(body), body)

        def run(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", row)

        await self._database.write(run)

    async def delete(self, keys: Sequence[str]) -> None:
        rows = [(key,) for key in keys]

        def run(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM objects WHERE key = ?", rows)

        await self._database.write(run)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        # No UTF-8 has the byte 255, so prefix + 255 is above every key that begins so, and below every other later one.
        sql = "SELECT key FROM objects WHERE key >= ? AND key > ? AND key < CAST(? AS TEXT) ORDER BY key LIMIT ?"
        return [row[0] for row in self._database.read(sql, (prefix, after, prefix.encode() + b"\xff", limit))]

    async def stop(self) -> None:
        self._database.close()


def _version(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
