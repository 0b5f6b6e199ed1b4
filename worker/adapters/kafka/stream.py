"""The event stream on Kafka: what an API tier does; clients are started when they are first used.

Commands are published idempotently and without a transaction; only committed data is read.  Knows nothing of groups and
positions.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiokafka.structs import TopicPartition

from worker.adapters.kafka import position, topics
from worker.adapters.kafka.calling import calling
from worker.adapters.kafka.connecting import administrator
from worker.adapters.kafka.connection import Connection
from worker.adapters.kafka.ending import end
from worker.errors import OutcomeUnknown, Transient, Unavailable
from worker.partitioner import partition_of
from worker.ports import Outgoing, Record, Topic

POLL_SECONDS = 0.2
READ_MAX = 500
RETRY_SECONDS = 0.2
STOP_SECONDS = 2.0


class KafkaStream:
    """Implements `EventStream`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seconds = connection.settings.request_timeout_seconds
        self._starting = asyncio.Lock()
        self._producer: Any = None
        self._reader: Any = None
        self._partitions = 0
        self._seen: set[Topic] = set()

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[tuple[int, int]]:
        """Raises Unavailable where nothing was sent, Misconfigured for a record that its topic does not take."""
        topics.check_sizes(records, None, self._connection.command_bytes_max)
        producer = await self._started_producer()
        try:
            async with calling("publish", 2 * self._seconds):
                sent = [await self._send(producer, record) for record in records]
                if sent:
                    await asyncio.wait(sent)
                return [(at.partition, at.offset) for at in (future.result() for future in sent)]
        except Unavailable as error:
            # What was sent may still arrive: it is this producer's no longer, so that order is kept.
            if self._producer is producer:
                self._producer = None
            await end(producer, STOP_SECONDS)
            raise OutcomeUnknown(str(error)) from error

    async def _send(self, producer: Any, record: Outgoing) -> Any:
        number = partition_of(record.key, self._partitions)
        name, headers = self._connection.topic(record.topic), list(record.headers)
        return await producer.send(name, record.value, record.key, number, headers=headers)

    async def bounds(self, topic: Topic) -> Mapping[int, tuple[int, int]]:
        """Raises Unavailable, Refused, Misconfigured."""
        reader = await self._started_reader(topic)
        wanted = [TopicPartition(self._connection.topic(topic), number) for number in range(self._partitions)]
        found = await position.bounds(reader, wanted, self._seconds)
        return {partition.partition: at for partition, at in found.items()}

    async def read(self, topic: Topic, start: Mapping[int, int], *, follow: bool) -> AsyncIterator[Record]:
        """Raises Unavailable, Refused, Misconfigured; with `follow` a broker that is away is waited for."""
        bounds = await self.bounds(topic)
        name = self._connection.topic(topic)
        left = {
            TopicPartition(name, number): bounds[number][1]
            for number, offset in start.items()
            if number in bounds and (follow or offset < bounds[number][1])
        }
        if not left:
            return
        consumer = self._connection.reader()
        try:
            async with calling("connect", self._seconds):
                await consumer.start()
            consumer.assign(list(left))
            for partition in left:  # nothing is awaited in between, so the client looks for no position itself
                first, last = bounds[partition.partition]
                consumer.seek(partition, min(max(start[partition.partition], first), last))
            while left or follow:
                for record in await self._page(consumer, follow=follow):
                    if record.offset >= start[record.partition]:
                        yield _record(topic, record)
                if not follow:
                    left = {at: last for at, last in left.items() if await consumer.position(at) < last}
        finally:
            await end(consumer, STOP_SECONDS)

    async def _page(self, consumer: Any, *, follow: bool) -> list[Any]:
        """Some more, none beyond the end as it was."""
        try:
            async with calling("read", self._seconds):
                found = await consumer.getmany(timeout_ms=round(POLL_SECONDS * 1000), max_records=READ_MAX)
        except Transient:
            if not follow:
                raise
            await asyncio.sleep(RETRY_SECONDS)
            return []
        return [record for records in found.values() for record in records]

    async def _started_producer(self) -> Any:
        async with self._starting:
            if self._producer is None:
                await self._learn()
                self._producer = await self._started(self._connection.idempotent())
            return self._producer

    async def _started_reader(self, topic: Topic) -> Any:
        async with self._starting:
            await self._learn(topic)
            if self._reader is None:
                self._reader = await self._started(self._connection.reader())
            return self._reader

    async def _started(self, client: Any) -> Any:
        try:
            async with calling("connect", self._seconds):
                await client.start()
        except BaseException:
            await end(client, STOP_SECONDS)
            raise
        return client

    async def _learn(self, *read: Topic) -> None:
        """How many partitions there are, which never changes, and that the topics to be `read` may be looked at.

        The client waits for a topic that is missing, or that it may not see, until the time is up.
        """
        if self._partitions and self._seen.issuperset(read):
            return
        seen = tuple(dict.fromkeys((*topics.SEEN_BY_AN_API_TIER, *read)))
        admin = await administrator(self._connection)
        try:
            self._partitions = await topics.partitions(self._connection, admin, seen)
            self._seen.update(seen)
        finally:
            await end(admin, STOP_SECONDS)

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        reader, self._reader = self._reader, None
        await asyncio.gather(*(end(client, STOP_SECONDS) for client in (producer, reader) if client is not None))


def _record(topic: Topic, found: Any) -> Record:
    at = datetime.fromtimestamp(found.timestamp / 1000, UTC)
    return Record(topic, found.partition, found.offset, at, found.key, found.value, found.headers)
