"""The command log on Kafka: a member of the group, and a transactional producer per owned partition (K2).

A partition that comes to us is paused and put to a placeholder at once, in the callback; then, in a task of its own,
its producer is started, its position read, and only then is it the owner's (K4).  Whatever ends an assignment, the next
one begins with a new producer (must 5).  Knows nothing of commands.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from worker.adapters.kafka import membership, topics
from worker.adapters.kafka.calling import FROM_THE_CLIENT, calling, told
from worker.adapters.kafka.connecting import administrator
from worker.adapters.kafka.connection import Connection
from worker.adapters.kafka.ending import end
from worker.adapters.kafka.producer import STOP_SECONDS, Addressed
from worker.adapters.kafka.takeover import Held, take
from worker.adapters.kafka.watchdog import watch
from worker.errors import AssignmentLost, Misconfigured, PositionLost, Transient, Unavailable, WorkerError
from worker.partitioner import partition_of
from worker.ports import Assignment, Outgoing, PartitionOwner, Position, Record, Topic

PLACEHOLDER = 0
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 5.0
log = structlog.get_logger()


class KafkaLog(ConsumerRebalanceListener):  # type: ignore[misc]  # the library ships no types
    """Implements `CommandLog`."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._settings = connection, connection.settings
        self._topic = connection.topic(Topic.COMMANDS)
        self._partitions = 0
        self._owner: PartitionOwner | None = None
        self._admin: Any = None
        self._consumer: AIOKafkaConsumer | None = None
        self._held: dict[int, Held] = {}
        self._tasks: dict[int | str, asyncio.Task[None]] = {}
        self._failure: WorkerError | None = None
        self._member_id = ""
        self._fetches = 0

    # ------------------------------------------------------------------------------ start and stop

    async def start(self, owner: PartitionOwner) -> None:
        """Raises Unavailable as well, Refused without a right, Misconfigured for a credential or a certificate."""
        settings = self._settings
        self._owner, self._failure = owner, None
        try:
            self._admin = await administrator(self._connection)
            self._partitions = await topics.partitions(self._connection, self._admin)
            self._consumer = self._connection.member()
            self._consumer.subscribe([self._topic], listener=self)
            # Others may take their time to let go of their partitions.
            async with calling("join", settings.request_timeout_seconds + 2 * settings.session_timeout_seconds):
                await self._consumer.start()
        except BaseException:
            await self.stop()
            raise
        self._spawn("watchdog", watch(self._consumer, self._expecting, lambda: self._fetches, settings))

    async def stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        tasks, self._tasks = self._tasks, {}
        if consumer is not None:
            await end(consumer, STOP_SECONDS)
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        held, self._held = self._held, {}
        await asyncio.gather(*(each.producer.stop() for each in held.values()))
        if self._admin is not None:
            await end(self._admin, STOP_SECONDS)
            self._admin = None

    def _spawn(self, name: int | str, work: Any) -> None:
        task = self._tasks[name] = asyncio.create_task(work, name=f"kafka {name}")
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A part that ends with an error ends the log: `fetch` tells."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            failure = error if isinstance(error, WorkerError) else AssignmentLost(f"a bug: {error!r}")
            failure.__cause__ = failure.__cause__ or error
            self._failure = self._failure or failure

    # ------------------------------------------------------------------------------ partitions come and go

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Not a coroutine: the client looks for a position as soon as it gets a chance (K4), and misses none."""
        if self._consumer is None:
            return
        self._member_id = membership.member_id(self._consumer)
        for partition in sorted(assigned):
            self._hold_back(partition.partition)
            self._spawn(partition.partition, self._open(partition.partition))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Returns once nothing of them is sent any more."""
        await asyncio.gather(*(self._close(partition.partition) for partition in sorted(revoked)))
        if self._member_id and self._settings.group_instance_id and await self._stolen():
            # The client would join again, and steal them back: its coordination ends here, and `fetch` tells.
            raise asyncio.CancelledError

    async def _stolen(self) -> bool:
        try:
            host = await membership.thief(self._admin, self._settings, self._member_id)
        except WorkerError as error:
            log.warning("dependency.unavailable", error=str(error))
            return False
        if host is not None:
            name = self._settings.group_instance_id
            text = f"WORKER_KAFKA__GROUP_INSTANCE_ID: {name} is another worker's as well, {host}"
            self._failure = Misconfigured(text)
        return host is not None

    def _hold_back(self, number: int) -> None:
        """Deliver nothing until `seek`; the placeholder keeps the client from looking for a position itself."""
        partition = self._at(number)
        assert self._consumer is not None
        self._consumer.pause(partition)
        self._consumer.seek(partition, PLACEHOLDER)

    async def _open(self, number: int) -> None:
        """Take a partition over, however long Kafka is away, and hand it to the owner."""
        seconds = RETRY_SECONDS_MIN
        while True:
            try:
                held = self._held[number] = await self._take(number)
                break
            except Transient as error:
                log.warning("dependency.unavailable", partition=number, error=str(error))
                await asyncio.sleep(seconds)
                seconds = min(2 * seconds, RETRY_SECONDS_MAX)
        assert self._owner is not None
        await self._owner.assigned(held.assignment)

    async def _take(self, number: int) -> Held:
        assert self._consumer is not None
        return await take(self._connection, self._admin, self._consumer, number, self._partitions)

    async def _close(self, number: int) -> None:
        """Nothing of this partition is sent any more."""
        opening, held = self._tasks.pop(number, None), self._held.pop(number, None)
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        held = held or self._held.pop(number, None)
        assert self._owner is not None
        await self._owner.revoked(number)
        if held is not None:
            await held.producer.stop()

    # ------------------------------------------------------------------------------ records

    async def fetch(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """Raises Unavailable; Refused, Misconfigured or AssignmentLost where this log is over."""
        if self._failure is not None:
            raise self._failure
        if self._consumer is None:
            await asyncio.sleep(timeout_seconds)
            return []
        try:
            # The client's own time-out does not count while partitions move.
            async with asyncio.timeout(timeout_seconds):
                found = await self._consumer.getmany(timeout_ms=round(timeout_seconds * 1000), max_records=max_records)
        except TimeoutError:
            found = {}
        except OffsetOutOfRangeError as error:
            self._lost(error.args[0])
            found = {}
        except FROM_THE_CLIENT as error:
            raise _fatal(error) from error
        self._fetches += 1
        return [_record(each) for records in found.values() for each in records]

    def _lost(self, where: dict[TopicPartition, int]) -> None:
        """Retention has passed us by: the owner hears so when it seeks, and the other partitions go on.

        The task is there before anything is waited for, so that a revocation meanwhile ends it.
        """
        for partition in where:
            if held := self._held.get(partition.partition):
                self._hold_back(partition.partition)
                self._spawn(partition.partition, self._open_again(partition.partition, held))

    async def _open_again(self, number: int, held: Held) -> None:
        assert self._owner is not None
        await self._owner.revoked(number)
        await held.producer.stop()
        self._held.pop(number, None)
        await self._open(number)

    def seek(self, assignment: Assignment, offset: int) -> None:
        if self._current(assignment) is None or self._consumer is None:
            return
        number, first, last = assignment.partition, assignment.log_start, assignment.log_end
        if not first <= offset <= last:
            raise PositionLost(f"partition {number}: position {offset} is outside of the log, {first} to {last}")
        self._consumer.seek(self._at(number), offset)
        self._consumer.resume(self._at(number))

    def pause(self, assignment: Assignment) -> None:
        if self._current(assignment) and self._consumer:
            self._consumer.pause(self._at(assignment.partition))

    def resume(self, assignment: Assignment) -> None:
        if self._current(assignment) and self._consumer:
            self._consumer.resume(self._at(assignment.partition))

    # ------------------------------------------------------------------------------ commit

    async def commit(self, assignment: Assignment, records: Sequence[Outgoing], position: Position) -> None:
        """Raises Misconfigured for what no topic takes, before anything is sent (K15, K8)."""
        held = self._current(assignment)
        if held is None:
            raise AssignmentLost(f"partition {assignment.partition}: epoch {assignment.epoch} is over")
        topics.check_sizes(records, position, self._connection.command_bytes_max)
        addressed = [self._addressed(record) for record in records]
        try:
            await held.producer.commit(addressed, position)
        except WorkerError as error:
            await held.producer.stop()
            raise AssignmentLost(f"partition {assignment.partition}: {error}") from error

    def _addressed(self, record: Outgoing) -> Addressed:
        number = partition_of(record.key, self._partitions)
        return Addressed(self._connection.topic(record.topic), number, record.key, record.value, record.headers)

    async def renew(self, assignment: Assignment) -> Assignment:
        """Raises Unavailable as well: the old one can be given again."""
        number = assignment.partition
        held = self._current(assignment)
        if held is None:
            raise AssignmentLost(f"partition {number}: epoch {assignment.epoch} is over")
        self._hold_back(number)
        fresh = await self._take(number)  # whose start fences the old one
        if self._held.get(number) is not held:
            await fresh.producer.stop()
            raise AssignmentLost(f"partition {number} moved")
        self._held[number] = fresh  # before the next await, so that whoever revokes it finds it
        await held.producer.stop()
        if self._held.get(number) is not fresh:
            raise AssignmentLost(f"partition {number} moved")
        return fresh.assignment

    # ------------------------------------------------------------------------------

    def _current(self, assignment: Assignment) -> Held | None:
        held = self._held.get(assignment.partition)
        return held if held is not None and held.assignment.epoch == assignment.epoch else None

    def _expecting(self) -> list[TopicPartition]:
        """The partitions that should get records now."""
        assert self._consumer is not None
        held, paused = map(self._at, sorted(self._held)), self._consumer.paused()
        return [partition for partition in held if partition not in paused]

    def _at(self, number: int) -> TopicPartition:
        return TopicPartition(self._topic, number)


def _record(found: Any) -> Record:
    at = datetime.fromtimestamp(found.timestamp / 1000, UTC)
    return Record(Topic.COMMANDS, found.partition, found.offset, at, found.key, found.value, found.headers)


def _fatal(error: BaseException) -> WorkerError:
    """What the client cannot get over by itself ends this log; a broker that is away does not."""
    worker_error = told("fetch", error)
    passing = getattr(error, "retriable", False) or not isinstance(worker_error, Unavailable)
    return worker_error if passing else AssignmentLost(str(worker_error))
