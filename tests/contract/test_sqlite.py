"""What the one SQLite file adds to the contracts of log, stream and store: outages, other processes, bounds."""

import asyncio
import resource
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from worker.adapters.sqlite import Database, SqliteLog, SqliteStore, SqliteStream
from worker.errors import AssignmentLost, Conflict, Misconfigured, OutcomeUnknown, Unavailable
from worker.ports import Assignment, Outgoing, Position, Topic

OPENING = """
import sys, time
from pathlib import Path
from worker.adapters.sqlite import Database
while time.time() < float(sys.argv[2]):
    pass
database = Database(Path(sys.argv[1]))
database.open()
database.close()
"""
MIB = 1024 * 1024


class Owner:
    """What the log tells its reader, kept."""

    def __init__(self) -> None:
        self.assignments: dict[int, Assignment] = {}

    async def assigned(self, assignment: Assignment) -> None:
        self.assignments[assignment.partition] = assignment

    async def revoked(self, partition: int) -> None:
        del self.assignments[partition]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    database = Database(path, partitions=2)
    database.open()
    yield database
    database.close()


async def pages_max(database: Database, count: int) -> None:
    """What a full disk is for SQLite: the file may not grow beyond so many pages."""
    await database.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {count}").fetchone())


async def waited_out(attempt: Callable[[], Awaitable[object]]) -> int:
    """Repeat while it raises Unavailable; -> how often it did."""
    times = 0
    async with asyncio.timeout(20):
        while True:
            try:
                await attempt()
            except Unavailable:
                times += 1
                await asyncio.sleep(0.02)
            else:
                return times


# ------------------------------------------------------------------------------ outages


async def test_a_full_disk_is_unavailable_loses_nothing_and_is_waited_out(database: Database) -> None:
    store, stream, log, owner = SqliteStore(database), SqliteStream(database), SqliteLog(database), Owner()
    await store.put("before", b"x")
    await log.start(owner)
    await pages_max(database, 1)  # SQLite makes it what there is
    for full in (
        store.put("large", b"x" * MIB),
        stream.publish([Outgoing(Topic.COMMANDS, b"k", b"x" * MIB)]),
        log.commit(owner.assignments[0], [Outgoing(Topic.RESULTS, b"k", b"x" * MIB)], Position(1)),
    ):
        with pytest.raises(Unavailable, match=r"worker\.db: database or disk is full"):
            await full
    assert await store.list("") == ["before"]
    assert await log.renew(owner.assignments[0]) == Assignment(0, 2, None, 0, 0, 2)
    waiting = asyncio.create_task(waited_out(lambda: store.put("large", b"x" * MIB)))
    await asyncio.sleep(0.1)
    await waited_out(lambda: pages_max(database, 1_000_000))  # it may share a group with one that is refused
    assert await waiting >= 1
    assert await store.list("") == ["before", "large"]
    await log.stop()


