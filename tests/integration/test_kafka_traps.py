"""The measured traps of the client and the broker (K1 to K16), each on a real broker; broken rules fail here."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Producer

from tests.integration.kafka_world import COMMAND_BYTES_MAX, KafkaWorld, owning, until
from tests.services.broker import Broker
from worker.adapters.kafka import Connection, KafkaLog, topics
from worker.errors import AssignmentLost, Misconfigured, Unavailable
from worker.partitioner import partition_of
from worker.ports import Assignment, Outgoing, Position, Topic

PARTITIONS = 2
KEYS = {partition_of(f"key-{i}".encode(), PARTITIONS): f"key-{i}".encode() for i in range(20)}


@pytest.fixture
async def world(kafka: Broker, topic_prefix: str, group: str) -> AsyncIterator[KafkaWorld]:
    world = KafkaWorld(kafka, topic_prefix, group, partitions=PARTITIONS, group_instance_id="worker-0")
    await world.create()
    yield world
    await world.stop()


def result(text: str, partition: int = 0) -> Outgoing:
    return Outgoing(Topic.RESULTS, KEYS[partition], text.encode())


async def visible(world: KafkaWorld, topic: Topic = Topic.RESULTS) -> list[str]:
    return sorted(value.decode() for value, _ in await asyncio.to_thread(world.committed, topic))


async def fetching(log: KafkaLog, seconds: float = 10) -> None:
    """Fetch until that raises; nothing is to be had."""
    async with asyncio.timeout(seconds):
        while True:
            assert await log.fetch(10, 0.1) == []


# ------------------------------------------------------------------------------------ transactions


async def test_a_record_that_the_broker_refused_ends_the_commit_and_no_position_moves(world: KafkaWorld) -> None:
    """K1: offsets and commit would succeed; and the next transaction of that producer would fail."""
    await world.alter(Topic.RESULTS, max_message_bytes="2000")
    assignment = (await owning(world.log, PARTITIONS)).assignments[0]
    with pytest.raises(AssignmentLost):
        await world.log.commit(assignment, [result("fits"), result("x" * 3000, 1)], Position(1))
    with pytest.raises(AssignmentLost, match="the transaction before this one failed"):
        await world.log.commit(assignment, [result("same producer")], Position(1))
    renewed = await world.log.renew(assignment)
    assert renewed.position is None
    await world.log.commit(renewed, [result("next")], Position(1))
    assert await visible(world) == ["next"]


async def test_who_had_a_partition_before_publishes_nothing_more(world: KafkaWorld) -> None:
    """K2: a zombie's commit carries no generation; the transactional id of the partition fences it."""
    slow = world.another(heartbeat_interval_seconds=5.0)
    zombie = await owning(slow, PARTITIONS)
    await slow.commit(zombie.assignments[0], [result("before")], Position(1))
    owner = await owning(world.log, PARTITIONS)
    await world.log.commit(owner.assignments[0], [result("owner")], Position(2))
    with pytest.raises(AssignmentLost):
        await slow.commit(zombie.assignments[0], [result("zombie")], Position(1))
    assert await visible(world) == ["before", "owner"]
    assert (await world.log.renew(owner.assignments[0])).position == Position(2)
    await slow.stop()


async def test_progress_in_memory_survives_no_new_producer(world: KafkaWorld) -> None:
    """K3: a zombie that starts a producer anew reads where the partition stands, and commits nothing from before."""
    slow = world.another(heartbeat_interval_seconds=5.0)
    zombie = (await owning(slow, PARTITIONS)).assignments[0]
    await slow.commit(zombie, [], Position(5, "1:a"))
    owner = (await owning(world.log, PARTITIONS)).assignments[0]
    await world.log.commit(owner, [result("8")], Position(8, "1:b"))
    for _ in range(3):
        with pytest.raises(AssignmentLost):
            await slow.commit(zombie, [result("6")], Position(6, "1:a"))
    renewed = await slow.renew(zombie)
    assert (renewed.position, renewed.epoch > owner.epoch) == (Position(8, "1:b"), True)
    with pytest.raises(AssignmentLost):
        await slow.commit(zombie, [result("7")], Position(7, "1:a"))
    assert await visible(world) == ["8"]
    await slow.stop()


