"""Taking a partition over: the producer first, which fences whoever had it, and only then where it stands (K4).

Knows nothing of who is told, and of what becomes of the one before.
"""

from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from worker.adapters.kafka import position
from worker.adapters.kafka.connection import Connection
from worker.adapters.kafka.producer import PartitionProducer
from worker.ports import Assignment, Topic


@dataclass(frozen=True, slots=True)
class Held:
    """A partition that is ours, and its producer."""

    assignment: Assignment
    producer: PartitionProducer


async def take(
    connection: Connection, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, number: int, partitions: int
) -> Held:
    """A new assignment of partition `number` of so many.  Raises Unavailable, Refused, Misconfigured."""
    partition = TopicPartition(connection.topic(Topic.COMMANDS), number)
    group, seconds = connection.settings.group, connection.settings.request_timeout_seconds
    producer = PartitionProducer(connection, number)
    await producer.start()
    try:
        stood = await position.committed(admin, group, partition, seconds)
        [(first, last)] = (await position.bounds(consumer, [partition], seconds)).values()
    except BaseException:
        await producer.stop()
        raise
    return Held(Assignment(number, producer.epoch, stood, first, last, partitions), producer)
