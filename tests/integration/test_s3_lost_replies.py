"""A PUT that was applied and whose reply was lost: never a second one behind our back (facts, S1).

aiohttp sends such a request again, unseen, and the second one gets 412 for the first one's success.  Then a write that
won would be taken for one that lost.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.suites.s3 import S3World
from tests.integration.proxy import Proxy
from tests.integration.s3_world import world_of
from tests.services.object_store import ObjectStore
from worker.errors import OutcomeUnknown, Unavailable
from worker.ports import Stored


@pytest.fixture
async def proxy(s3: ObjectStore) -> AsyncIterator[Proxy]:
    async with Proxy(s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
async def world(s3: ObjectStore, bucket: str, proxy: Proxy) -> AsyncIterator[S3World]:
    world = world_of(s3, bucket, endpoint_url=proxy.url)
    await world.store.start()
    yield world
    await world.store.stop()


async def test_a_create_whose_reply_is_lost_is_sent_once_and_its_outcome_is_unknown(
    world: S3World, proxy: Proxy
) -> None:
    proxy.loses = lambda method, path: path.endswith("/key")
    with pytest.raises(OutcomeUnknown):
        await world.store.create("key", b"body")
    proxy.loses = lambda method, path: False
    assert proxy.count("PUT", "/key") == 1
    stored = await world.store.load("key")
    assert stored is not None
    assert stored.body == b"body"


@pytest.mark.parametrize("warm", [True, False])
async def test_a_replace_whose_reply_is_lost_is_sent_once_and_its_outcome_is_unknown(
    world: S3World, proxy: Proxy, warm: bool
) -> None:
    """On a connection that was used before, and on a fresh one: both are repeated by aiohttp."""
    version = await world.store.create("key", b"before")
    if not warm:
        await world.store.stop()
        await world.store.start()
    proxy.requests.clear()
    proxy.loses = lambda method, path: method == "PUT"
    with pytest.raises(OutcomeUnknown):
        await world.store.replace("key", b"after", version)
    proxy.loses = lambda method, path: False
    assert proxy.count("PUT") == len(proxy.lost) == 1
    stored = await world.store.load("key")
    assert stored is not None
    assert stored.body == b"after"


async def test_a_put_and_a_delete_whose_replies_are_lost_are_sent_once(world: S3World, proxy: Proxy) -> None:
    proxy.requests.clear()
    proxy.loses = lambda method, path: True
    with pytest.raises(OutcomeUnknown):
        await world.store.put("key", b"body")
    with pytest.raises(Unavailable):
        await world.store.delete(["key"])
    with pytest.raises(Unavailable):
        await world.store.delete(["odd\x01name"])
    assert [method for method, _ in proxy.requests] == ["PUT", "POST", "DELETE"]


async def test_a_load_whose_reply_is_lost_is_an_outage(world: S3World, proxy: Proxy) -> None:
    version = await world.store.create("key", b"body")
    proxy.loses = lambda method, path: True
    with pytest.raises(Unavailable):
        await world.store.load("key")
    with pytest.raises(Unavailable):
        await world.store.load_if_changed("key", version)
    with pytest.raises(Unavailable):
        await world.store.list("")
    proxy.loses = lambda method, path: False
    assert await world.store.load("key") == Stored(b"body", version)


async def test_a_connection_that_the_server_closed_while_it_idled_costs_one_try(
    world: S3World, s3: ObjectStore
) -> None:
    """After a restart the pool holds dead connections: what is sent over one is an outage, and the next try works."""
    direct = S3World(world.settings.model_copy(update={"endpoint_url": s3.endpoint_url}))
    await direct.store.start()
    await direct.store.create("key", b"body")
    await s3.kill()
    with pytest.raises(Unavailable):
        await direct.store.load("key")
    await s3.start()
    stored = None
    async with asyncio.timeout(10):
        while stored is None:
            try:
                stored = await direct.store.load("key")
            except Unavailable:
                await asyncio.sleep(0.05)
    assert stored.body == b"body"
    await direct.store.stop()