@contextmanager
def files_end_at(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: SQLite meets it where it flushes a commit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_commit_that_fails_while_it_is_flushed_has_an_unknown_outcome(database: Database, path: Path) -> None:
    store, log, owner = SqliteStore(database), SqliteLog(database), Owner()
    await log.start(owner)
    flushed_bytes = path.with_name("worker.db-wal").stat().st_size
    with files_end_at(flushed_bytes + 8192):
        with pytest.raises(OutcomeUnknown, match="disk I/O error"):
            await store.put("large", bytes(MIB))
        with pytest.raises(AssignmentLost, match="disk I/O error"):
            await log.commit(owner.assignments[0], [Outgoing(Topic.RESULTS, b"k", bytes(MIB))], Position(1))
    await store.put("after", b"x")
    assert await store.list("") == ["after"]
    assert await log.renew(owner.assignments[0]) == Assignment(0, 2, None, 0, 0, 2)
    await log.stop()


async def test_a_write_of_another_process_is_waited_for(database: Database, path: Path) -> None:
    store = SqliteStore(database)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(store.create("key", b"body"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert await store.load("key") is None  # reads go on
        other.execute("COMMIT")
        await waiting
    assert await store.list("") == ["key"]


def test_a_file_that_is_no_database_is_one_line_that_names_it(path: Path) -> None:
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(Misconfigured, match=r"WORKER_DATA_DIR: .*worker\.db cannot be used"):
        Database(path).open()


def test_a_folder_that_cannot_be_made_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="WORKER_DATA_DIR"):
        Database(tmp_path / "file" / "worker.db").open()


async def test_the_number_of_partitions_is_fixed_with_the_file(database: Database, path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"WORKER_PARTITIONS: .* has 2 partitions, not 3"):
        Database(path, partitions=3).open()


async def test_a_closed_database_is_unavailable(path: Path) -> None:
    database = Database(path)
    database.close()
    for call in (SqliteStore(database).load("key"), SqliteStore(database).put("key", b"")):
        with pytest.raises(Unavailable, match="closed"):
            await call


# ------------------------------------------------------------------------------ other processes


async def test_processes_that_open_a_fresh_file_at_once_all_succeed(path: Path) -> None:
    at = str(time.time() + 1)
    start = asyncio.create_subprocess_exec
    children = [await start(sys.executable, "-c", OPENING, str(path), at) for _ in range(4)]
    assert await asyncio.gather(*(child.wait() for child in children)) == [0] * 4


async def test_a_known_file_is_opened_beside_whoever_writes(database: Database, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        stream = SqliteStream(Database(path, partitions=2))
        assert await stream.bounds(Topic.COMMANDS) == {0: (0, 0), 1: (0, 0)}
        assert time.monotonic() - began < 2
        other.execute("ROLLBACK")
    await stream.stop()


async def test_a_lock_that_cannot_be_opened_is_one_line_that_names_it(database: Database, path: Path) -> None:
    path.with_suffix(".lock").mkdir()
    with pytest.raises(Misconfigured, match=r"worker\.lock cannot be opened"):
        await SqliteLog(database).start(Owner())


# ------------------------------------------------------------------------------ the group


async def test_a_write_that_fails_hurts_no_other_of_its_group(database: Database) -> None:
    store = SqliteStore(database)

    def fails_half_way(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO objects VALUES ('half', 'v', x'')")
        raise KeyError("a bug")

    def breaks_a_rule_of_the_table(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO objects VALUES ('half', 'v', x'')")
        connection.execute("INSERT INTO objects VALUES ('null', NULL, x'')")

    results = await asyncio.gather(
        store.create("a", b"1"),
        database.write(fails_half_way),
        store.create("a", b"2"),
        database.write(breaks_a_rule_of_the_table),
        store.create("b", b"3"),
        return_exceptions=True,
    )
    kinds = [type(result) for result in results]
    assert kinds == [str, KeyError, Conflict, sqlite3.IntegrityError, str]
    assert await store.list("") == ["a", "b"]


async def held(database: Database) -> tuple[threading.Event, "asyncio.Task[bool]"]:
    """The writer is busy until the event is set."""
    event = threading.Event()
    task = asyncio.create_task(database.write(lambda _: event.wait(10)))
    await asyncio.sleep(0.05)
    return event, task


async def test_writes_that_wait_share_a_commit_and_are_done_and_answered_in_order(database: Database) -> None:
    statements, done, answered = list[str](), list[int](), list[int]()
    await database.write(lambda connection: connection.set_trace_callback(statements.append))
    go, first = await held(database)

    async def numbered(i: int) -> None:
        await database.write(lambda _: done.append(i))
        answered.append(i)

    rest = [asyncio.create_task(numbered(i)) for i in range(200)]
    await asyncio.sleep(0.05)
    statements.clear()
    go.set()
    await asyncio.gather(first, *rest)
    assert done == answered == list(range(200))
    assert statements.count("COMMIT") == 2


async def test_the_queue_is_bounded_and_what_is_held_back_comes_later(path: Path) -> None:
    database, done = Database(path, waiting_max=10), list[int]()
    database.open()
    go, first = await held(database)
    rest = [asyncio.create_task(database.write(partial(_append, done, i))) for i in range(50)]
    await asyncio.sleep(0.05)
    assert database.waiting == 10
    go.set()
    await asyncio.gather(first, *rest)
    assert done == list(range(50))
    assert database.waiting == 0
    database.close()


def _append(numbers: list[int], number: int, _: sqlite3.Connection) -> None:
    numbers.append(number)


async def test_a_caller_that_is_cancelled_leaves_the_others_alone(database: Database) -> None:
    store = SqliteStore(database)
    go, first = await held(database)
    cancelled, other = asyncio.create_task(store.put("a", b"")), asyncio.create_task(store.put("b", b""))
    await asyncio.sleep(0.05)
    cancelled.cancel()
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(first, other)
    assert cancelled.cancelled()
    assert "b" in await store.list("")


async def test_a_close_writes_what_is_queued(path: Path) -> None:
    database = Database(path)
    database.open()
    writes = [asyncio.create_task(SqliteStore(database).put(f"{i}", b"x")) for i in range(100)]
    await asyncio.sleep(0)
    database.close()
    await asyncio.gather(*writes)
    database.open()
    assert len(await SqliteStore(database).list("")) == 100
    database.close()


# ------------------------------------------------------------------------------ reading


async def test_a_fetch_of_large_commands_is_bounded_in_bytes(database: Database) -> None:
    stream, log, owner = SqliteStream(database), SqliteLog(database), Owner()
    for _ in range(6):
        await stream.publish([Outgoing(Topic.COMMANDS, b"k", bytes(8 * MIB))])
    await log.start(owner)
    for assignment in owner.assignments.values():
        log.seek(assignment, 0)
    assert [len(await log.fetch(500, 1)) for _ in range(2)] == [4, 2]
    await log.stop()


async def test_no_partition_starves_behind_another(database: Database) -> None:
    stream, log, owner = SqliteStream(database), SqliteLog(database), Owner()
    keys = [b"a", b"b", b"c", b"d"]
    places = await stream.publish([Outgoing(Topic.COMMANDS, key, b"") for key in keys * 50])
    assert {partition for partition, _ in places} == {0, 1}
    await log.start(owner)
    for assignment in owner.assignments.values():
        log.seek(assignment, 0)
    seen = [{record.partition for record in await log.fetch(10, 1)} for _ in range(2)]
    assert seen == [{0}, {1}]
    await log.stop()


async def test_the_write_ahead_log_is_recycled_while_readers_stop_early(database: Database, path: Path) -> None:
    stream = SqliteStream(database)
    for _ in range(30):
        await stream.publish([Outgoing(Topic.COMMANDS, b"k", bytes(MIB)) for _ in range(2)])
        async for _ in stream.read(Topic.COMMANDS, {0: 0, 1: 0}, follow=False):
            break
    assert path.with_name("worker.db-wal").stat().st_size < 30 * MIB


async def test_an_idle_fetch_costs_next_to_nothing(database: Database) -> None:
    log, owner = SqliteLog(database), Owner()
    await log.start(owner)
    for assignment in owner.assignments.values():
        log.seek(assignment, 0)
    began = time.process_time()
    assert await log.fetch(500, 1) == []
    assert time.process_time() - began < 0.3
    await log.stop()
