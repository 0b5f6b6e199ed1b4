"""One assignment of one partition: intake, lanes, cache, committer; all of it dies with the assignment (must 5)."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from schemas.base import Coordinates, event_id
from schemas.cloudevents import headers
from schemas.codes import CODES
from schemas.commands import Aggregate
from schemas.observations import Observed
from schemas.verdicts import Verdict, VerdictCommand
from worker.decoding import Decoded, Poison, Rejected, decode
from worker.handler import Arrived, Handler
from worker.ledger import render
from worker.ports import Assignment, Outgoing, Ports, Record, Topic
from worker.runtime.cache import Cache
from worker.runtime.committer import Committer, Finished
from worker.runtime.flight import Flight
from worker.runtime.lanes import Lane, result
from worker.runtime.perform import Performer
from worker.runtime.position import UNFINISHED_MAX, Progress
from worker.sealing import Sealer

RESUME_BELOW = UNFINISHED_MAX * 3 // 4
log = structlog.get_logger()


class Partition:
    """Takes records in, up to 512 unfinished; implements `Shop` for its lanes."""

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
        self.committer = Committer(ports.log, assignment, self.progress, self.cache)
        self.memory_commands = memory_commands
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._ports, self._performer = ports, performer
        self._command_bytes_max = command_bytes_max
        self._lanes: dict[str, Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._marks = itertools.count(1)
        self._overflow: list[Record] = []
        self._paused = False

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
        self.failure.cancel()

    async def drain(self, poll_seconds: float = 0.01) -> None:
        """Wait until nothing is being decided and everything decided is committed; effects may be under way."""
        while any(not lane.quiet for lane in self._lanes.values()):
            await self.clock.sleep(poll_seconds)
        await self.committer.drained()

    # ------------------------------------------------------------------------------ intake

    @property
    def unfinished(self) -> int:
        return self.progress.unfinished

    def take(self, records: Sequence[Record]) -> None:
        """Take records in, in offset order; at the bound the partition stops fetching, and says so."""
        self._overflow += records
        self._refill()

    def _refill(self) -> None:
        taken = 0
        for record in self._overflow:
            if self.progress.unfinished >= UNFINISHED_MAX:
                break
            taken += 1
            if self.progress.take(record.offset):
                self._intake(record)
        del self._overflow[:taken]
        if self._overflow or self.progress.unfinished >= UNFINISHED_MAX:
            if not self._paused:
                self._paused = True
                self._ports.log.pause(self.assignment)
                log.warning("partition.full", partition=self.assignment.partition, unfinished=self.unfinished)
        elif self._paused and self.progress.unfinished < RESUME_BELOW:
            self._paused = False
            self._ports.log.resume(self.assignment)
            log.info("partition.resumed", partition=self.assignment.partition, unfinished=self.unfinished)

    def _intake(self, record: Record) -> None:
        decoded = decode(record, self._command_bytes_max)
        match decoded:
            case Decoded():
                arrived = Arrived(record, decoded.command, decoded.personal, self.mark())
                self._lane(decoded.command.aggregate).put(arrived)
            case Rejected():
                body = render(decoded.verdict, decoded.personal, {})
                self._done(record, (result(_key(record), _at(record), body, record.timestamp),), decoded.verdict)
            case Poison():
                records = [dead_letter(record, decoded.reason)]
                if decoded.verdict:
                    body = render(decoded.verdict, None, {})
                    records.append(result(_key(record), _at(record), body, record.timestamp))
                log.warning("command.dead_letter", **_where(record), reason=decoded.reason)
                self._done(record, tuple(records), decoded.verdict)

    def _lane(self, aggregate: Aggregate) -> Lane:
        lane = self._lanes.get(aggregate.key)
        if lane is None:
            lane = self._lanes[aggregate.key] = Lane(self, aggregate)
        return lane

    def _done(self, record: Record, records: tuple[Outgoing, ...], verdict: Verdict | None) -> None:
        def committed() -> None:
            if verdict:
                log.info("command.answered", **_where(record), code=verdict.code, outcome=verdict.outcome)
            self._refill()

        self.committer.finish(Finished(record.offset, records, None, False, committed))

    # ------------------------------------------------------------------------------ for the lanes

    def mark(self) -> int:
        return next(self._marks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
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

    def answered(self, arrived: Arrived, verdict: bytes) -> None:
        said = Verdict.model_validate_json(verdict)
        log.info(
            "command.answered",
            command_id=said.command.id,
            type=said.command.type,
            aggregate=arrived.command.aggregate.key,
            **_where(arrived.record),
            code=said.code,
            outcome=said.outcome,
            http_status=said.http_status,
            seconds=round((self.clock.now() - arrived.command.received_at).total_seconds(), 3),
        )
        self._refill()

    def outage(self, aggregate: Aggregate, error: Exception) -> None:
        log.warning("dependency.unavailable", aggregate=aggregate.key, error=str(error))

    def bug(self, aggregate: Aggregate, error: Exception) -> None:
        log.error("command.bug", aggregate=aggregate.key, exc_info=error)

    def bury(self, arrived: Arrived, error: Exception) -> None:
        record, command = arrived.record, arrived.command
        row = CODES["internal_error"]
        verdict = Verdict(
            id=event_id("verdict", command.at),
            outcome=row.outcome,
            code="internal_error",
            http_status=row.http_status,
            message=row.meaning,
            command=VerdictCommand(id=command.id, type=command.type, fingerprint=command.fingerprint, at=command.at),
            received_at=command.received_at,
            decided_at=self.clock.now(),
            finished_at=self.clock.now(),
        )
        body = render(verdict, arrived.personal, {})
        published = result(command.aggregate.key, command.at, body, command.received_at)
        reason = f"a bug: {type(error).__name__}"
        self._done(record, (dead_letter(record, reason), published), verdict)


def dead_letter(record: Record, reason: str) -> Outgoing:
    """The record as it was: bytes and headers, with where it stood and why it is here."""
    ce = headers(
        id=event_id("dead-letter", _at(record)), type="dead_letter", time=record.timestamp, subject=_key(record)
    )
    where = (
        ("dead-letter-reason", reason.encode()),
        ("dead-letter-partition", str(record.partition).encode()),
        ("dead-letter-offset", str(record.offset).encode()),
    )
    original = tuple((f"original-{name}", value) for name, value in record.headers)
    return Outgoing(Topic.DEAD_LETTERS, record.key or b"", record.value or b"", (*ce, *where, *original))


def _key(record: Record) -> str:
    return (record.key or b"").decode("utf-8", "replace") or "unknown"


def _at(record: Record) -> Coordinates:
    return Coordinates(partition=record.partition, offset=record.offset)


def _where(record: Record) -> dict[str, int]:
    return {"partition": record.partition, "offset": record.offset}
