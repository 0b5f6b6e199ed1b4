"""One assignment of one partition: intake, lanes, cache, committer; all of it dies with the assignment (must 5)."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import structlog

from schemas.base import Coordinates
from schemas.codes import CODES
from schemas.commands import OPERATIONS, Aggregate
from schemas.observations import Observed
from worker.decoding import Decoded, Poison, Rejected, decode, failed
from worker.errors import Transient
from worker.handler import Arrived, Handler
from worker.ledger import render
from worker.partitioner import partition_of
from worker.ports import Assignment, Outgoing, Ports, Record
from worker.runtime.cache import Cache
from worker.runtime.committer import Committer, Finished
from worker.runtime.flight import Flight
from worker.runtime.intake import Intake
from worker.runtime.lanes import Lane
from worker.runtime.outgoing import dead_letter, key_text, result, trace_of
from worker.runtime.perform import Performer
from worker.runtime.position import Progress
from worker.runtime.retry import Backoff
from worker.sealing import Sealer
from worker.telemetry import metrics

log = structlog.get_logger()


class _Answer(NamedTuple):
    """What a record without a document is answered with; no body: nobody can be answered."""

    body: bytes | None
    code: str
    type: str
    committed: Callable[[], None] | None = None


class Partition:
    """Decides the records of one assignment; implements `Shop` for its lanes."""

    def __init__(
        self,
        ports: Ports,
        handler: Handler,
        sealer: Sealer,
        performer: Performer,
        assignment: Assignment,
        *,
        command_bytes_max: int,
        memory_commands: int,
    ) -> None:
        self.handler, self.sealer, self.store = handler, sealer, ports.store
        self.clock, self.ids = ports.clock, ports.ids
        self.assignment = assignment
        self.cache = Cache()
        self.progress = Progress(assignment.position, assignment.log_start)
        self.committer = Committer(ports.log, ports.clock, assignment, self.progress, self.cache)
        self.memory_commands = memory_commands
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._performer = performer
        self._command_bytes_max = command_bytes_max
        self._intake = Intake(ports.log, assignment, self.progress, self._take_in)
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._marks = itertools.count(1)
        self._misrouted = False

    def start(self) -> None:
        """Begin: the caller seeks the log to `progress.first`."""
        self.spawn(self.committer.run())

    async def stop(self) -> None:
        """Drop everything at once; the document and the log hold what the next owner needs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(lane.stop() for lane in self._lanes.values()))
        self._lanes.clear()
        self._intake.stop()
        self.failure.cancel()

    async def drain(self, poll_seconds: float = 0.01) -> None:
        """Wait until nothing is being decided and everything decided is committed, or the assignment is lost.

        Effects may be under way.
        """
        while not self.failure.done() and not self._settled():
            await self.clock.sleep(poll_seconds)

    def _settled(self) -> bool:
        return self.committer.idle and all(lane.quiet for lane in self._lanes.values())

    @property
    def lanes(self) -> int:
        """Keys with anything under way."""
        return len(self._lanes)

    def take(self, records: Sequence[Record]) -> None:
        """Take records in, in offset order; at the bound the partition stops fetching, and says so."""
        self._intake.take(records)

    # ------------------------------------------------------------------------------ step 1

    def _take_in(self, record: Record) -> None:
        """A record that cannot even be looked at is a bug like any other: a dead letter, and the next one (must 7)."""
        try:
            self._decode(record)
        except Exception as error:  # noqa: BLE001  # anything unclassified
            self.bug("command.bug", error, **_where(record))
            self._dead_letter(record, "bug", _reason(error), _Answer(None, "internal_error", "unknown"))

    def _decode(self, record: Record) -> None:
        decoded = decode(record, self._command_bytes_max)
        match decoded:
            case Decoded():
                self._note_route(record, decoded.command.aggregate)
                self._lane(decoded.command.aggregate).put(
                    Arrived(record, decoded.command, decoded.personal, self.mark())
                )
            case Rejected():
                verdict = decoded.verdict
                body = render(verdict, decoded.personal, {})
                answer = _Answer(body, verdict.code, verdict.command.type)
                self._done(record, (_result(record, body),), answer)
            case Poison(reason, None):
                self._dead_letter(record, "unreadable", reason, _Answer(None, "invalid_command", "unknown"))
            case Poison(reason, verdict):
                body = render(verdict, None, {})
                answer = _Answer(body, verdict.code, verdict.command.type)
                self._dead_letter(record, "unreadable", reason, answer)

    def _note_route(self, record: Record, aggregate: Aggregate) -> None:
        """Another partition than the key's is correct, only unordered; counted."""
        if partition_of(aggregate.key.encode(), self.assignment.partitions) == record.partition:
            return
        metrics.MISROUTED.inc()
        if not self._misrouted:
            self._misrouted = True
            log.warning("partition.misrouted", aggregate=aggregate.key, **_where(record))

    def _lane(self, aggregate: Aggregate) -> Lane:
        lane = self._lanes.get(aggregate.key)
        if lane is None:
            lane = self._lanes[aggregate.key] = Lane(self, aggregate)
        return lane

    # ------------------------------------------------------------------------------ records without a document

    def _dead_letter(self, record: Record, why: str, reason: str, answer: _Answer) -> None:
        """Dead letter and, where somebody can be answered, verdict: in one transaction (must 7)."""
        metrics.DEAD_LETTERS.labels(why).inc()
        log.warning("command.dead_letter", **_where(record), why=why, reason=reason)
        letter, blobs = dead_letter(record, reason)
        records = (letter, _result(record, answer.body)) if answer.body is not None else (letter,)
        if blobs:
            self.spawn(self._done_after(blobs, record, records, answer))
        else:
            self._done(record, records, answer)

    async def _done_after(
        self, blobs: dict[str, bytes], record: Record, records: tuple[Outgoing, ...], answer: _Answer
    ) -> None:
        backoff = Backoff(self.clock, self.ids)
        for key, blob in blobs.items():
            while True:
                try:
                    await self.store.put(key, blob)
                    break
                except Transient as error:
                    self.outage(error, **_where(record))
                    await backoff.pause(error)
        self._done(record, records, answer)

    def _done(self, record: Record, records: tuple[Outgoing, ...], answer: _Answer) -> None:
        def committed() -> None:
            if answer.committed:
                answer.committed()
            self._note_answer(record, answer.code, answer.type)
            self._intake.finished(record)

        self.committer.finish(Finished(record.offset, records, None, committed))

    # ------------------------------------------------------------------------------ for the lanes

    def mark(self) -> int:
        return next(self._marks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_result(error)

    def flight(self, report: Callable[[Observed], None]) -> Flight:
        return Flight(self._performer, self.clock, report)

    def is_committed(self, at: Coordinates) -> bool:
        return at.partition == self.assignment.partition and self.progress.is_committed(at.offset)

    def lane_quiet(self, lane: Lane) -> None:
        if lane.idle and self._lanes.get(lane.aggregate.key) is lane:
            del self._lanes[lane.aggregate.key]

    def answered(self, arrived: Arrived, code: str) -> None:
        command = arrived.command
        self._note_answer(arrived.record, code, command.type, command_id=command.id, aggregate=command.aggregate.key)
        self._intake.finished(arrived.record)
        self._quiet(command.aggregate)

    def _quiet(self, aggregate: Aggregate) -> None:
        if lane := self._lanes.get(aggregate.key):
            self.lane_quiet(lane)

    def _note_answer(self, record: Record, code: str, kind: str, **more: object) -> None:
        seconds = (self.clock.now() - record.timestamp).total_seconds()
        row, label = CODES[code], kind if kind in OPERATIONS else "unknown"
        metrics.ANSWERED.labels(label, code).inc()
        metrics.ANSWER_SECONDS.labels(label).observe(seconds)
        log.info(
            "command.answered",
            type=label,
            **more,
            **_where(record),
            code=code,
            outcome=row.outcome,
            http_status=row.http_status,
            seconds=round(seconds, 3),
        )

    def outage(self, error: Exception, **where: object) -> None:
        metrics.OUTAGES.inc()
        log.warning("dependency.unavailable", **where, error=str(error))

    def repeated(self, aggregate: Aggregate, error: Exception) -> None:
        metrics.CONFLICTS.inc()
        log.debug("document.conflict", aggregate=aggregate.key, error=str(error))

    def bug(self, event: str, error: Exception, **where: object) -> None:
        metrics.BUGS.inc()
        log.error(event, **where, exc_info=error)

    def bury(self, arrived: Arrived, error: Exception, committed: Callable[[], None]) -> None:
        verdict = failed(arrived.command, "internal_error", self.clock.now())
        body = render(verdict, arrived.personal, {})

        def then() -> None:
            committed()
            self._quiet(arrived.command.aggregate)

        self._dead_letter(
            arrived.record, "bug", _reason(error), _Answer(body, verdict.code, arrived.command.type, then)
        )


def _reason(error: Exception) -> str:
    return f"a bug: {type(error).__name__}"


def _result(record: Record, body: bytes) -> Outgoing:
    at = Coordinates(partition=record.partition, offset=record.offset)
    return result(key_text(record), at, at, body, record.timestamp, trace_of(record))


def _where(record: Record) -> dict[str, int]:
    return {"partition": record.partition, "offset": record.offset}
