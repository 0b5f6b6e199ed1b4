"""Kafka for one test: topics and a group of its own on the shared broker, and what reads it without our code.

Both contract suites' worlds are made here.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as Place

from tests.services.broker import Broker
from worker.adapters.kafka import Connection, KafkaLog, KafkaStream, topics
from worker.ports import Assignment, CommandLog, EventStream, Topic
from worker.settings import KafkaSettings

COMMAND_BYTES_MAX = 8 * 1024 * 1024
QUICK: dict[str, Any] = {
    "session_timeout_seconds": 6,  # the least that brokers take as they come
    "heartbeat_interval_seconds": 0.2,
    "request_timeout_seconds": 5,
    "transaction_timeout_seconds": 15,
    "replication_factor": 1,
}
MAKE = """
from worker.adapters.kafka import Connection, KafkaLog, KafkaStream
from worker.settings import KafkaSettings
class Lazily:
    def __init__(self, make): self.make, self.made = make, None
    def __getattr__(self, name):
        self.made = self.made or self.make()
        return getattr(self.made, name)
connection = Connection(KafkaSettings.model_validate_json({settings!r}), {command_bytes_max})
log, stream = Lazily(lambda: KafkaLog(connection)), Lazily(lambda: KafkaStream(connection))
"""


class KafkaWorld:
    """Topics that no other test has; `log` and `stream` are two clients of them."""

    exclusive = False

    def __init__(self, broker: Broker, prefix: str, group: str, *, partitions: int, **settings: Any) -> None:
        self.partitions = partitions
        whole = {"bootstrap_servers": broker.bootstrap_servers, "topic_prefix": prefix, "group": group}
        self.settings = KafkaSettings.model_validate(QUICK | whole | settings)
        self.connection = self.connect()
        self.log: CommandLog = KafkaLog(self.connection)
        self.stream: EventStream = KafkaStream(self.connection)
        self.source = MAKE.format(settings=self.settings.model_dump_json(), command_bytes_max=COMMAND_BYTES_MAX)

    def connect(self, **settings: Any) -> Connection:
        """The same topics, with some settings changed."""
        return Connection(self.settings.model_copy(update=settings), COMMAND_BYTES_MAX)

    def another(self, **settings: Any) -> KafkaLog:
        return KafkaLog(self.connect(**settings))

    async def create(self) -> None:
        assert all(finding.ok for finding in await topics.create(self.connection, self.partitions))

    async def stop(self) -> None:
        await self.log.stop()
        await self.stream.stop()

    async def trim(self, partition: int, before: int) -> None:
        async with self.admin() as admin:
            place = TopicPartition(self.connection.topic(Topic.COMMANDS), partition)
            await admin.delete_records({place: RecordsToDelete(before)})

    async def alter(self, topic: Topic, **configuration: str) -> None:
        """Change a topic's configuration (`max_message_bytes=...`), and wait until the broker has it."""
        name = self.connection.topic(topic)
        wanted = {key.replace("_", "."): value for key, value in configuration.items()}
        async with self.admin() as admin, asyncio.timeout(10):
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])
            while True:
                [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
                has = {key: value for key, value, *_ in answer.resources[0][4]}
                if wanted.items() <= has.items():
                    return
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        admin = self.connection.admin()
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    def committed(self, topic: Topic) -> list[tuple[bytes, dict[str, Any]]]:
        """Values and headers, as librdkafka reads them at read_committed; blocks, so it is for `to_thread`."""
        consumer = Consumer(
            {
                **self._librdkafka,
                "group.id": "reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        name = self.connection.topic(topic)
        consumer.assign([Place(name, number, 0) for number in range(self.partitions)])
        found: list[tuple[bytes, dict[str, Any]]] = []
        ended: set[int] = set()
        while len(ended) < self.partitions:
            message = consumer.poll(5)
            if message is None:
                raise TimeoutError(f"{name}: no end within 5 s")
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:  # its public name
                    ended.add(message.partition() or 0)
            else:
                found.append((message.value() or b"", dict(message.headers() or [])))
        consumer.close()
        return found

    @property
    def _librdkafka(self) -> dict[str, Any]:
        """The settings of the connection, as that client has them."""
        settings = self.settings
        named = {
            "bootstrap.servers": settings.bootstrap_servers,
            "security.protocol": settings.security,
            "ssl.ca.location": settings.ca_file,
            "sasl.mechanism": settings.sasl_mechanism if settings.sasl_username else "",
            "sasl.username": settings.sasl_username,
            "sasl.password": settings.sasl_password.get_secret_value(),
        }
        return {name: value for name, value in named.items() if value}

    async def verdicts(self) -> list[dict[str, Any]]:
        """Of the results that are committed by now."""
        return [json.loads(value) for value, _ in await asyncio.to_thread(self.committed, Topic.RESULTS)]


class Owner:
    """What the log tells its reader, kept, with the order in which it was told."""

    def __init__(self) -> None:
        self.assignments: dict[int, Assignment] = {}
        self.told: list[tuple[str, int]] = []

    async def assigned(self, assignment: Assignment) -> None:
        self.told.append(("assigned", assignment.partition))
        self.assignments[assignment.partition] = assignment

    async def revoked(self, partition: int) -> None:
        self.told.append(("revoked", partition))
        self.assignments.pop(partition, None)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until it is so.  Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # brokers tell nobody
            await asyncio.sleep(0.01)


async def owning(log: CommandLog, partitions: int) -> Owner:
    """Start it, and wait until so many are its own."""
    owner = Owner()
    await log.start(owner)
    await until(lambda: len(owner.assignments) == partitions)
    return owner
