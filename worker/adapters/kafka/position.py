"""Where a partition stands: committed offset with its metadata, and the bounds of its log.

The position is right only once the partition's producer has started: that ends a transaction which was being
committed, and the answer does not wait for one (K4).  It is read by the admin client, as the consumer's own call leaves
the metadata out (K8).
"""

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from worker.adapters.kafka.calling import calling
from worker.errors import Unavailable
from worker.ports import Position

METADATA_CHARACTERS_MAX = 4096
NEVER_COMMITTED = -1


async def committed(
    admin: AIOKafkaAdminClient, group: str, partition: TopicPartition, timeout_seconds: float
) -> Position | None:
    """None where nothing was ever committed.  Raises Unavailable, Refused."""
    async with calling("read the position", timeout_seconds):
        return position_of(await admin.list_consumer_group_offsets(group, partitions=[partition]), partition)


def position_of(found: Mapping[TopicPartition, OffsetAndMetadata], partition: TopicPartition) -> Position | None:
    """A partition that was asked for and is not in the answer: the client drops the error that came in its place.

    Taken for "never committed", a coordinator that is still loading would have the whole log decided again.
    Raises Unavailable.
    """
    if partition not in found:
        raise Unavailable(f"kafka: the group's coordinator knows nothing of partition {partition.partition} yet")
    offset, metadata = found[partition]
    return None if offset == NEVER_COMMITTED else Position(offset, metadata or "")


async def bounds(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], timeout_seconds: float
) -> dict[TopicPartition, tuple[int, int]]:
    """-> {partition: (first offset, offset after the last committed record)}.  Raises Unavailable, Refused."""
    async with calling("read the bounds of the log", timeout_seconds):
        firsts: dict[Any, int] = await consumer.beginning_offsets(partitions)
        ends: dict[Any, int] = await consumer.end_offsets(partitions)
    return {partition: (firsts[partition], ends[partition]) for partition in partitions}
