"""The consumer: owns partitions, feeds them, and replaces an assignment whose commit failed (musts 5 and 7).

Whatever ends an assignment (fenced, outcome unknown, a bug in the commit), the answer is the same: drop its memory,
renew it, read the position, seek.  Repeated failures back off.
"""

import asyncio
from collections.abc import Callable

import structlog

from worker.errors import AssignmentLost, PositionLost, Transient
from worker.ports import Assignment, Clock, CommandLog, Ids
from worker.runtime.partition import Partition
from worker.runtime.retry import Backoff

FETCH_MAX = 500
FETCH_SECONDS = 0.5
log = structlog.get_logger()


class Consumer:
    """Implements `PartitionOwner`; `run` until cancelled, then `drain` or `stop`."""

    def __init__(
        self, command_log: CommandLog, clock: Clock, ids: Ids, partition: Callable[[Assignment], Partition]
    ) -> None:
        self._log, self._clock, self._ids, self._make = command_log, clock, ids, partition
        self.partitions: dict[int, Partition] = {}
        self._watchers: dict[int, asyncio.Task[None]] = {}

    # ------------------------------------------------------------------------------ PartitionOwner

    async def assigned(self, assignment: Assignment) -> None:
        partition = self._make(assignment)
        if partition.progress.unreadable:
            log.warning("position.unreadable", partition=assignment.partition)
        if assignment.position is None and assignment.log_start > 0:
            raise PositionLost(
                f"partition {assignment.partition}: no position, and the log starts at {assignment.log_start}"
            )
        self.partitions[assignment.partition] = partition
        partition.start()
        self._log.seek(assignment, partition.progress.first)
        self._watchers[assignment.partition] = asyncio.create_task(self._watch(partition))
        log.info("partition.assigned", partition=assignment.partition, offset=partition.progress.first)

    async def revoked(self, partition: int) -> None:
        held = self.partitions.pop(partition, None)
        watcher = self._watchers.pop(partition, None)
        if watcher and watcher is not asyncio.current_task():
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        if held:
            await held.stop()

    async def _watch(self, partition: Partition) -> None:
        """Replace the assignment once it has failed."""
        error = await partition.failure
        number = partition.assignment.partition
        log.warning("assignment.lost", partition=number, error=f"{type(error).__name__}: {error}")
        await self.revoked(number)
        backoff = Backoff(self._clock, self._ids, first_seconds=0.2, max_seconds=10)
        while True:
            await backoff.pause()
            try:
                fresh = await self._log.renew(partition.assignment)
            except AssignmentLost:
                return
            except Transient as unavailable:
                log.warning("dependency.unavailable", partition=number, error=str(unavailable))
                continue
            await self.assigned(fresh)
            return

    # ------------------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Fetch and hand out, for ever."""
        backoff = Backoff(self._clock, self._ids)
        while True:
            try:
                records = await self._log.fetch(FETCH_MAX, FETCH_SECONDS)
                backoff.reset()
            except Transient as error:
                log.warning("dependency.unavailable", error=str(error))
                await backoff.pause(error)
                continue
            for number in dict.fromkeys(record.partition for record in records):
                if held := self.partitions.get(number):
                    held.take([record for record in records if record.partition == number])

    async def drain(self) -> None:
        """Let what is being decided be decided and committed; effects under way resume with the next owner."""
        await asyncio.gather(*(partition.drain() for partition in self.partitions.values()))

    async def stop(self) -> None:
        """Drop everything; tolerates a second stop."""
        for number in list(self.partitions):
            await self.revoked(number)
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        self._watchers.clear()
