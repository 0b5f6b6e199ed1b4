"""The contracts of CommandLog and EventStream over a real broker: the very tests that the embedded file passes."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.suites import log, stream
from tests.integration.kafka_world import KafkaWorld
from tests.services.broker import Broker


class TestLog(log.LogContract):
    @pytest.fixture
    async def world(self, kafka: Broker, topic_prefix: str, group: str) -> AsyncIterator[log.World]:
        """One instance id for all that the tests start one after another, so that none waits for a session to end."""
        world = KafkaWorld(kafka, topic_prefix, group, partitions=log.PARTITIONS, group_instance_id="worker-0")
        await world.create()
        yield world
        await world.stop()


class TestStream(stream.StreamContract):
    @pytest.fixture
    async def world(self, kafka: Broker, topic_prefix: str, group: str) -> AsyncIterator[stream.World]:
        world = KafkaWorld(kafka, topic_prefix, group, partitions=stream.PARTITIONS)
        await world.create()
        yield world
        await world.stop()
