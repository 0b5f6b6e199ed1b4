"""The producer, transactional or idempotent: aiokafka's own state machine over requests to the simulated broker.

One task sends what there is to send, one request after another, and again until it is answered: batches by their
sequence numbers, the end of a transaction without one (facts: K1, K3, K5, K6).  A request that fails for good ends the
task, and with it the producer.  Fault: F15.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.producer import sender
from aiokafka.producer.transaction_manager import TransactionManager, TransactionResult
from aiokafka.structs import OffsetAndMetadata, RecordMetadata, TopicPartition
from aiokafka.util import commit_structure_validate

from worker.simulation.kafka.batches import Batches, shortened
from worker.simulation.kafka.broker import Broker
from worker.simulation.kafka.link import Link
from worker.simulation.kafka.partition import Content, record_bytes
from worker.simulation.kafka.transactions import Position
from worker.simulation.service import never

AGAIN = (
    errors.NotCoordinatorError,
    errors.CoordinatorNotAvailableError,
    errors.CoordinatorLoadInProgressError,
    errors.ConcurrentTransactions,
    errors.UnknownTopicOrPartitionError,
    errors.RequestTimedOutError,
    errors.NodeNotReadyError,
    errors.KafkaConnectionError,
)
"""After these a request of a transaction is sent again."""
AS_IT_IS = (errors.ProducerFenced, errors.OutOfOrderSequenceNumber, errors.TransactionalIdAuthorizationFailed)
"""What ends the task under its own name; all else is a bare KafkaError."""


class ProducerModel:
    """Stands for `AIOKafkaProducer` with `enable_idempotence` or a `transactional_id`."""

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        *,
        timeout_seconds: float,
        batch_bytes_max: int,
        request_bytes_max: int,
        transactional_id: str | None = None,
        transaction_timeout_seconds: float = 0.0,
    ) -> None:
        self._broker = broker
        self._link = Link(broker, client_id, timeout_seconds)
        self._request_bytes_max = request_bytes_max
        self._txn_manager: Any = TransactionManager(transactional_id, round(transaction_timeout_seconds * 1000))
        self._batches = Batches(batch_bytes_max)
        self._sender: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._failure: BaseException | None = None
        self._closed = False

    # ------------------------------------------------------------------------------ what callers use

    async def start(self) -> None:
        """Raises KafkaConnectionError; then it tries for as long as it takes."""
        await self._link.bootstrap()
        while not await self._init():
            pass
        self._sender = asyncio.create_task(self._send_all())
        self._sender.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Returns once what is pending was sent, however long that takes."""
        if self._closed:
            return
        self._closed = True
        if self._broker.faults.strikes("F15"):
            await never()
        if self._sender is not None:
            self._more.set()
            await asyncio.wait([self._sender])

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> "asyncio.Future[RecordMetadata]":
        """-> a future that alone tells whether it was written (K1).

        Raises IllegalOperation outside of a transaction, MessageSizeTooLargeError, ProducerClosed, what ended us.
        """
        manager = self._txn_manager
        assert partition is not None, "the adapters choose the partition"
        assert timestamp_ms is None, "nobody says when"
        if manager.transactional_id is not None and not manager.is_in_transaction():
            raise errors.IllegalOperation("Can't send messages while not in transaction")
        if topic not in self._broker.topics:
            await asyncio.sleep(self._link.timeout_seconds)
            raise errors.UnknownTopicOrPartitionError
        content = Content(key, value, tuple(headers or ()))
        size = record_bytes(content)
        if size > self._request_bytes_max:
            raise errors.MessageSizeTooLargeError(f"The message is {size} bytes when serialized")
        if self._closed:
            raise errors.ProducerClosed
        if self._failure is not None:
            raise self._failure
        place = TopicPartition(topic, partition)
        if self._batches.begins_one(place, size):
            manager.maybe_add_partition_to_txn(place)
        self._more.set()
        return self._batches.add(place, content, size)

    async def begin_transaction(self) -> None:
        """Succeeds for a producer that is fenced and has not noticed (K3).  Raises AssertionError after an error."""
        self._txn_manager.begin_transaction()

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_id: str
    ) -> None:
        """Raises IllegalOperation, ProducerFenced, KafkaError."""
        if not self._txn_manager.is_in_transaction():
            raise errors.IllegalOperation("Not in the middle of a transaction")
        waiting = self._txn_manager.add_offsets_to_txn(commit_structure_validate(offsets), group_id)
        self._more.set()
        await asyncio.shield(waiting)

    async def commit_transaction(self) -> None:
        """Returns success where a send has failed that nobody looked at (K1).  Raises AssertionError, KafkaError."""
        self._txn_manager.committing_transaction()
        self._more.set()
        await asyncio.shield(self._txn_manager.wait_for_transaction_end())

    async def abort_transaction(self) -> None:
        """Raises AssertionError after an error for good, KafkaError."""
        self._txn_manager.aborting_transaction()
        self._more.set()
        await asyncio.shield(self._txn_manager.wait_for_transaction_end())

    # ------------------------------------------------------------------------------ the task that sends

    async def _send_all(self) -> None:
        """Raises ProducerFenced, or a bare KafkaError (K3), where there is no way on."""
        manager = self._txn_manager
        try:
            while not (self._closed and not self._batches):
                if await self._send_something():
                    continue
                if (result := manager.needs_transaction_commit()) is not None:
                    await self._end(result)
                    continue
                self._more.clear()
                await self._more.wait()
        except AS_IT_IS:
            raise
        except errors.KafkaError as error:
            raise errors.KafkaError("Unexpected error during batch delivery") from error

    async def _send_something(self) -> bool:
        """The next of what a transaction has to say before it ends.  -> whether there was something."""
        manager = self._txn_manager
        if partitions := sorted(manager.partitions_to_add()):
            await self._add_partitions(partitions)
        elif self._batches:
            await self._produce()
        elif (group := manager.consumer_group_to_add()) is not None:
            if await self._ask("AddOffsetsToTxn", lambda name: self._served_add([], group), group):
                manager.consumer_group_added(group)
        elif (positions := manager.offsets_to_commit()) is not None:
            await self._commit_positions(*positions)
        else:
            return False
        return True

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Whoever waits hears of it; and nobody may wait any more."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        manager = self._txn_manager
        self._failure = error
        self._batches.fail(error)
        waiting = [future for _, _, future in manager._pending_txn_offsets]
        if manager.wait_for_transaction_end() is not None:  # else there never was a transaction
            manager.fatal_error(error)
            waiting.append(manager.wait_for_transaction_end())
        for future in waiting:
            future.exception()  # it is known, whether or not somebody looks

    # ------------------------------------------------------------------------------ requests

    async def _ask(self, what: str, serve: Any, detail: str = "", *, backoff_seconds: float | None = None) -> Any:
        """-> the answer, or None: it has to be sent again.  `serve` gets the transactional id.

        `backoff_seconds`: slept where the last transaction is still being ended.  Raises ProducerFenced, KafkaError.
        """
        name = self._txn_manager.transactional_id
        try:
            return await self._link.ask_coordinator(what, lambda: (serve(name), True)[1], f"{name} {detail}")
        except errors.InvalidProducerEpoch as error:
            raise errors.ProducerFenced from error
        except errors.ConcurrentTransactions:
            if backoff_seconds is None:
                await self._link.back_off()
            else:
                await asyncio.sleep(backoff_seconds)
        except AGAIN:
            await self._link.back_off()
        return None

    async def _init(self) -> bool:
        """-> whether we have a producer id and epoch."""
        manager, transactions = self._txn_manager, self._broker.transactions
        seconds = manager.transaction_timeout_ms / 1000
        try:
            if manager.transactional_id is None:
                given = await self._link.ask("InitProducerId", transactions.fresh_producer)
            else:
                name = manager.transactional_id
                given = await self._link.ask_coordinator(
                    "InitProducerId", lambda: transactions.init(name, seconds), name
                )
        except AGAIN:
            await self._link.back_off()
            return False
        manager.set_pid_and_epoch(*given)
        return True

    def _served_add(self, partitions: list[TopicPartition], group: str = "") -> None:
        manager = self._txn_manager
        pid, epoch = manager.producer_id, manager.producer_epoch
        self._broker.transactions.add(manager.transactional_id, pid, epoch, partitions, group)

    async def _add_partitions(self, partitions: list[TopicPartition]) -> None:
        manager = self._txn_manager
        backoff = None if manager.txn_partitions else sender.BACKOFF_OVERRIDE
        detail = " ".join(f"{place.topic}:{place.partition}" for place in partitions)
        added = await self._ask(
            "AddPartitionsToTxn", lambda _: self._served_add(partitions), detail, backoff_seconds=backoff
        )
        if added:
            for place in partitions:
                manager.partition_added(place)

    async def _commit_positions(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: str) -> None:
        manager = self._txn_manager
        pid, epoch = manager.producer_id, manager.producer_epoch
        positions: dict[TopicPartition, Position] = {
            place: (at.offset, at.metadata) for place, at in sorted(offsets.items())
        }
        detail = f"{epoch} {group} {[(p.partition, *position) for p, position in positions.items()]}"
        commit = self._broker.commit_positions
        if await self._ask("TxnOffsetCommit", lambda _: commit(group, pid, epoch, positions), detail):
            for place, (offset, _) in positions.items():
                manager.offset_committed(place, offset, group)

    async def _end(self, result: TransactionResult) -> None:
        manager = self._txn_manager
        if manager.is_empty_transaction():
            manager.complete_transaction()
            return
        pid, epoch, end = manager.producer_id, manager.producer_epoch, self._broker.transactions.end
        commit = result is TransactionResult.COMMIT
        if await self._ask("EndTxn", lambda name: end(name, pid, epoch, commit=commit), f"{epoch} {result.name}"):
            manager.complete_transaction()

    # ------------------------------------------------------------------------------ batches

    async def _produce(self) -> None:
        """One request with the first batch of each partition; what may be sent again stays where it is."""
        sent = self._batches.first(self._txn_manager)
        detail = " ".join(f"{p.topic}:{p.partition}@{b.sequence}={shortened(b.records)}" for p, b in sent.items())
        try:
            answers = await self._link.ask("Produce", lambda: self._broker.produce(sent), detail)
        except (errors.RequestTimedOutError, errors.NodeNotReadyError, errors.KafkaConnectionError):
            await self._link.back_off()
            return
        for place, answer in answers.items():
            self._batches.answered(place, answer)
        if any(isinstance(answer, errors.KafkaError) and answer.retriable for answer in answers.values()):
            await self._link.back_off()
