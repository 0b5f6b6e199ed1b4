"""One SQLite file, one writer thread with group commit; reads happen in the caller's thread.

A write is a callable on the connection.  The thread takes all that is queued, runs it in one transaction with a
savepoint each (one that fails hurts no other), and answers only after the commit.  A process that dies before the
commit leaves nothing of the group; after it, all.  Several processes may have the file open: SQLite's lock orders
their transactions.  Knows nothing of topics or documents but their tables.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from worker.errors import Misconfigured, OutcomeUnknown, Unavailable

T = TypeVar("T")
BUSY_SECONDS = 10.0  # how long the writer thread waits for another process
READER_BUSY_SECONDS = 0.25  # how long a read may hold up the event loop, which happens only while a crash is recovered
GROUP_MAX = 1000

# With rowids, as rows of one to four kilobytes fill a table's pages; an index's page spills each of them.
SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, milliseconds INTEGER NOT NULL,
    key BLOB, value BLOB, headers BLOB NOT NULL, PRIMARY KEY (topic, partition, "offset"));
CREATE TABLE IF NOT EXISTS ends (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, PRIMARY KEY (topic, partition)
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    partition INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, "offset" INTEGER, metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, version TEXT NOT NULL, body BLOB NOT NULL);
"""

# What is wrong with one write, not with the file; it is handed to whoever asked, and the group goes on.
ITS_OWN_FAULT = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


class _Write(NamedTuple):
    run: Callable[[sqlite3.Connection], Any]
    future: "asyncio.Future[Any]"


class Database:
    """Open once per process and share it in one event loop; `close` tolerates close before open and a second one."""

    def __init__(self, path: Path, *, partitions: int = 4, waiting_max: int = 4 * GROUP_MAX) -> None:
        self.path, self.partitions = path, partitions
        self.waiting = 0
        """Writes that are queued or being committed, at most `waiting_max`; more are held back where they are made."""
        self._reader: sqlite3.Connection | None = None
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._places = asyncio.Semaphore(waiting_max)
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Make the file and its tables where they are missing; idempotent.  Raises Misconfigured."""
        if self._thread is not None:
            return
        with contextlib.ExitStack() as opened:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                writer = opened.enter_context(contextlib.closing(self._connect(BUSY_SECONDS)))
                self._prepare(writer)
                reader = opened.enter_context(contextlib.closing(self._connect(READER_BUSY_SECONDS)))
                reader.execute("PRAGMA query_only = ON")
            except (OSError, sqlite3.Error) as error:
                raise Misconfigured(f"WORKER_DATA_DIR: {self.path} cannot be used: {error}") from error
            opened.pop_all()
        self._reader = reader
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

    def rows(self, sql: str, parameters: tuple[object, ...] = ()) -> Generator[Any, None, None]:
        """Rows one by one, for those who stop early; close it (or end it), else the file's log cannot be recycled.

        It takes microseconds, so it happens where it is called.  Raises Unavailable.
        """
        if self._reader is None:
            raise Unavailable("the database is closed")
        try:
            with contextlib.closing(self._reader.execute(sql, parameters)) as cursor:
                yield from cursor
        except sqlite3.Error as error:
            raise Unavailable(f"{self.path.name}: {error}") from error

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> list[Any]:
        """All rows.  Raises Unavailable."""
        return list(self.rows(sql, parameters))

    def changes(self) -> int:
        """A number that differs after any commit, ours or another process's: cheaper than looking into tables."""
        [(number,)] = self.read("PRAGMA data_version")
        return cast(int, number)

    async def write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run in the next group; returns after its commit.  Raises what `run` raises, Unavailable, OutcomeUnknown."""
        async with self._places:
            if self._thread is None:
                raise Unavailable("the database is closed")
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._queue.put(_Write(run, future))
            self.waiting += 1
            try:
                return cast(T, await future)
            finally:
                self.waiting -= 1

    def _connect(self, busy_seconds: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _prepare(self, writer: sqlite3.Connection) -> None:
        """Tables, and the number of partitions; a file that has both is only read, beside whoever writes."""
        tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('settings', 'objects')"
        if writer.execute(tables).fetchone() != (2,):
            writer.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA.split(";"):
                writer.execute(statement)
            writer.execute("INSERT OR IGNORE INTO settings VALUES ('partitions', ?)", (str(self.partitions),))
            writer.execute("COMMIT")
        [(known,)] = writer.execute("SELECT value FROM settings WHERE name = 'partitions'")
        if int(known) != self.partitions:
            message = f"WORKER_PARTITIONS: {self.path} has {known} partitions, not {self.partitions}; it is fixed"
            raise Misconfigured(message)

    # ------------------------------------------------------------------------------ the writer thread

    def _write_for_ever(self, connection: sqlite3.Connection) -> None:
        with contextlib.closing(connection):
            while group := self._next_group():
                answers = self._run(connection, group)
                pairs = [(write.future, answer) for write, answer in zip(group, answers, strict=True)]
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    group[0].future.get_loop().call_soon_threadsafe(_answer, pairs)

    def _next_group(self) -> list[_Write]:
        """All that is queued, in order, once there is something; empty at the end."""
        group: list[_Write] = []
        write = self._queue.get()
        while write is not None:
            group.append(write)
            if len(group) == GROUP_MAX or self._queue.empty():
                return group
            write = self._queue.get()
        if group:
            self._queue.put(None)  # end after this group
        return group

    def _run(self, connection: sqlite3.Connection, group: list[_Write]) -> list[Any]:
        """One transaction; -> an answer or an exception for each."""
        answers: list[Any] = []
        committing = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            answers.extend(_try(connection, write) for write in group)
            committing = True
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            # A commit that failed while it was flushed may still be found by the recovery after a crash.
            kind = OutcomeUnknown if committing else Unavailable
            return [kind(f"{self.path.name}: {error}") for _ in group]
        return answers


def _try(connection: sqlite3.Connection, write: _Write) -> Any:
    """Its answer, or its own exception with nothing of it left behind.  Raises sqlite3.Error for the whole group."""
    connection.execute("SAVEPOINT one")
    try:
        answer = write.run(connection)
    except Exception as error:
        if isinstance(error, sqlite3.Error) and not isinstance(error, ITS_OWN_FAULT):
            raise
        connection.execute("ROLLBACK TO one")
        answer = error
    connection.execute("RELEASE one")
    return answer


def _answer(answers: "list[tuple[asyncio.Future[Any], Any]]") -> None:
    for future, answer in answers:
        if future.done():
            continue  # whoever asked was cancelled meanwhile
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging; SQLite does not wait by itself when several processes make the same fresh file at once."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return
