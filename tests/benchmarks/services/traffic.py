"""Commands in, verdicts out, as an API tier sees them: librdkafka, read_committed, the broker's times.

Knows nothing of the worker but the words of its topics.  Blocks: all of it is for `asyncio.to_thread`.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from worker.ports import Outgoing

TIMEOUT_SECONDS = 240.0
TOO_MANY_SECONDS = 1.0
"""How long is looked for verdicts beyond those that are due."""


class Place(NamedTuple):
    """Where a command record stands."""

    partition: int
    offset: int


class Pause(NamedTuple):
    """A partition gave no verdict although a command waited for one; times of the broker, in seconds."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(slots=True)
class Traffic:
    """Both ends.  `published`: when each command record was appended; `answered`: when its verdicts were."""

    bootstrap_servers: str
    topic_prefix: str
    partitions: int
    published: dict[Place, float] = field(default_factory=dict)
    answered: dict[Place, list[float]] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=Counter)
    _producer: Any = None
    _commands: Any = None
    _results: Any = None

    def __enter__(self) -> Self:
        self._producer = Producer({"bootstrap.servers": self.bootstrap_servers, "partitioner": "murmur2_random"})
        self._commands, self._results = self._consumer("commands"), self._consumer("results")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._producer.flush(10)
        self._commands.close()
        self._results.close()

    def publish(self, commands: Iterable[Outgoing]) -> None:
        """All of them, acknowledged."""
        topic = f"{self.topic_prefix}.commands"
        for command in commands:
            self._producer.produce(topic, command.value, command.key, headers=list(command.headers))
        assert self._producer.flush(30) == 0

    def await_verdicts(self, count: int) -> list[float]:
        """So many more -> when they were appended, in order.  Raises AssertionError after a while."""
        deadline, times = time.monotonic() + TIMEOUT_SECONDS, list[float]()
        while len(times) < count:
            assert time.monotonic() < deadline, f"{len(times)} of {count} verdicts"
            times += self._read_results(0.2)
        return sorted(times)

    def check(self) -> None:
        """That each command record has exactly one verdict.  Raises AssertionError."""
        self._read_results(TOO_MANY_SECONDS)
        self._read_commands()
        assert {place: len(times) for place, times in self.answered.items()} == dict.fromkeys(self.published, 1)

    def pauses(self) -> list[Pause]:
        """Of each partition, between one verdict and the next, from when a command was there to be answered."""
        found = list[Pause]()
        for partition in range(self.partitions):
            ours = [
                (self.answered[place][0], since) for place, since in self.published.items() if place[0] == partition
            ]
            found += _pauses(sorted(ours))
        return found

    def _read_results(self, seconds: float) -> list[float]:
        times = []
        for message in self._results.consume(500, seconds):
            about = dict(_checked(message).headers())
            place = Place(int(about["verdict-partition"]), int(about["verdict-offset"]))
            times.append(_appended(message))
            self.answered.setdefault(place, []).append(times[-1])
            self.codes[json.loads(message.value())["code"]] += 1
        return times

    def _read_commands(self) -> None:
        while messages := self._commands.consume(500, 0.5):
            for message in messages:
                place = Place(_checked(message).partition(), message.offset())
                self.published[place] = _appended(message)

    def _consumer(self, topic: str) -> Any:
        """At read_committed, from the beginning."""
        settings = {
            "bootstrap.servers": self.bootstrap_servers,
            "group.id": "bench",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
        consumer = Consumer(settings)
        name = f"{self.topic_prefix}.{topic}"
        consumer.assign([TopicPartition(name, number, 0) for number in range(self.partitions)])
        return consumer


def _pauses(answers: Sequence[tuple[float, float]]) -> Iterator[Pause]:
    """Of one partition, from when commands were answered and published, in the order of the answers."""
    waiting_since = float("inf")
    befores = [float("-inf"), *(answered for answered, _ in answers)]
    for (answered, published), before in reversed(list(zip(answers, befores, strict=False))):
        waiting_since = min(waiting_since, published)
        yield Pause(max(waiting_since, before), answered)


def _checked(message: Message) -> Any:
    assert message.error() is None, message.error()
    return message


def _appended(message: Message) -> float:
    """In seconds; topics carry the broker's time."""
    _, milliseconds = message.timestamp()
    return milliseconds / 1000
