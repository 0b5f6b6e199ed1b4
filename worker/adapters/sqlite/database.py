"""One SQLite file, one writer thread with group commit; reads happen in the caller's thread.

A write is a callable on the connection.  The thread takes all that is queued, runs it in one transaction with a
savepoint each (one that fails hurts no other), and answers only after the commit.  A process that dies before the
commit leaves nothing of the group; after it, all.  Knows nothing of topics or documents but their tables.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from worker.errors import Misconfigured, Unavailable

T = TypeVar("T")
BUSY_SECONDS = 10
GROUP_MAX = 1000
SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, milliseconds INTEGER NOT NULL,
    key BLOB, value BLOB, headers BLOB NOT NULL, PRIMARY KEY (topic, partition, "offset")) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ends (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, PRIMARY KEY (topic, partition)
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    partition INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, "offset" INTEGER, metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, version TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
"""


class _Write(NamedTuple):
    run: Callable[[sqlite3.Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"


class Database:
    """Open once per process and share it; `close` tolerates close before open and a second close."""

    def __init__(self, path: Path, *, partitions: int = 4) -> None:
        self.path, self.partitions = path, partitions
        self._reader: sqlite3.Connection | None = None
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Make the file and its tables where they are missing.  Raises Misconfigured."""
        if self._thread is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            writer = self._connect()
            self._prepare(writer)
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = ON")
        except (OSError, sqlite3.Error) as error:
            raise Misconfigured(f"WORKER_DATA_DIR: {self.path} cannot be used: {error}") from error
        self._thread = threading.Thread(target=self._write_for_ever, args=(writer,), name="sqlite-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what is queued, then releases the file."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> list[Any]:
        """Rows; microseconds, so it happens where it is called.  Raises Unavailable."""
        if self._reader is None:
            raise Unavailable("the database is closed")
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"{self.path.name}: {error}") from error

    async def write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run in the next group; returns after its commit.  Raises what `run` raises, or Unavailable."""
        if self._thread is None:
            raise Unavailable("the database is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.put(_Write(run, loop, future))
        return cast(T, await future)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _prepare(self, writer: sqlite3.Connection) -> None:
        writer.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";"):
            writer.execute(statement)
        writer.execute("INSERT OR IGNORE INTO settings VALUES ('partitions', ?)", (str(self.partitions),))
        [(known,)] = writer.execute("SELECT value FROM settings WHERE name = 'partitions'")
        writer.execute("COMMIT")
        if int(known) != self.partitions:
            writer.close()
            message = f"WORKER_PARTITIONS: {self.path} has {known} partitions, not {self.partitions}; it is fixed"
            raise Misconfigured(message)

    # ------------------------------------------------------------------------------ the writer thread

    def _write_for_ever(self, connection: sqlite3.Connection) -> None:
        with contextlib.closing(connection):
            while (group := self._next_group()) is not None:
                answers = self._run(connection, group)
                for loop in {id(write.loop): write.loop for write in group}.values():
                    mine = [(w.future, a) for w, a in zip(group, answers, strict=True) if w.loop is loop]
                    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                        loop.call_soon_threadsafe(_answer, mine)

    def _next_group(self) -> list[_Write] | None:
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < GROUP_MAX:
            try:
                write = self._queue.get_nowait()
            except queue.Empty:
                break
            if write is None:
                self._queue.put(None)
                break
            group.append(write)
        return group

    def _run(self, connection: sqlite3.Connection, group: list[_Write]) -> list[Any]:
        """One transaction; -> an answer or an exception for each."""
        answers: list[Any] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in group:
                connection.execute("SAVEPOINT one")
                try:
                    answers.append(write.run(connection))
                except sqlite3.Error:
                    raise
                except Exception as error:  # noqa: BLE001  # it is handed to whoever asked
                    connection.execute("ROLLBACK TO one")
                    answers.append(error)
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            return [Unavailable(f"{self.path.name}: {error}")] * len(group)
        return answers


def _answer(answers: "list[tuple[asyncio.Future[Any], Any]]") -> None:
    for future, answer in answers:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
