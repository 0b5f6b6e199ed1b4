"""Step 9: one atomic commit per partition, again and again: verdicts, outboxes, dead letters, position (must 5).

A transaction holds everything that is ready when it begins.  Any error ends the assignment: what is in memory is
forgotten, and the log's position decides.  A process that dies before the commit leaves nothing; one that dies after
it leaves a position that has passed what it published.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from schemas.documents import aggregate_of_state
from worker.ledger import outgoing
from worker.ports import Assignment, Clock, CommandLog, Outgoing, Position
from worker.runtime.cache import Cache
from worker.runtime.position import Progress
from worker.telemetry import metrics

FINISHED_PER_TRANSACTION_MAX = 1000
BYTES_PER_TRANSACTION_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """A record that is done: what is published for it, and the document whose outbox must go along."""

    offset: int
    records: tuple[Outgoing, ...]
    document_key: str | None
    committed: Callable[[], None]


class Committer:
    """Collects what is ready and commits it; `begun` and `completed` count transactions."""

    def __init__(self, log: CommandLog, clock: Clock, assignment: Assignment, progress: Progress, cache: Cache) -> None:
        self.begun = 0
        self.completed = 0
        self._log, self._clock, self._assignment = log, clock, assignment
        self._progress, self._cache = progress, cache
        self._ready: list[Finished] = []
        self._dirty: dict[str, None] = {}
        self._barriers: list[tuple[int, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()

    def finish(self, finished: Finished) -> None:
        if finished.document_key:
            self._cache.pin(finished.document_key)
        self._ready.append(finished)
        self._stir()

    def publish(self, key: str) -> None:
        """This document's outbox has to go out."""
        self._dirty[key] = None
        self._stir()

    def awaits(self, key: str) -> bool:
        """Whether a verdict that is not in a transaction yet has this document's outbox to take along."""
        return any(finished.document_key == key for finished in self._ready)

    def absent(self, key: str) -> None:
        """There is no such document (any more): nothing of it waits for a reload."""
        self._dirty.pop(key, None)
        for i, finished in enumerate(self._ready):
            if finished.document_key == key:
                self._cache.unpin(key)
                self._ready[i] = replace(finished, document_key=None)
        self._stir()

    async def barrier(self, after: int) -> None:
        """Wait for the commit of a transaction that began after `after` others had."""
        if self.completed > after:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._barriers.append((after, future))
        self._stir()
        await future

    @property
    def idle(self) -> bool:
        """Nothing is left to commit."""
        return not self._ready and not self._wake.is_set() and self.begun == self.completed

    def _stir(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Commit for ever.  Raises AssignmentLost, or whatever the log raised."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(0)  # let the lanes that are about to finish join this transaction
            self._wake.clear()
            if await self._transaction():
                self._wake.set()

    async def _transaction(self) -> bool:
        """One transaction of what is ready; -> whether more is ready already."""
        taken, waiting, size = self._take()
        for finished in taken:
            if finished.document_key:
                self._dirty[finished.document_key] = None
        records, sent = self._outboxes()
        records += [record for finished in taken for record in finished.records]
        wanted = any(after >= self.completed for after, _ in self._barriers)
        if not (taken or records or wanted):
            self._ready = waiting
            return False
        self._ready = waiting
        for finished in taken:
            self._progress.finish(finished.offset)
        position = self._progress.position()
        self.begun += 1
        began = self.begun
        await self._commit(records, position)
        self.completed = began
        self._progress.committed(position)
        self._acknowledge(taken, sent)
        return bool(self._dirty) or size or any(after >= self.completed for after, _ in self._barriers)

    async def _commit(self, records: list[Outgoing], position: Position) -> None:
        started = self._clock.monotonic()
        try:
            await self._log.commit(self._assignment, records, position)
        except BaseException:
            metrics.TRANSACTIONS.labels("lost").inc()
            raise
        metrics.TRANSACTIONS.labels("committed").inc()
        metrics.TRANSACTION_SECONDS.observe(self._clock.monotonic() - started)
        metrics.TRANSACTION_RECORDS.observe(len(records))
        metrics.POSITION.labels(self._assignment.partition).set(position.offset)

    def _take(self) -> tuple[list[Finished], list[Finished], bool]:
        """What can go now; a verdict whose document is not cached waits for the reload (must 4)."""
        taken: list[Finished] = []
        waiting: list[Finished] = []
        size = 0
        for finished in self._ready:
            full = len(taken) >= FINISHED_PER_TRANSACTION_MAX or size > BYTES_PER_TRANSACTION_MAX
            if full or (finished.document_key and self._cache.get(finished.document_key) is None):
                waiting.append(finished)
                continue
            size += sum(len(record.value) for record in finished.records)
            taken.append(finished)
        return taken, waiting, len(taken) >= FINISHED_PER_TRANSACTION_MAX or size > BYTES_PER_TRANSACTION_MAX

    def _outboxes(self) -> tuple[list[Outgoing], dict[str, tuple[object, int]]]:
        """The whole outbox of each document that has something to say, in order."""
        records: list[Outgoing] = []
        sent: dict[str, tuple[object, int]] = {}
        for key in list(self._dirty):
            entry = self._cache.get(key)
            if entry is None:
                continue  # its reload will say so again
            del self._dirty[key]
            if not entry.unpublished:
                continue
            aggregate = aggregate_of_state(entry.document.state)
            records += [outgoing(each, aggregate) for each in entry.document.outbox]
            sent[key] = (entry, entry.document.outbox[-1].audit_seq)
        return records, sent

    def _acknowledge(self, taken: list[Finished], sent: dict[str, tuple[object, int]]) -> None:
        for key, (entry, sequence) in sent.items():
            current = self._cache.get(key)
            if current is not None and current is entry:
                current.acknowledged = max(current.acknowledged, sequence)
                if current.unpublished:
                    self._dirty[key] = None
        for finished in taken:
            if finished.document_key:
                self._cache.unpin(finished.document_key)
            finished.committed()
        for after, future in self._barriers:
            if self.completed > after and not future.done():
                future.set_result(None)
        self._barriers = [pair for pair in self._barriers if not pair[1].done()]
