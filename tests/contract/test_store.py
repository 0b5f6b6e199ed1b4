"""The contract of DocumentStore over every implementation; another one is one more `World`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.adapters.sqlite import Database, SqliteStore
from worker.errors import Conflict
from worker.ports import DocumentStore, Stored, Unchanged


class World(Protocol):
    """One implementation, and where it may differ."""

    store: DocumentStore
    versions_repeat: bool
    """Whether the same bytes have the same version again (an ETag that is a hash)."""
    any_key: bool
    """Whether keys are plain text; where they are paths, `x//y` or a key below another key may be refused."""
    source: str
    """Python that makes `store` over the same objects, for another process."""

    def another(self) -> DocumentStore:
        """A second client of the same objects; not started."""


class Sqlite:
    versions_repeat = True
    any_key = True

    def __init__(self, folder: Path) -> None:
        self._path = folder / "worker.db"
        self.store: DocumentStore = self.another()
        self.source = (
            "from pathlib import Path; from worker.adapters.sqlite import Database, SqliteStore; "
            f"store = SqliteStore(Database(Path({str(self._path)!r})))"
        )

    def another(self) -> DocumentStore:
        return SqliteStore(Database(self._path))


@pytest.fixture(params=[Sqlite])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    world: World = request.param(tmp_path)
    await world.store.start()
    yield world
    await world.store.stop()


@pytest.fixture
def store(world: World) -> DocumentStore:
    return world.store


async def test_what_was_created_is_loaded_with_its_version(store: DocumentStore) -> None:
    version = await store.create("documents/1.json", b"\x00\xffbody")
    assert await store.load("documents/1.json") == Stored(b"\x00\xffbody", version)
    assert await store.load("documents/2.json") is None
    assert await store.load("documents/1") is None


async def test_an_object_is_created_only_where_there_is_none(store: DocumentStore) -> None:
    version = await store.create("key", b"first")
    with pytest.raises(Conflict):
        await store.create("key", b"second")
    with pytest.raises(Conflict):
        await store.create("key", b"first")
    assert await store.load("key") == Stored(b"first", version)
    await store.delete(["key"])
    await store.create("key", b"second")


async def test_an_object_is_replaced_only_if_it_has_the_version_that_was_named(store: DocumentStore) -> None:
    first = await store.create("key", b"first")
    second = await store.replace("key", b"second", first)
    assert second != first
    with pytest.raises(Conflict):
        await store.replace("key", b"third", first)
    assert await store.load("key") == Stored(b"second", second)


async def test_an_object_that_is_gone_is_not_replaced(store: DocumentStore) -> None:
    version = await store.create("key", b"first")
    await store.delete(["key"])
    with pytest.raises(Conflict):
        await store.replace("key", b"second", version)
    assert await store.load("key") is None


async def test_the_version_after_a_b_a_is_what_was_declared(world: World) -> None:
    """Where it repeats, only a write id inside the body tells the two apart (design, must 3)."""
    store = world.store
    first = await store.create("key", b"A")
    second = await store.replace("key", b"B", first)
    third = await store.replace("key", b"A", second)
    assert (third == first) == world.versions_repeat
    assert third != second


async def test_a_load_of_what_did_not_change_has_no_body(store: DocumentStore) -> None:
    first = await store.create("key", b"first")
    assert isinstance(await store.load_if_changed("key", first), Unchanged)
    second = await store.replace("key", b"", first)
    assert await store.load_if_changed("key", first) == Stored(b"", second)
    assert isinstance(await store.load_if_changed("key", second), Unchanged)
    await store.delete(["key"])
    assert await store.load_if_changed("key", second) is None


async def test_a_put_writes_whatever_is_there(store: DocumentStore) -> None:
    await store.put("key", b"first")
    version = (await _stored(store, "key")).version
    await store.put("key", b"first")
    await store.put("key", b"second")
    assert (await _stored(store, "key")).body == b"second"
    with pytest.raises(Conflict):
        await store.replace("key", b"third", version)


async def test_large_and_empty_objects_come_back_as_they_were(store: DocumentStore) -> None:
    large = bytes(range(256)) * (4 * 1024 * 12)
    await store.put("large", large)
    await store.put("empty", b"")
    assert (await _stored(store, "large")).body == large
    assert (await _stored(store, "empty")).body == b""


async def test_deleting_what_is_missing_is_success(store: DocumentStore) -> None:
    await store.put("a", b"1")
    await store.put("b", b"2")
    await store.put("c", b"3")
    await store.delete(["a", "missing", "c", "a"])
    await store.delete(["a"])
    await store.delete([])
    assert await store.list("") == ["b"]


async def test_many_objects_are_deleted_at_once(store: DocumentStore) -> None:
    keys = [f"partial/{i:05}" for i in range(1100)]
    await asyncio.gather(*(store.put(key, b"x") for key in keys))
    await store.delete(keys[1:])
    assert await store.list("partial/") == keys[:1]


# ------------------------------------------------------------------------------ list

ORDINARY = ["a/1", "a/10", "a/2", "b/1", "teams/t/evaluations/e/partial/1", "teams/t/evaluations/e/request.json"]
ODD = [
    "a",
    "a/",
    "a%",
    "a%/1",
    "a_/1",
    "ab/1",
    "x//y",
    "x/y",
    "x/",
    "é/1",
    "e\u0301/1",
    "\U0010ffff/1",
    "\ud7ff/1",
    "\ue000",
]


def listed(keys: list[str], prefix: str, after: str = "") -> list[str]:
    """The rule, said again: below the prefix, in byte order, later than `after`."""
    return sorted((k for k in keys if k.startswith(prefix) and k.encode() > after.encode()), key=str.encode)


async def _filled(world: World) -> list[str]:
    keys = ORDINARY + (ODD if world.any_key else [])
    for key in reversed(keys):
        await world.store.put(key, b"x")
    return keys


async def test_a_list_holds_exactly_what_is_below_the_prefix_in_byte_order(world: World) -> None:
    keys = await _filled(world)
    prefixes = {key[:i] for key in keys for i in range(len(key) + 1)} | {
        "%",
        "_",
        "a_",
        "a*",
        "missing",
        "x//",
        "ab/10",
    }
    for prefix in sorted(prefixes):
        assert await world.store.list(prefix) == listed(keys, prefix), prefix


async def test_a_list_goes_on_after_any_key_below_or_beside_the_prefix(world: World) -> None:
    keys = await _filled(world)
    for prefix in ("", "a", "a/", "teams/"):
        for after in (*keys, "0", "a/1\x01", "zzz"):
            assert await world.store.list(prefix, after=after) == listed(keys, prefix, after), (prefix, after)


async def test_pages_join_to_the_whole_and_only_the_last_is_short(world: World) -> None:
    keys = [f"a/{i:03}" for i in range(25)]
    for key in [*keys, "Z", "a", "b/1", *(f"a{i}" for i in range(30))] if world.any_key else keys:
        await world.store.put(key, b"x")
    pages: list[list[str]] = []
    while not pages or pages[-1]:
        after = pages[-1][-1] if pages else ""
        pages.append(list(await world.store.list("a/", after=after, limit=10)))
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [key for page in pages for key in page] == keys


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(TEXT.filter(bool), max_size=8), prefix=TEXT, after=TEXT)
def test_any_prefix_lists_as_the_rule_says(tmp_path: Path, keys: set[str], prefix: str, after: str) -> None:
    async def run() -> None:
        store = SqliteStore(Database(tmp_path / "any.db"))
        await store.start()
        await store.delete(await store.list(""))
        await asyncio.gather(*(store.put(key, b"x") for key in keys))
        found = await store.list(prefix, after=after)
        await store.stop()
        assert found == listed(sorted(keys), prefix, after)

    asyncio.run(run())


# ------------------------------------------------------------------------------ at once, and for ever


async def test_of_fifty_that_create_at_once_one_wins(world: World) -> None:
    other = world.another()
    await other.start()
    stores = [world.store, other]
    tries = [stores[i % 2].create("key", f"{i}".encode()) for i in range(50)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    await other.stop()
    winners = [i for i, result in enumerate(results) if isinstance(result, str)]
    assert len(winners) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 49
    assert await world.store.load("key") == Stored(f"{winners[0]}".encode(), results[winners[0]])  # type: ignore[arg-type]  # a version


async def test_of_fifty_that_replace_one_version_at_once_one_wins(world: World) -> None:
    version = await world.store.create("key", b"before")
    other = world.another()
    await other.start()
    stores = [world.store, other]
    tries = [stores[i % 2].replace("key", f"{i}".encode(), version) for i in range(50)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    await other.stop()
    [winner] = [i for i, result in enumerate(results) if isinstance(result, str)]
    assert sum(isinstance(result, Conflict) for result in results) == 49
    assert (await _stored(world.store, "key")).body == f"{winner}".encode()


async def test_compare_and_set_loses_no_update(world: World) -> None:
    """Fifty that count one up each, through two clients, repeating after a Conflict, count to fifty."""
    await world.store.create("count", b"0")
    other = world.another()
    await other.start()

    async def count_up(store: DocumentStore) -> None:
        while True:
            stored = await _stored(store, "count")
            try:
                await store.replace("count", str(int(stored.body) + 1).encode(), stored.version)
            except Conflict:
                continue
            return

    await asyncio.gather(*(count_up(store) for store in [world.store, other] * 25))
    await other.stop()
    assert (await _stored(world.store, "count")).body == b"50"


ACKNOWLEDGING = """
import asyncio, sys
async def main():
    await store.start()
    version = await store.create("counter", b"0")
    for i in range(1, 1_000_000):
        await asyncio.gather(store.put(f"blobs/{i}", b"x" * 100), store.create(f"made/{i}", b"%d" % i))
        version = await store.replace("counter", b"%d" % i, version)
        print(i, flush=True)
