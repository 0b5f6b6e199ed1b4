"""The transactional producer of one owned input partition: it is thrown away after the first error of any kind.

Whoever starts it fences all that used its transactional id before, and ends what they left open (K2, K7).  Nothing of
an error is looked at (K3): a fenced, an aborted and a broken producer are the same to the caller.  Knows nothing of
groups, assignments and what the records say.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.producer import sender
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from worker.adapters.kafka.calling import calling
from worker.adapters.kafka.connection import Connection
from worker.adapters.kafka.ending import end
from worker.errors import AssignmentLost
from worker.ports import Headers, Position, Topic

sender.BACKOFF_OVERRIDE = 0.001
"""Slept between two transactions while the coordinator still ends the first; 20 ms as it comes (K11)."""
ABORT_SECONDS = 1.0
STOP_SECONDS = 2.0
EPOCH_BITS = 16


class Addressed(NamedTuple):
    """A record with the partition that it goes to."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers


class PartitionProducer:
    """Start once, commit one after another, stop; `stop` tolerates stop before start and a second one."""

    def __init__(self, connection: Connection, partition: int) -> None:
        self._settings = connection.settings
        self._input = TopicPartition(connection.topic(Topic.COMMANDS), partition)
        self._client = connection.transactional(partition)
        self._in_transaction = False
        self._over: str | None = None

    async def start(self) -> None:
        """Fence everybody before us.  Raises Unavailable, Refused, Misconfigured; stops itself where it fails."""
        try:
            async with calling("start a producer", self._settings.request_timeout_seconds):
                await self._client.start()
        except BaseException:
            await self.stop()
            raise

    @property
    def epoch(self) -> int:
        """What the broker tells this producer from those before it by: it grows with each start."""
        manager = self._client._txn_manager  # told nowhere else
        return int(manager.producer_id) << EPOCH_BITS | int(manager.producer_epoch)

    async def commit(self, records: Sequence[Addressed], position: Position) -> None:
        """One transaction: the records and the position.  After any exception this producer is over.

        Raises AssignmentLost where it was over before it began; else what `calling` raises, or the cancellation.
        """
        if self._over:
            raise AssignmentLost(self._over)
        self._over = "the transaction before this one failed"
        clock = asyncio.get_running_loop().time
        began = clock()
        async with calling("commit", self._settings.transaction_timeout_seconds):
            await self._client.begin_transaction()
            self._in_transaction = True
            await self._send(records)
            offset = OffsetAndMetadata(position.offset, position.metadata)
            await self._client.send_offsets_to_transaction({self._input: offset}, self._settings.group)
            await self._client.commit_transaction()
        self._in_transaction = False
        # After so long the client has asked again, and what it asked first may still arrive: an EndTxn would end the
        # next transaction (K5), a position would take the place of the next one's.
        seconds = clock() - began
        slow = seconds >= self._settings.request_timeout_seconds
        self._over = f"the last commit took {seconds:.1f} s, and may arrive again" if slow else None

    async def _send(self, records: Sequence[Addressed]) -> None:
        """Only the future of a send tells that it failed; offsets and commit would succeed all the same (K1)."""
        sent = [
            await self._client.send(each.topic, each.value, each.key, each.partition, headers=list(each.headers))
            for each in records
        ]
        if sent:
            await asyncio.wait(sent)
        failed = [error for future in sent if (error := future.exception())]
        if failed:
            raise failed[0]

    async def stop(self) -> None:
        """Abort what is open, as far as that goes (whoever starts with this id does so too), and let go."""
        if self._in_transaction:
            self._in_transaction = False
            with suppress(KafkaError, AssertionError, TimeoutError, OSError):
                async with asyncio.timeout(ABORT_SECONDS):
                    await self._client.abort_transaction()
        await end(self._client, STOP_SECONDS)