async def test_a_position_is_never_older_than_the_last_commit(kafka: Broker, topic_prefix: str, group: str) -> None:
    """K4: right after a commit, until the next producer of that id has started, the answer may be the one before."""
    world = KafkaWorld(kafka, topic_prefix, group, partitions=8, group_instance_id="worker-0")
    await world.create()

    async def committed_and_renewed(assignment: Assignment) -> list[int]:
        found: list[int] = []
        for i in range(1, 6):
            # Records in many partitions: the markers of such a transaction take longest.
            records = [Outgoing(Topic.RESULTS, b"%d" % key, b"r") for key in range(24)]
            await world.log.commit(assignment, records, Position(i, f"1:{i}"))
            assignment = await world.log.renew(assignment)
            found.append(assignment.position.offset if assignment.position else 0)
        return found

    owner = await owning(world.log, 8)
    found = await asyncio.gather(*(committed_and_renewed(each) for each in owner.assignments.values()))
    assert found == [list(range(1, 6))] * 8
    await world.stop()


class SlowConnection(Connection):
    """Its producers' commits take a second longer than the broker does."""

    def transactional(self, partition: int) -> AIOKafkaProducer:
        producer = super().transactional(partition)
        commit = producer.commit_transaction

        async def slowly() -> None:
            await commit()
            await asyncio.sleep(1)

        producer.commit_transaction = slowly
        return producer


async def test_after_a_commit_as_slow_as_a_time_out_the_producer_is_not_used_again(world: KafkaWorld) -> None:
    """K5: the client may have asked twice, and the second request would commit the transaction after this one."""
    settings = world.settings.model_copy(update={"request_timeout_seconds": 1.0})
    log = KafkaLog(SlowConnection(settings, COMMAND_BYTES_MAX))
    assignment = (await owning(log, PARTITIONS)).assignments[0]
    await log.commit(assignment, [result("slow")], Position(1))
    with pytest.raises(AssignmentLost, match="may arrive again"):
        await log.commit(assignment, [result("next")], Position(2))
    renewed = await log.renew(assignment)
    assert renewed.position == Position(1)
    await log.commit(renewed, [result("next")], Position(2))
    assert await visible(world) == ["next", "slow"]
    await log.stop()


async def test_a_broker_that_says_nothing_ends_a_commit_a_renewal_and_a_stop_in_time(
    world: KafkaWorld, kafka: Broker
) -> None:
    """K6, K13: the client waits as long as it takes, and leaves tasks behind where its stop is cancelled."""
    log = world.another(request_timeout_seconds=1.5, transaction_timeout_seconds=2.0)
    assignment = (await owning(log, PARTITIONS)).assignments[0]
    await kafka.pause()
    began = time.monotonic()
    with pytest.raises(AssignmentLost):
        await log.commit(assignment, [result("lost")], Position(1))
    with pytest.raises((Unavailable, AssignmentLost)):
        await log.renew(assignment)
    await log.stop()
    assert time.monotonic() - began < 20
    await kafka.unpause()
    await owning(world.log, PARTITIONS)
    assert await visible(world) == []


# ------------------------------------------------------------------------------------ keys


async def test_records_of_a_key_go_where_the_java_client_would_put_them(world: KafkaWorld) -> None:
    """K16: as librdkafka does it, too, when it is told to; else most keys would be in another partition."""
    keys = [f"key-{i}".encode() for i in range(20)]
    assignment = (await owning(world.log, PARTITIONS)).assignments[0]
    await world.log.commit(assignment, [Outgoing(Topic.RESULTS, key, b"ours") for key in keys], Position(0))
    await world.stream.publish([Outgoing(Topic.COMMANDS, key, b"ours") for key in keys])
    theirs = Producer({"bootstrap.servers": world.settings.bootstrap_servers, "partitioner": "murmur2_random"})
    for key in keys:
        theirs.produce(world.connection.topic(Topic.STATUS), b"theirs", key)
    assert await asyncio.to_thread(theirs.flush, 10) == 0

    async def places(topic: Topic) -> dict[bytes | None, int]:
        start = dict.fromkeys(range(PARTITIONS), 0)
        return {each.key: each.partition async for each in world.stream.read(topic, start, follow=False)}

    expected = await places(Topic.STATUS)
    assert expected.keys() == set(keys)
    assert await places(Topic.RESULTS) == await places(Topic.COMMANDS) == expected


# ------------------------------------------------------------------------------------ sizes


