"""Intake of one assignment: at most so many unfinished commands, and so many bytes of them (must 6).

At the bound the partition stops fetching, and says so; it goes on once there is room again.  What was fetched beyond
the bound waits here.  Knows nothing of commands.
"""

from collections import deque
from collections.abc import Callable, Sequence

import structlog

from worker.ports import Assignment, CommandLog, Record
from worker.runtime.position import UNFINISHED_MAX, Progress
from worker.telemetry import metrics

RESUME_BELOW = UNFINISHED_MAX * 3 // 4
BYTES_MAX = 64 * 1024 * 1024
log = structlog.get_logger()


class Intake:
    """Hands records on, in offset order; `finished` makes room."""

    def __init__(
        self, command_log: CommandLog, assignment: Assignment, progress: Progress, hand_on: Callable[[Record], None]
    ) -> None:
        self._log, self._assignment, self._progress, self._hand_on = command_log, assignment, progress, hand_on
        self._waiting: deque[Record] = deque()
        self._bytes = 0
        self._paused = False
        self._unfinished = metrics.UNFINISHED.labels(assignment.partition)

    def take(self, records: Sequence[Record]) -> None:
        """Take records in; those that an earlier owner had finished are passed over."""
        self._waiting += records
        self._refill()

    def finished(self, record: Record) -> None:
        """The record's verdict is committed."""
        self._bytes -= _size(record)
        self._refill()

    def stop(self) -> None:
        """Nothing of this assignment is unfinished here any more."""
        self._waiting.clear()
        self._unfinished.set(0)
        metrics.PAUSED.labels(self._assignment.partition).set(0)

    @property
    def _full(self) -> bool:
        """At the bound; but what the position says to resume is let in, or nothing would ever make room."""
        if self._progress.resuming:
            return False
        return self._progress.unfinished >= UNFINISHED_MAX or self._bytes >= BYTES_MAX

    def _refill(self) -> None:
        while self._waiting and not self._full:
            record = self._waiting.popleft()
            if self._progress.take(record.offset):
                self._bytes += _size(record)
                self._hand_on(record)
        self._unfinished.set(self._progress.unfinished)
        if self._waiting or self._full:
            self._pause(paused=True)
        elif self._progress.unfinished < RESUME_BELOW:
            self._pause(paused=False)

    def _pause(self, *, paused: bool) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        partition, unfinished = self._assignment.partition, self._progress.unfinished
        metrics.PAUSED.labels(partition).set(int(paused))
        if paused:
            self._log.pause(self._assignment)
            log.warning("partition.full", partition=partition, unfinished=unfinished, bytes=self._bytes)
        else:
            self._log.resume(self._assignment)
            log.info("partition.resumed", partition=partition, unfinished=unfinished)


def _size(record: Record) -> int:
    return len(record.value or b"")