asyncio.run(main())
"""


async def test_what_was_acknowledged_is_there_after_kill_9(world: World) -> None:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", world.source + ACKNOWLEDGING, stdout=pipe)
    assert child.stdout is not None
    async with asyncio.timeout(20):
        for _ in range(25):
            assert await child.stdout.readline()
    child.kill()
    rest = await child.stdout.read()
    await child.wait()
    last = 25 + rest.count(b"\n")
    assert int((await _stored(world.store, "counter")).body) in (last, last + 1)
    for i in range(1, last + 1):
        assert (await _stored(world.store, f"blobs/{i}")).body == b"x" * 100
        assert (await _stored(world.store, f"made/{i}")).body == b"%d" % i


async def test_another_client_sees_what_was_written(world: World) -> None:
    version = await world.store.create("key", b"body")
    other = world.another()
    await other.start()
    assert await other.load("key") == Stored(b"body", version)
    await other.stop()


async def test_a_stop_before_the_start_and_a_second_one_are_tolerated(world: World) -> None:
    other = world.another()
    await other.stop()
    await other.start()
    await other.stop()
    await other.stop()
    assert await world.store.list("") == []


async def _stored(store: DocumentStore, key: str) -> Stored:
    stored = await store.load(key)
    assert stored is not None, key
    return stored
