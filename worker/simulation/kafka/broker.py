"""The broker: all that is durable in Kafka, what requests do to it, and what the checker and the API tier see of it.

It outlives every process.  Faults that are decided here: F4, F9, F11, F13.  Knows nothing of the clients that ask.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import errors
from aiokafka.structs import TopicPartition

from worker.simulation.kafka.groups import Group
from worker.simulation.kafka.members import settle
from worker.simulation.kafka.partition import Batch, Content, Headers, PartitionLog, Stored
from worker.simulation.kafka.transactions import Ended, Position, Transactions
from worker.simulation.process import EPOCH
from worker.simulation.service import Service, Troubles
from worker.simulation.world import World

METADATA_CHARACTERS_MAX = 4096
BATCH_BYTES_MAX = 1024 * 1024 + 12
"""What a topic takes that says nothing of it."""
PAGE_BYTES_MAX = 1024 * 1024
LOADING_SECONDS = (0.02, 1.0)
HURRY_SECONDS = 0.2
"""A fetch is answered by then, whether or not there is something (`fetch_max_wait_ms`)."""
REFUSED_SEND = (errors.MessageSizeTooLargeError, errors.TopicAuthorizationFailedError)
DEFAULTS = {
    "cleanup.policy": "delete",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "max.message.bytes": str(BATCH_BYTES_MAX),
    "message.timestamp.type": "CreateTime",
}
BROKER = {"offsets.retention.minutes": "10080"}

Page = tuple[list[Stored], int]
Pages = dict[TopicPartition, Page | errors.KafkaError]


class Topic(NamedTuple):
    """How many partitions it has, and what was configured."""

    partitions: int
    configuration: Mapping[str, str]


class Wire(Service):
    """The way to the broker; when that goes away and comes back, it notices."""

    def __init__(self, world: World) -> None:
        self._away = False
        self.coordinators = 0
        """Which node they are on: grows when they move."""
        self.loading_until_seconds = 0.0
        self.parked: dict[asyncio.Future[Any], None] = {}
        """Answers that somebody waits for, over a connection that a crash of the broker ends."""
        self.groups: dict[str, Group] = {}
        self._moves = world.random("kafka/coordinators")
        super().__init__(world, "kafka", Troubles(request_lost="F2", reply_lost="F3", late="F4", away="F11"))

    @property
    def away(self) -> bool:
        return self._away

    @away.setter
    def away(self, away: bool) -> None:
        if away == self._away:
            return
        self._away = away
        if away:
            parked, self.parked = self.parked, {}
            for waiting in parked:
                settle(waiting, errors.KafkaConnectionError("Connection closed"))
        else:
            self.coordinators += self._moves.random() < 0.5
            self.loading_until_seconds = self.world.now + self._moves.uniform(*LOADING_SECONDS)
            for group in self.groups.values():
                group.seen_again()

    def check_coordinator(self, known: int) -> None:
        """Raises NotCoordinatorError, CoordinatorLoadInProgressError: F11, as much of it as lasts longer."""
        if known != self.coordinators:
            self.world.faults.met("F11")
            raise errors.NotCoordinatorError
        if self.world.now < self.loading_until_seconds:
            self.world.faults.met("F11")
            raise errors.CoordinatorLoadInProgressError

    def park(self, answer: "asyncio.Future[Any]") -> None:
        self.parked[answer] = None
        answer.add_done_callback(lambda done: self.parked.pop(done, None))


class Broker:
    """Topics, groups, transactions; `wire` is how clients reach it."""

    def __init__(self, world: World) -> None:
        self.world, self.faults = world, world.faults
        self.topics: dict[str, Topic] = {}
        self.wire = Wire(world)
        self._logs: dict[TopicPartition, PartitionLog] = {}
        self.transactions = Transactions(world, self._logs, self.timestamp, self._decided)
        self.chance = world.random("kafka/links")
        """How clients' connections fare."""

    def timestamp(self) -> int:
        """The broker's wall clock is right: LogAppendTime, in milliseconds."""
        return round((EPOCH.timestamp() + self.world.now) * 1000)

    # ------------------------------------------------------------------------------ for the checker and the API tier

    @property
    def history(self) -> Sequence[Ended]:
        """Transactions in the order in which they ended."""
        return self.transactions.history

    def committed(self, topic: str, partition: int) -> Sequence[Stored]:
        """What readers of committed data see, in offset order."""
        return self.log(TopicPartition(topic, partition)).committed

    def position(self, group: str, topic: str, partition: int) -> Position | None:
        """Offset and metadata, where there is one; a transaction that is being decided does not count yet."""
        return self.group(group).positions.get(TopicPartition(topic, partition))

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """From outside, where nothing fails.  -> the offset."""
        return self.log(TopicPartition(topic, partition)).append([Content(key, value, headers)], self.timestamp())

    def rebalance(self) -> bool:
        """F5.  -> whether there was anything to move."""
        moved = [group.rebalance() for group in self.wire.groups.values()]
        return any(moved)

    def create(self, name: str, partitions: int, configuration: Mapping[str, str] | None = None) -> None:
        """Raises TopicAlreadyExistsError."""
        if name in self.topics:
            raise errors.TopicAlreadyExistsError
        topic = self.topics[name] = Topic(partitions, DEFAULTS | dict(configuration or {}))
        for number in range(partitions):
            place = TopicPartition(name, number)
            self._logs[place] = PartitionLog(place, int(topic.configuration["max.message.bytes"]))

    def configure(self, name: str, configuration: Mapping[str, str]) -> None:
        """Change some of it."""
        topic = self.topics[name]
        self.topics[name] = topic._replace(configuration=dict(topic.configuration) | dict(configuration))
        for number in range(topic.partitions):
            log = self._logs[TopicPartition(name, number)]
            log.batch_bytes_max = int(self.topics[name].configuration["max.message.bytes"])

    def trim(self, topic: str, partition: int, before: int) -> None:
        """As retention does."""
        self.log(TopicPartition(topic, partition)).trim(before)

    # ------------------------------------------------------------------------------ requests

    def group(self, name: str) -> Group:
        groups = self.wire.groups
        if name not in groups:
            groups[name] = Group(self.world, name, lambda: not self.wire.away)
        return groups[name]

    def log(self, place: TopicPartition) -> PartitionLog:
        """Raises UnknownTopicOrPartitionError."""
        if place not in self._logs:
            raise errors.UnknownTopicOrPartitionError
        return self._logs[place]

    def produce(self, batches: Mapping[TopicPartition, Batch]) -> dict[TopicPartition, int | errors.KafkaError]:
        """-> the offset of each batch's first record, or why it was not written."""
        answers: dict[TopicPartition, int | errors.KafkaError] = {}
        for place, batch in batches.items():
            try:
                answers[place] = self._write(place, batch)
            except errors.KafkaError as error:
                answers[place] = error
        return answers

    def _write(self, place: TopicPartition, batch: Batch) -> int:
        log = self.log(place)
        if self.faults.strikes("F9"):
            raise self.faults.source("F9").choice(REFUSED_SEND)
        if batch.transactional and not log.is_writing(batch.producer_id):
            self.transactions.verify(batch.producer_id, batch.epoch, place)
        return log.write(batch, self.timestamp())

    def commit_positions(
        self, group: str, producer_id: int, epoch: int, positions: Mapping[TopicPartition, Position]
    ) -> None:
        """In a transaction.  Raises OffsetMetadataTooLargeError as well (K8)."""
        if any(len(metadata) > METADATA_CHARACTERS_MAX for _, metadata in positions.values()):
            raise errors.OffsetMetadataTooLargeError
        self.transactions.commit_positions(group, producer_id, epoch, positions)

    def bounds(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """-> start and last stable offset of each.  Raises UnknownTopicOrPartitionError."""
        return {place: (self.log(place).start, self.log(place).stable) for place in places}

    def fetch(self, wanted: Mapping[TopicPartition, int], patience_seconds: float) -> "Pages | Poll":
        """-> what there is from these offsets on; where there is nothing, it is waited for."""
        if wanted and self.faults.strikes("F13"):
            place = self.faults.source("F13").choice(list(wanted))
            return {place: errors.OffsetOutOfRangeError()}
        return self.pages(wanted) or Poll(self, wanted, patience_seconds)

    def pages(self, wanted: Mapping[TopicPartition, int]) -> Pages:
        found: Pages = {}
        for place, offset in wanted.items():
            try:
                records, after = self.log(place).read(offset, PAGE_BYTES_MAX)
            except errors.KafkaError as error:
                found[place] = error
            else:
                if after > offset:
                    found[place] = (records, after)
        return found

    def _decided(self, group: str, place: TopicPartition, position: Position) -> None:
        self.group(group).positions[place] = position


class Poll:
    """A fetch that waits for records; `answer` comes once there are some, or when its time is up."""

    def __init__(self, broker: Broker, wanted: Mapping[TopicPartition, int], patience_seconds: float) -> None:
        self._broker, self._wanted = broker, wanted
        self._noticed = False
        self._answer: asyncio.Future[Pages] = broker.world.loop.create_future()
        broker.wire.park(self._answer)
        for place in wanted:
            broker.log(place).waiting.append(self._notice)
        self._timer = broker.world.after(patience_seconds, self._reply)

    async def answer(self) -> Pages:
        """Raises KafkaConnectionError where the broker went away."""
        return await self._answer

    def hurry(self) -> None:
        """What is wanted has changed: this one ends as soon as it would at a real broker."""
        if not self._noticed:
            self._noticed = True
            self._broker.world.after(self._broker.chance.uniform(0.0, HURRY_SECONDS), self._reply)

    def _notice(self) -> None:
        """There is something; what comes within the next moment goes along."""
        if not self._noticed and not self._answer.done():
            self._noticed = True
            self._broker.world.after(self._broker.chance.uniform(0.0003, 0.003), self._reply)

    def _reply(self) -> None:
        self._timer.cancel()
        settle(self._answer, self._broker.pages(self._wanted))
