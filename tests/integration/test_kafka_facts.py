"""The facts that the simulator's model of Kafka imitates, on a real broker and with the real client."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.transaction import EndTxnRequest

from tests.contract.suites.kafka_facts import PARTITIONS, KafkaFacts, Rig
from tests.integration.kafka_world import KafkaWorld
from tests.services.broker import Broker


class RealRig(KafkaWorld):
    """A rig whose broker is a container."""

    def __init__(self, broker: Broker, prefix: str, group: str) -> None:
        super().__init__(broker, prefix, group, partitions=PARTITIONS)
        self._broker = broker

    async def away(self) -> None:
        await self._broker.pause()

    async def back(self) -> None:
        await self._broker.unpause()

    async def end_again(self, producer: Any) -> None:
        """The request as the client sends it, over a connection of its own."""
        manager, client = producer._txn_manager, producer.client
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, manager.transactional_id)
        request = EndTxnRequest(
            transactional_id=manager.transactional_id,
            producer_id=manager.producer_id,
            producer_epoch=manager.producer_epoch,
            transaction_result=True,
        )
        answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        assert answer.error_code == 0


class TestFacts(KafkaFacts):
    @pytest.fixture
    async def rig(self, kafka: Broker, topic_prefix: str, group: str) -> AsyncIterator[Rig]:
        rig = RealRig(kafka, topic_prefix, group)
        await rig.create()
        yield rig
        await rig.stop()
