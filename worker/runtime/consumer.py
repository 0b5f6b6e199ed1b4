"""The consumer: owns partitions, feeds them, and replaces an assignment whose commit failed (musts 5 and 7).

Whatever ends an assignment (fenced, outcome unknown, a bug in the commit), the answer is the same: drop its memory,
renew it, read the position, seek.  Repeated failures back off.  A partition whose position is outside of the log
stands still and says so; the others go on.
"""

import asyncio
from collections.abc import Callable

import structlog

from worker.errors import AssignmentLost, PositionLost, Transient
from worker.ports import Assignment, Clock, CommandLog, Ids
from worker.runtime.partition import Partition
from worker.runtime.retry import Backoff
from worker.telemetry import metrics

FETCH_SECONDS = 0.5
HEALTHY_SECONDS = 30
log = structlog.get_logger()


class Consumer:
    """Implements `PartitionOwner`; `run` until cancelled, then `drain` and `stop`."""

    def __init__(
        self,
        command_log: CommandLog,
        clock: Clock,
        ids: Ids,
        partition: Callable[[Assignment], Partition],
        fetch_records_max: int,
    ) -> None:
        self._log, self._clock, self._ids, self._make = command_log, clock, ids, partition
        self._fetch_records_max = fetch_records_max
        self.partitions: dict[int, Partition] = {}
        self.stopped: dict[int, str] = {}
        self._watchers: dict[int, asyncio.Task[None]] = {}
        self._backoffs: dict[int, Backoff] = {}
        self._failure: asyncio.Future[None] | None = None

    # ------------------------------------------------------------------------------ PartitionOwner

    async def assigned(self, assignment: Assignment) -> None:
        number = assignment.partition
        metrics.ASSIGNMENTS.inc()
        try:
            if assignment.position is None and assignment.log_start > 0:
                raise PositionLost(f"no position was committed, and the log begins at {assignment.log_start}, not at 0")
            partition = self._make(assignment)
            self._log.seek(assignment, partition.progress.first)
        except PositionLost as error:
            self.stopped[number] = str(error)
            metrics.STOPPED.set(len(self.stopped))
            log.error("partition.stopped", partition=number, error=str(error))
            return
        if partition.progress.unreadable:
            metrics.UNREADABLE.inc()
            log.warning("position.unreadable", partition=number)
        self.partitions[number] = partition
        partition.start()
        self._watchers[number] = asyncio.create_task(self._watch(partition))
        self._watchers[number].add_done_callback(self._watched)
        log.info("partition.assigned", partition=number, offset=partition.progress.first)

    async def revoked(self, partition: int) -> None:
        if watcher := self._watchers.pop(partition, None):
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        if self.stopped.pop(partition, None):
            metrics.STOPPED.set(len(self.stopped))
        await self._drop(partition)

    async def _drop(self, partition: int) -> None:
        if held := self.partitions.pop(partition, None):
            await held.stop()

    async def _watch(self, partition: Partition) -> None:
        """Replace the assignment once it has failed; two owners that fence each other back off."""
        started = self._clock.monotonic()
        error = await partition.failure
        number = partition.assignment.partition
        log.warning("assignment.lost", partition=number, error=f"{type(error).__name__}: {error}")
        backoff = self._backoffs.setdefault(number, Backoff(self._clock, self._ids, first_seconds=0.2, max_seconds=10))
        if self._clock.monotonic() - started > HEALTHY_SECONDS:
            backoff.reset()
        await self._drop(number)
        while True:
            await backoff.pause()
            try:
                fresh = await self._log.renew(partition.assignment)
            except AssignmentLost:
                return
            except Transient as unavailable:
                metrics.OUTAGES.inc()
                log.warning("dependency.unavailable", partition=number, error=str(unavailable))
                continue
            await self.assigned(fresh)
            return

    def _watched(self, watcher: asyncio.Task[None]) -> None:
        """A watcher that fails leaves a partition to nobody: the process has to end."""
        error = None if watcher.cancelled() else watcher.exception()
        if error is not None and self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    # ------------------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Fetch and hand out, for ever.  Raises what a part of it that must not end has ended with."""
        self._failure = asyncio.get_running_loop().create_future()
        fetching = asyncio.create_task(self._fetch())
        try:
            await asyncio.wait([fetching, self._failure], return_when=asyncio.FIRST_COMPLETED)
            ended = fetching if fetching.done() else self._failure
            ended.result()
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
            self._failure.cancel()

    async def _fetch(self) -> None:
        backoff = Backoff(self._clock, self._ids)
        while True:
            try:
                records = await self._log.fetch(self._fetch_records_max, FETCH_SECONDS)
                backoff.reset()
            except Transient as error:
                metrics.OUTAGES.inc()
                log.warning("dependency.unavailable", error=str(error))
                await backoff.pause(error)
                continue
            # No await until they are handed out: what was fetched belongs to the assignments of this moment.
            for number in dict.fromkeys(record.partition for record in records):
                if held := self.partitions.get(number):
                    held.take([record for record in records if record.partition == number])

    async def drain(self) -> None:
        """Let what is being decided be decided and committed; effects under way resume with the next owner."""
        await asyncio.gather(*(partition.drain() for partition in self.partitions.values()))

    async def stop(self) -> None:
        """Drop everything; tolerates a second stop."""
        for number in [*self.partitions, *self._watchers]:
            await self.revoked(number)
