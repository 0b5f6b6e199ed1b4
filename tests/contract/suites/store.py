"""The contract of DocumentStore: a class of tests that every implementation inherits, with a `world` of its own.

Knows the port only.  Where implementations may differ, the world says so, and the tests expect just that.
"""

import asyncio
import sys
from typing import Protocol

import pytest

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


class StoreContract:
    """Needs a fixture `world`, whose store is started."""

    @pytest.fixture
    def store(self, world: World) -> DocumentStore:
        return world.store

    async def test_what_was_created_is_loaded_with_its_version(self, store: DocumentStore) -> None:
        version = await store.create("documents/1.json", b"\x00\xffbody")
        assert await store.load("documents/1.json") == Stored(b"\x00\xffbody", version)
        assert await store.load("documents/2.json") is None
        assert await store.load("documents/1") is None

    async def test_an_object_is_created_only_where_there_is_none(self, store: DocumentStore) -> None:
        version = await store.create("key", b"first")
        with pytest.raises(Conflict):
            await store.create("key", b"second")
        with pytest.raises(Conflict):
            await store.create("key", b"first")
        assert await store.load("key") == Stored(b"first", version)
        await store.delete(["key"])
        await store.create("key", b"second")

    async def test_an_object_is_replaced_only_if_it_has_the_version_that_was_named(self, store: DocumentStore) -> None:
        first = await store.create("key", b"first")
        second = await store.replace("key", b"second", first)
        assert second != first
        with pytest.raises(Conflict):
            await store.replace("key", b"third", first)
        assert await store.load("key") == Stored(b"second", second)

    async def test_an_object_that_is_gone_is_not_replaced(self, store: DocumentStore) -> None:
        version = await store.create("key", b"first")
        await store.delete(["key"])
        with pytest.raises(Conflict):
            await store.replace("key", b"second", version)
        assert await store.load("key") is None

    async def test_the_version_after_a_b_a_is_what_was_declared(self, world: World) -> None:
        """Where it repeats, only a write id inside the body tells the two apart (design, must 3)."""
        store = world.store
        first = await store.create("key", b"A")
        second = await store.replace("key", b"B", first)
        third = await store.replace("key", b"A", second)
        assert (third == first) == world.versions_repeat
        assert third != second

    async def test_a_load_of_what_did_not_change_has_no_body(self, store: DocumentStore) -> None:
        first = await store.create("key", b"first")
        assert isinstance(await store.load_if_changed("key", first), Unchanged)
        second = await store.replace("key", b"", first)
        assert await store.load_if_changed("key", first) == Stored(b"", second)
        assert isinstance(await store.load_if_changed("key", second), Unchanged)
        await store.delete(["key"])
        assert await store.load_if_changed("key", second) is None

    async def test_a_put_writes_whatever_is_there(self, store: DocumentStore) -> None:
        await store.put("key", b"first")
        version = (await _stored(store, "key")).version
        await store.put("key", b"first")
        await store.put("key", b"second")
        assert (await _stored(store, "key")).body == b"second"
        with pytest.raises(Conflict):
            await store.replace("key", b"third", version)

    async def test_large_and_empty_objects_come_back_as_they_were(self, store: DocumentStore) -> None:
        large = bytes(range(256)) * (4 * 1024 * 12)
        await store.put("large", large)
        await store.put("empty", b"")
        assert (await _stored(store, "large")).body == large
        assert (await _stored(store, "empty")).body == b""

    async def test_deleting_what_is_missing_is_success(self, store: DocumentStore) -> None:
        await store.put("a", b"1")
        await store.put("b", b"2")
        await store.put("c", b"3")
        await store.delete(["a", "missing", "c", "a"])
        await store.delete(["a"])
        await store.delete([])
        assert await store.list("") == ["b"]

    async def test_many_objects_are_deleted_at_once(self, store: DocumentStore) -> None:
        keys = [f"partial/{i:05}" for i in range(2100)]
        there = keys[::50]
        await asyncio.gather(*(store.put(key, b"x") for key in there))
        await store.delete(keys[1:])
        assert await store.list("partial/") == keys[:1]

    # ------------------------------------------------------------------------------ list

    async def test_a_list_holds_exactly_what_is_below_the_prefix_in_byte_order(self, world: World) -> None:
        keys = await _filled(world)
        prefixes = {key[:i] for key in keys for i in range(len(key) + 1)} | {
            "%",
            "_",
            "a_",
            "a*",
            "missing",
            "ab/10",
            *(["x//"] if world.any_key else []),
        }
        for prefix in sorted(prefixes):
            assert await world.store.list(prefix) == listed(keys, prefix), prefix

    async def test_a_list_goes_on_after_any_key_below_or_beside_the_prefix(self, world: World) -> None:
        keys = await _filled(world)
        texts = ["0", "zzz", *(["a/1\x01"] if world.any_key else [])]
        for prefix in ("", "a", "a/", "teams/"):
            for after in (*keys, *texts):
                assert await world.store.list(prefix, after=after) == listed(keys, prefix, after), (prefix, after)

    async def test_pages_join_to_the_whole_and_only_the_last_is_short(self, world: World) -> None:
        keys = [f"a/{i:03}" for i in range(25)]
        for key in [*keys, "Z", "a", "b/1", *(f"a{i}" for i in range(30))] if world.any_key else keys:
            await world.store.put(key, b"x")
        pages: list[list[str]] = []
        while not pages or pages[-1]:
            after = pages[-1][-1] if pages else ""
            pages.append(list(await world.store.list("a/", after=after, limit=10)))
        assert [len(page) for page in pages] == [10, 10, 5, 0]
        assert [key for page in pages for key in page] == keys

    # ------------------------------------------------------------------------------ at once, and for ever

    async def test_of_fifty_that_create_at_once_one_wins(self, world: World) -> None:
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

    async def test_of_fifty_that_replace_one_version_at_once_one_wins(self, world: World) -> None:
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

    async def test_compare_and_set_loses_no_update(self, world: World) -> None:
        """Twelve that count one up each, through two clients, repeating after a Conflict, count to twelve."""
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

        await asyncio.gather(*(count_up(store) for store in [world.store, other] * 6))
        await other.stop()
        assert (await _stored(world.store, "count")).body == b"12"

    async def test_what_was_acknowledged_is_there_after_kill_9(self, world: World) -> None:
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

    async def test_another_client_sees_what_was_written(self, world: World) -> None:
        version = await world.store.create("key", b"body")
        other = world.another()
        await other.start()
        assert await other.load("key") == Stored(b"body", version)
        await other.stop()

    async def test_a_stop_before_the_start_and_a_second_one_are_tolerated(self, world: World) -> None:
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
