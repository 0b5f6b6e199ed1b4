"""The reconciler: when a marker asks for a resume, under which id, and what is published."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from schemas.base import Coordinates
from schemas.documents import Unsettled
from worker.adapters.sqlite import Database, SqliteStore, SqliteStream
from worker.decoding import Decoded, decode
from worker.ports import Topic
from worker.runtime.reconciler import Reconciler, bucket, resume

DUE = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
EVALUATION = "11111111-1111-4111-8111-111111111111"
MARKER = f"unsettled/evaluation/{EVALUATION}/7"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = DUE

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the reconciler's one turn does not wait")


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[tuple[Reconciler, SqliteStore, SqliteStream, Clock]]:
    database = Database(tmp_path / "worker.db", partitions=1)
    store, stream, clock = SqliteStore(database), SqliteStream(database), Clock()
    await store.start()
    yield Reconciler(store, stream, clock), store, stream, clock
    await store.stop()


def marker(due_at: datetime = DUE) -> bytes:
    return Unsettled(audit_seq=7, why="unconfirmed", due_at=due_at).model_dump_json().encode()


def test_buckets_back_off_from_a_minute_to_an_hour() -> None:
    minutes = [0, 0.9, 1, 2.9, 3, 7, 15, 31, 63, 122, 123, 183]
    assert [bucket(DUE, DUE + timedelta(minutes=m)) for m in minutes] == [0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 7, 8]
    assert bucket(DUE, DUE - timedelta(seconds=1)) is None


@pytest.mark.parametrize(
    ("key", "kind", "lane"),
    [
        (MARKER, "workflow.resume", f"evaluation/{EVALUATION}"),
        (f"unsettled/custom-harness/{EVALUATION}/2", "workflow.resume", f"custom-harness/{EVALUATION}"),
        ("unsettled/session/01arz3ndektsv4rrffq69g5fav.g/3", "session.resume", "session/01arz3ndektsv4rrffq69g5fav.g"),
    ],
)
async def test_the_resume_is_an_ordinary_command_of_the_aggregate(
    stack: tuple[Reconciler, SqliteStore, SqliteStream, Clock], key: str, kind: str, lane: str
) -> None:
    reconciler, store, stream, _ = stack
    await store.put(key, marker())
    assert await reconciler.once() == 1
    [record] = [record async for record in stream.read(Topic.COMMANDS, {0: 0}, follow=False)]
    decoded = decode(record, 100_000)
    assert isinstance(decoded, Decoded)
    assert (decoded.command.type, decoded.command.aggregate.key) == (kind, lane)
    assert decoded.command.caller.permissions == ("workflow:resume",)
    assert decoded.personal.subject == "system:reconciler"
    assert decoded.command.at == Coordinates(partition=0, offset=0)


async def test_a_marker_asks_once_per_bucket_and_under_the_buckets_id(
    stack: tuple[Reconciler, SqliteStore, SqliteStream, Clock],
) -> None:
    reconciler, store, stream, clock = stack
    await store.put(MARKER, marker())
    published = []
    for minutes in (0, 0.5, 1, 2, 3):
        clock.at = DUE + timedelta(minutes=minutes)
        published.append(await reconciler.once())
    assert published == [1, 0, 1, 0, 1]
    assert await Reconciler(store, stream, clock).once() == 1
    records = [record async for record in stream.read(Topic.COMMANDS, {0: 0}, follow=False)]
    ids = [dict(record.headers)["ce_id"].decode() for record in records]
    assert (len(set(ids)), ids[2]) == (3, ids[3])
    assert all(UUID(text).version == 5 for text in ids)


async def test_a_marker_that_is_not_due_or_has_no_aggregate_asks_for_nothing(
    stack: tuple[Reconciler, SqliteStore, SqliteStream, Clock],
) -> None:
    reconciler, store, _, _ = stack
    await store.put(MARKER, marker(DUE + timedelta(minutes=5)))
    await store.put("unsettled/nobody/1/2", marker())
    assert await reconciler.once() == 0


async def test_a_marker_that_cannot_be_read_asks_for_the_resume_that_removes_it(
    stack: tuple[Reconciler, SqliteStore, SqliteStream, Clock],
) -> None:
    reconciler, store, _, _ = stack
    await store.put(MARKER, b"\x00")
    assert await reconciler.once() == 1


def test_the_command_names_its_marker() -> None:
    command = resume(MARKER, DUE, 0, DUE)
    assert command is not None
    assert json.loads(command.value)["marker"] == MARKER
