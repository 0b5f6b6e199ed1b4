"""`worker check` on a broker that gives out rights one by one: each that is missing is named, no trace is left."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.integration.kafka_guarded import RIGHTS, Guarded, guarded, rights
from tests.integration.kafka_world import KafkaWorld, owning
from worker.adapters.kafka.trying import tried
from worker.errors import Misconfigured, Refused
from worker.ports import Outgoing, Topic

PARTITIONS = 2


@pytest.fixture(scope="module")
def guard(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """`kafka` is asked for since it says where the image is missing; this broker is another one."""
    with guarded(tmp_path_factory.mktemp("guarded")) as guard:
        yield guard


@pytest.fixture
async def world(guard: Guarded, topic_prefix: str, group: str) -> AsyncIterator[KafkaWorld]:
    """A worker's, which may do what the table says."""
    await known(guard, topic_prefix, group, "administrator").create()
    await asyncio.to_thread(guard.grant, "worker", topic_prefix, group)
    world = known(guard, topic_prefix, group, "worker")
    await allowed(world)
    yield world
    await world.stop()


def known(guard: Guarded, prefix: str, group: str, name: str) -> KafkaWorld:
    return KafkaWorld(guard.broker, prefix, group, partitions=PARTITIONS, **guard.settings(name))


async def test_what_the_table_gives_is_enough_and_trying_it_leaves_no_trace(world: KafkaWorld) -> None:
    await world.stream.publish([Outgoing(Topic.COMMANDS, b"k", b"a")])
    owner = await owning(world.log, PARTITIONS)  # it is a running worker's as well, which keeps what it has
    before = {topic: await world.stream.bounds(topic) for topic in (Topic.COMMANDS, Topic.RESULTS)}
    assert await tried(world.connection) == "2 partitions, 1 commands; a worker may do what it must"
    assert {topic: await world.stream.bounds(topic) for topic in before} == before
    assert sorted(owner.told) == [("assigned", 0), ("assigned", 1)]


async def test_each_right_that_is_missing_is_named_by_its_row(guard: Guarded, world: KafkaWorld) -> None:
    prefix, group = world.settings.topic_prefix, world.settings.group
    others = "| topics `<prefix>.results`, `.status`, `.audit`, `.dead-letters`, `.checkpoints` | write, describe |"
    sealed = "| topics `<prefix>.audit`, `.checkpoints` | read, describe |"
    transactional = "| transactional id `<group>-` (prefix)"
    rows = {
        ("topic", f"{prefix}.commands", "literal", "read"): "| topic `<prefix>.commands` | read, describe |",
        ("topic", f"{prefix}.results", "literal", "write"): others,
        ("topic", f"{prefix}.checkpoints", "literal", "write"): others,
        ("topic", f"{prefix}.commands", "literal", "write"): "| topic `<prefix>.commands` | write, describe |",
        ("topic", f"{prefix}.checkpoints", "literal", "read"): sealed,
        ("group", group, "literal", "read"): "| group `<group>` | read, describe |",
        ("transactional", f"{group}-", "prefixed", "write"): f"{transactional} | write, describe |",
    }
    assert rows.keys() <= rights("worker", prefix, group)
    assert all(row in RIGHTS.read_text() for row in rows.values())
    for right, row in rows.items():
        await asyncio.to_thread(guard.take_one, "worker", right)
        assert (await refused(world)).endswith(f"; deploy/README.md, least ACLs: {row}")
        await asyncio.to_thread(guard.grant, "worker", prefix, group)
        await allowed(world)


async def allowed(world: KafkaWorld) -> str:
    """What is found, once brokers have heard of the change."""
    async with asyncio.timeout(10):
        while True:
            with suppress(Refused):
                return await tried(world.connection)


async def refused(world: KafkaWorld) -> str:
    """What is said, once brokers have heard of the change."""
    async with asyncio.timeout(10):
        while True:
            try:
                await tried(world.connection)
            except Refused as error:
                return str(error)


async def test_topics_that_nobody_made_are_no_question_of_rights(guard: Guarded, topic_prefix: str, group: str) -> None:
    world = known(guard, topic_prefix, group, "administrator")
    with pytest.raises(Misconfigured, match=r"there is no topic \S+\.commands; `worker topics create` makes it"):
        await tried(world.connection)


async def test_a_topic_that_one_may_not_see_is_refused_at_once(
    guard: Guarded, world: KafkaWorld, topic_prefix: str, group: str
) -> None:
    """The client would look for it until the time is up, and say that nobody answers."""
    await asyncio.to_thread(guard.grant, "api", topic_prefix, group)
    api = known(guard, topic_prefix, group, "api")
    async with asyncio.timeout(10):
        while True:
            with suppress(Refused):
                await api.stream.bounds(Topic.RESULTS)
                break
    async with asyncio.timeout(2):
        with pytest.raises(Refused, match=r"\.audit: .*TopicAuthorizationFailed"):
            await api.stream.bounds(Topic.AUDIT)
    await api.stop()
