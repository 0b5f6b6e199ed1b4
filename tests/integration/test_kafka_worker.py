"""Whole workers over a real broker: killed, robbed of it, joined and left; judged by librdkafka at read_committed."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.stack import evaluation_id, message
from tests.integration.kafka_worker import Worker, answered, create, once_each, updates
from tests.integration.kafka_world import COMMAND_BYTES_MAX, KafkaWorld, owning, until
from tests.services.broker import Broker
from worker.adapters.kafka import Connection
from worker.ports import Outgoing, Position, Topic

PARTITIONS = 4
KEYS = 20


@pytest.fixture
async def world(kafka: Broker, topic_prefix: str, group: str) -> AsyncIterator[KafkaWorld]:
    world = KafkaWorld(kafka, topic_prefix, group, partitions=PARTITIONS)
    await world.create()
    yield world
    await world.stop()


@pytest.fixture
async def static(kafka: Broker, topic_prefix: str, group: str) -> AsyncIterator[KafkaWorld]:
    """With an instance id: who starts after a kill need not wait for the end of a session."""
    world = KafkaWorld(kafka, topic_prefix, group, partitions=PARTITIONS, group_instance_id="worker-0")
    await world.create()
    yield world
    await world.stop()


@pytest.fixture
async def hire(tmp_path: Path) -> AsyncIterator[Callable[[Connection], Worker]]:
    """Makes workers over one folder of documents; they are stopped at the end."""
    hired: list[Worker] = []

    def make(connection: Connection) -> Worker:
        hired.append(Worker(connection, tmp_path))
        return hired[-1]

    yield make
    for worker in hired:
        await worker.engine.stop()


Hire = Callable[[Connection], Worker]


async def test_an_evaluation_is_cancelled_and_librdkafka_reads_the_verdict(world: KafkaWorld, hire: Hire) -> None:
    worker = hire(world.connection)
    await worker.engine.start()
    await create(worker.store, 1)
    name = evaluation_id(1)
    for key in (f"teams/team-1/evaluations/{name}/partial/1", f"teams/team-1/evaluations/{name}/request.json"):
        await worker.store.put(key, b"x")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await world.stream.publish([message("evaluation.cancel", "c1", extra={"traceparent": trace})])
    [verdict] = await answered(world, 1)
    [(_, about)] = await asyncio.to_thread(world.committed, Topic.RESULTS)
    assert about["traceparent"] == trace.encode()
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    assert await worker.store.list("teams/") == [f"teams/team-1/evaluations/{name}/request.json"]
    changes = [json.loads(value) for value, _ in await asyncio.to_thread(world.committed, Topic.STATUS)]
    first = {change["version"]: change["after"] for change in reversed(changes)}
    assert first == {1: "cancelling", 2: "cancelled"}


async def test_poison_of_the_largest_size_blocks_nothing(world: KafkaWorld, hire: Hire) -> None:
    worker = hire(world.connection)
    await worker.engine.start()
    await create(worker.store, 1)
    key = f"evaluation/{evaluation_id(1)}".encode()
    many = tuple((f"x-{i}", b"y" * 1000) for i in range(50))
    poison = Outgoing(Topic.COMMANDS, key, b"\xff" * (COMMAND_BYTES_MAX - 1), (("ce_id", b"p1"), *many))
    await world.stream.publish([poison, *updates(1, 1)])
    verdicts = {verdict["command"]["id"]: verdict["http_status"] for verdict in await answered(world, 2)}
    assert verdicts == {"p1": 422, "u0": 200}
    [(_, about)] = await asyncio.to_thread(world.committed, Topic.DEAD_LETTERS)
    assert {"ce_dataref", "dead-letter-headers-dataref"} <= about.keys()


async def test_kill_9_of_a_worker_under_load_loses_and_doubles_nothing(
    static: KafkaWorld, tmp_path: Path, hire: Hire
) -> None:
    """K7: what it left open is aborted by whoever takes the partition over, at once."""
    successor = hire(static.connection)
    await successor.store.start()
    await create(successor.store, KEYS)
    arguments = ["-m", "tests.integration.kafka_worker", static.settings.model_dump_json(), str(tmp_path)]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"started\n"
    publishing = asyncio.create_task(_publish(static, 300))
    await answered(static, 30)
    assert not publishing.done()
    child.kill()
    await child.wait()
    await successor.engine.start()
    await publishing
    assert once_each(await answered(static, 300)) == sorted(f"u{i}" for i in range(300))


async def test_what_a_killed_worker_left_open_is_never_seen(static: KafkaWorld) -> None:
    """The next owner's start aborts it, and readers at read_committed do not wait for a time-out."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", static.source + LEFT_OPEN, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"open\n"
    child.kill()
    await child.wait()
    owner = await owning(static.log, PARTITIONS)
    assert owner.assignments[0].position is None
    await static.log.commit(owner.assignments[0], [Outgoing(Topic.RESULTS, b"k", b"successor")], Position(1))
    async with asyncio.timeout(5):
        found = await asyncio.to_thread(static.committed, Topic.RESULTS)
    assert [value for value, _ in found] == [b"successor"]


LEFT_OPEN = """
import asyncio
async def main():
    producer = connection.transactional(0)
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(connection.settings.topic_prefix + ".results", b"left open", b"k")
    print("open", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_broker_that_is_killed_under_load_loses_and_doubles_nothing(
    world: KafkaWorld, kafka: Broker, hire: Hire
) -> None:
    worker = hire(world.connection)
    await worker.engine.start()
    await create(worker.store, KEYS)
    for i in range(3):
        await world.stream.publish(updates(100, KEYS, i * 100))
    await answered(world, 30)
    await kafka.kill()
    await asyncio.sleep(1)
    await kafka.start()
    await world.stream.publish(updates(20, KEYS, 300))
    assert once_each(await answered(world, 320)) == sorted(f"u{i}" for i in range(320))


async def test_a_worker_that_joins_and_leaves_under_load_loses_and_doubles_nothing(
    world: KafkaWorld, hire: Hire
) -> None:
    first, second = hire(world.connection), hire(world.connect())
    await first.engine.start()
    await create(first.store, KEYS)
    publishing = asyncio.create_task(_publish(world, 300))
    await answered(world, 20)
    await second.engine.start()
    await asyncio.gather(first.owns(PARTITIONS // 2), second.owns(PARTITIONS // 2))
    await answered(world, 100)
    await second.engine.stop()
    await first.owns(PARTITIONS)
    await publishing
    assert once_each(await answered(world, 300)) == sorted(f"u{i}" for i in range(300))


async def _publish(world: KafkaWorld, count: int) -> None:
    for i in range(0, count, 10):
        await world.stream.publish(updates(10, KEYS, i))
        await asyncio.sleep(0.02)


async def test_a_partition_that_retention_has_passed_by_stands_still_and_the_others_go_on(
    world: KafkaWorld, hire: Hire
) -> None:
    worker = hire(world.connection)
    await worker.engine.start()
    await create(worker.store, KEYS)
    await world.stream.publish(updates(100, KEYS))
    await answered(world, 100)
    await worker.engine.stop()
    await world.stream.publish(updates(100, KEYS, 100))
    last = (await world.stream.bounds(Topic.COMMANDS))[0][1]
    await world.trim(0, last)
    again = hire(world.connect())
    await again.engine.start()
    await again.owns(PARTITIONS - 1)
    await until(lambda: list(again.engine.consumer.stopped) == [0])
