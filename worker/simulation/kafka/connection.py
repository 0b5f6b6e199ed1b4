"""The production adapter's connection, with simulated clients: all else of the adapter runs as it is."""

from typing import Any

from worker.adapters.kafka import topics
from worker.adapters.kafka.connection import BATCH_BYTES_MAX, HEADERS_BYTES_MAX, Connection
from worker.ports import Topic
from worker.settings import KafkaSettings
from worker.simulation.kafka.admin import AdminModel
from worker.simulation.kafka.broker import Broker
from worker.simulation.kafka.consumer import ConsumerModel
from worker.simulation.kafka.link import Link
from worker.simulation.kafka.membership import Settings
from worker.simulation.kafka.producer import ProducerModel
from worker.simulation.world import World


def broker_with_topics(world: World, settings: KafkaSettings, *, partitions: int, command_bytes_max: int) -> Broker:
    """As `worker topics create` leaves it."""
    broker = Broker(world)
    for topic in Topic:
        broker.create(f"{settings.topic_prefix}.{topic.value}", partitions, topics.wanted(topic, command_bytes_max))
    return broker


class SimulatedConnection(Connection):
    """Made inside of the process whose clients it makes."""

    def __init__(self, broker: Broker, settings: KafkaSettings, command_bytes_max: int) -> None:
        super().__init__(settings, command_bytes_max)
        self._broker = broker

    def admin(self) -> Any:
        return AdminModel(self._broker, *self._client)

    def member(self) -> Any:
        settings = self.settings
        member = Settings(
            settings.group,
            settings.group_instance_id,
            session_seconds=settings.session_timeout_seconds,
            rebalance_seconds=settings.session_timeout_seconds,
            heartbeat_seconds=settings.heartbeat_interval_seconds,
        )
        return ConsumerModel(self._broker, *self._client, member)

    def reader(self) -> Any:
        return ConsumerModel(self._broker, *self._client)

    def transactional(self, partition: int) -> Any:
        return self._producer(
            transactional_id=self.transactional_id(partition),
            transaction_timeout_seconds=self.settings.transaction_timeout_seconds,
        )

    def idempotent(self) -> Any:
        return self._producer()

    async def greet(self, address: str) -> None:
        await Link(self._broker, *self._client).bootstrap()

    def _producer(self, **transactional: Any) -> ProducerModel:
        client_id, seconds = self._client
        return ProducerModel(
            self._broker,
            client_id,
            timeout_seconds=seconds,
            batch_bytes_max=BATCH_BYTES_MAX,
            request_bytes_max=self.command_bytes_max + 3 * HEADERS_BYTES_MAX,
            **transactional,
        )

    @property
    def _client(self) -> tuple[str, float]:
        """Client id and time-out of a request, in seconds."""
        return self.settings.client_id, self.settings.request_timeout_seconds