async def test_the_largest_command_with_more_headers_fits_among_the_dead_letters(world: KafkaWorld) -> None:
    """K15: one that is too large there would block its partition for ever."""
    bare = Outgoing(Topic.COMMANDS, KEYS[0], b"\xff" * COMMAND_BYTES_MAX, (("ce_id", b""),))
    room = topics.record_bytes_max(Topic.COMMANDS, COMMAND_BYTES_MAX) - topics.record_bytes(bare)
    largest = replace(bare, headers=(("ce_id", b"x" * room),))
    await world.stream.publish([largest])
    assignment = (await owning(world.log, PARTITIONS)).assignments[0]
    more = tuple((f"dead-letter-{i}", b"y" * 500) for i in range(4))
    letter = replace(largest, topic=Topic.DEAD_LETTERS, headers=largest.headers + more)
    await world.log.commit(assignment, [letter], Position(1))
    [(value, _)] = await asyncio.to_thread(world.committed, Topic.DEAD_LETTERS)
    assert len(value) == COMMAND_BYTES_MAX


async def test_what_no_topic_takes_is_refused_before_anything_is_sent(world: KafkaWorld) -> None:
    """K15, K8."""
    assignment = (await owning(world.log, PARTITIONS)).assignments[0]
    for topic in Topic:
        limit = topics.record_bytes_max(topic, COMMAND_BYTES_MAX)
        with pytest.raises(Misconfigured, match="bytes for"):
            await world.log.commit(assignment, [Outgoing(topic, KEYS[0], b"x" * limit)], Position(1))
        with pytest.raises(Misconfigured, match="bytes for"):
            await world.stream.publish([Outgoing(topic, KEYS[0], b"x" * limit)])
        await world.log.commit(assignment, [Outgoing(topic, KEYS[0], b"x" * (limit - len(KEYS[0])))], Position(1))
    with pytest.raises(Misconfigured, match="4097 characters"):
        await world.log.commit(assignment, [], Position(1, "x" * 4097))
    await world.log.commit(assignment, [], Position(2, "x" * 4096))


# ------------------------------------------------------------------------------------ members


async def test_a_member_that_restarts_within_its_session_moves_no_partitions(world: KafkaWorld) -> None:
    """K10."""
    other = world.another(group_instance_id="worker-1")
    stays = await owning(world.log, PARTITIONS)
    leaves = await owning(other, 1)
    await until(lambda: len(stays.assignments) == 1)
    [mine] = leaves.assignments
    told = list(stays.told)
    await other.stop()
    again = await owning(other, 1)
    assert list(again.assignments) == [mine]
    await asyncio.sleep(3 * world.settings.heartbeat_interval_seconds)
    assert stays.told == told
    await other.stop()


async def test_of_two_workers_with_one_instance_id_the_first_stops_and_says_so(world: KafkaWorld) -> None:
    """K10: nobody fences them, and they would steal the partitions from each other for ever."""
    first = world.another()
    robbed = await owning(first, PARTITIONS)
    thief = await owning(world.log, PARTITIONS)
    with pytest.raises(Misconfigured, match="WORKER_KAFKA__GROUP_INSTANCE_ID: worker-0 is another worker's as well"):
        await fetching(first)
    assert not robbed.assignments
    await asyncio.sleep(5 * world.settings.heartbeat_interval_seconds)
    await first.stop()
    assert [what for what, _ in thief.told] == ["assigned"] * PARTITIONS
    await world.log.commit(thief.assignments[0], [result("thief")], Position(1))


class Deaf(AIOKafkaConsumer):  # type: ignore[misc]  # the library ships no types
    """Alive in every respect, and gets nothing."""

    async def getmany(self, *partitions: Any, timeout_ms: int = 0, max_records: int | None = None) -> dict[Any, Any]:
        await asyncio.sleep(timeout_ms / 1000)
        return {}


class DeafConnection(Connection):
    def member(self) -> AIOKafkaConsumer:
        consumer = super().member()
        consumer.__class__ = Deaf
        return consumer


async def test_a_consumer_that_looks_alive_and_gets_nothing_is_ended(world: KafkaWorld) -> None:
    """K13."""
    settings = world.settings.model_copy(update={"stall_timeout_seconds": 1.0})
    log = KafkaLog(DeafConnection(settings, COMMAND_BYTES_MAX))
    for assignment in (await owning(log, PARTITIONS)).assignments.values():
        log.seek(assignment, 0)
    for _ in range(20):
        assert await log.fetch(10, 0.1) == []
    await world.stream.publish([Outgoing(Topic.COMMANDS, KEYS[1], b"a")])
    with pytest.raises(AssignmentLost, match="partition 1 stands at 0 of 1"):
        await fetching(log)
    await log.stop()
