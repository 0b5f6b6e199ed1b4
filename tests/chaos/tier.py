"""Both ends of the log as an API tier has them: commands out, verdicts in, by librdkafka at read_committed.

Counts what is unanswered, and the longest time without a verdict.  Judges nothing: that is the checker's.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from worker.partitioner import partition_of
from worker.ports import Outgoing

POLL_SECONDS = 0.1
FLUSH_SECONDS = 120.0
Place = tuple[int, int]
CALM = {"log_level": 0, "reconnect.backoff.ms": 500}
"""Outages are the point of it: they are not logged, and not met with a storm of connections."""


class Tier:
    """`async with Tier(...) as tier`; everything is safe to call from the loop, the reading is a thread."""

    def __init__(self, bootstrap_servers: str, prefix: str, partitions: int) -> None:
        self._servers, self._prefix, self._partitions = bootstrap_servers, prefix, partitions
        self._producer: Any = Producer(
            CALM
            | {
                "bootstrap.servers": bootstrap_servers,
                "client.id": "tier",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "message.timeout.ms": 300_000,
                "linger.ms": 5,
            }
        )
        self._reading = threading.Thread(target=self._read, name="reads verdicts")
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._sent = 0
        self._answered: Counter[Place] = Counter()
        self.lost: list[str] = []
        """Commands that the log did not take, with the reason: the run is worth nothing then."""
        self.silence_seconds = 0.0
        """The longest time in which commands waited and no verdict came."""

    async def __aenter__(self) -> Self:
        self._reading.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._producer.purge()
        await asyncio.to_thread(self._reading.join)  # it says good-bye to a broker that this loop may lie before
        await asyncio.to_thread(self._producer.flush, 1)

    @property
    def sent(self) -> int:
        return self._sent

    @property
    def answered(self) -> int:
        """Command records with a verdict."""
        return len(self._answered)

    @property
    def unanswered(self) -> int:
        return self._sent - len(self._answered)

    def publish(self, record: Outgoing, *, elsewhere: bool = False) -> None:
        """In the order of the calls; `elsewhere`: in the partition after the one of its key."""
        with self._lock:
            self._sent += 1
        to = {"partition": (partition_of(record.key, self._partitions) + 1) % self._partitions} if elsewhere else {}
        topic, headers = f"{self._prefix}.commands", list(record.headers)
        self._producer.produce(topic, record.value, record.key, headers=headers, on_delivery=self._delivered, **to)
        self._producer.poll(0)

    def serve(self) -> None:
        """Take in what the broker acknowledged."""
        self._producer.poll(0)

    def flush(self) -> None:
        """Until the log has all of it.  Blocks."""
        if left := self._producer.flush(FLUSH_SECONDS):
            self.lost.append(f"{left} commands are not acknowledged after {FLUSH_SECONDS:g} s")

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.lost.append(str(error))

    def _read(self) -> None:
        consumer = Consumer(
            CALM
            | {
                "bootstrap.servers": self._servers,
                "client.id": "tier",
                "group.id": f"{self._prefix}-tier",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        consumer.assign([TopicPartition(f"{self._prefix}.results", number, 0) for number in range(self._partitions)])
        since = time.monotonic()
        while not self._ending.is_set():
            found = list(_places(consumer.consume(500, POLL_SECONDS)))
            with self._lock:
                self._answered.update(found)
            now = time.monotonic()
            if found or not self.unanswered:
                self.silence_seconds = max(self.silence_seconds, now - since) if found else self.silence_seconds
                since = now
        consumer.close()


def _places(messages: Iterable[Message]) -> Iterable[Place]:
    """The command records that these results answer; errors are the client's, which goes on by itself."""
    for message in messages:
        if message.error() is None:
            about: dict[str, Any] = dict(message.headers() or ())
            yield int(about["verdict-partition"]), int(about["verdict-offset"])
