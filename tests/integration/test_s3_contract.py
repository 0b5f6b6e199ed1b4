"""The contract of DocumentStore over a real S3 server, and what only a real one shows."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.suites.store import StoreContract, World
from tests.integration.s3_world import world_of
from tests.services.object_store import ObjectStore
from worker.adapters.s3.client import open_client
from worker.errors import Conflict
from worker.ports import Stored


class TestS3(StoreContract):
    @pytest.fixture
    async def world(self, s3: ObjectStore, bucket: str) -> AsyncIterator[World]:
        world = world_of(s3, bucket, prefix="verdicts/")
        await world.store.start()
        yield world
        await world.store.stop()


async def test_more_objects_than_one_page_are_listed_and_deleted(s3: ObjectStore, bucket: str) -> None:
    world = world_of(s3, bucket)
    await world.store.start()
    keys = [f"partial/{i:05}" for i in range(1005)]
    await asyncio.gather(*(world.store.put(key, b"") for key in keys))
    assert await world.store.list("partial/", limit=2000) == keys
    assert await world.store.list("partial/") == keys[:1000]
    await world.store.delete(keys)
    assert await world.store.list("") == []
    await world.store.stop()


async def test_what_others_named_as_they_like_is_listed_and_deleted(s3: ObjectStore, bucket: str) -> None:
    """Executors name their partial data.  (A control character other than a line's end, this server cannot list.)"""
    world = world_of(s3, bucket)
    await world.store.start()
    names = ["a b", "a%20b", "a+b", "ä", "\n", "&<>'\"", "#?", "a:b", "folder/"]
    async with open_client(world.settings) as client:
        for name in names:
            await client.put_object(Bucket=bucket, Key=f"partial/{name}", Body=b"")
    listed = await world.store.list("partial/")
    assert sorted(listed) == sorted(f"partial/{name}" for name in names)
    await world.store.delete(listed)
    assert await world.store.list("partial/") == []
    await world.store.stop()


async def test_of_fifty_at_once_one_wins_in_every_round(s3: ObjectStore, bucket: str) -> None:
    world = world_of(s3, bucket)
    other = world.another()
    await asyncio.gather(world.store.start(), other.start())
    version = await world.store.create("key", b"0")
    for round_number in range(10):
        bodies = [f"{round_number} {i}".encode() for i in range(50)]
        tries = [[world.store, other][i % 2].replace("key", body, version) for i, body in enumerate(bodies)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        [(winner, version)] = [(i, result) for i, result in enumerate(results) if isinstance(result, str)]
        assert sum(isinstance(result, Conflict) for result in results) == 49
        assert await world.store.load("key") == Stored(bodies[winner], version)
    await asyncio.gather(world.store.stop(), other.stop())
