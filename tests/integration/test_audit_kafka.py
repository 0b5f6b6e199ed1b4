"""Checkpoints over a real broker: a partition that moves between owners is sealed without a gap, and verified."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas.audit import DecisionSettings
from tests.integration.kafka_worker import Worker, answered, create, updates
from tests.integration.kafka_world import KafkaWorld
from tests.services.broker import Broker
from tests.unit.chained import KEYS, SIGNED, named
from worker.audit.checkpoints import seals
from worker.ports import Topic
from worker.runtime.engine import Engine, EngineSettings

PARTITIONS = 3


@pytest.fixture
async def world(kafka: Broker, topic_prefix: str, group: str) -> AsyncIterator[KafkaWorld]:
    world = KafkaWorld(kafka, topic_prefix, group, partitions=PARTITIONS)
    await world.create()
    yield world
    await world.stop()


def hired(world: KafkaWorld, folder: Path) -> Worker:
    """A worker with a key, which seals when it is drained."""
    worker = Worker(world.connection, folder)
    settings = EngineSettings(decisions=DecisionSettings(), build="test", signers=SIGNED)
    worker.engine = Engine(worker.engine._ports, settings)
    return worker


async def test_each_owner_goes_on_where_the_last_one_sealed_and_marks_of_transactions_are_no_records(
    world: KafkaWorld, tmp_path: Path
) -> None:
    for number in range(2):
        worker = hired(world, tmp_path)
        await worker.engine.start()
        if number == 0:
            await create(worker.store, 12)
        await world.stream.publish(updates(30, 12, start=30 * number))
        await answered(world, 30 * (number + 1))
        await worker.engine.drain()
        await worker.engine.stop()
    bounds = await world.stream.bounds(Topic.AUDIT)
    given = await seals(world.stream, [KEYS["a"].public])
    records = 0
    async for record in world.stream.read(Topic.AUDIT, dict.fromkeys(bounds, 0), follow=False):
        given.take(record.partition, record.offset, record.value or b"")
        records += 1
    assert records >= 60 + 12
    assert named(given.finish({number: end for number, (_, end) in bounds.items()})) == []
    covered = {number: (sealed.end, sealed.after) for number, sealed in given.covered.items()}
    assert covered == {number: (end, 0) for number, (_, end) in bounds.items()}
    checkpoints = await world.stream.bounds(Topic.CHECKPOINTS)
    assert sum(end - first for first, end in checkpoints.values()) == 2 * PARTITIONS
