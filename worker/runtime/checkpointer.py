"""The checkpointer: the owner of a commands partition seals the audit partition of the same number, at an interval.

It stands outside of the commands' transactions and never holds them up.  It reads what was committed since the last
checkpoint and publishes the root; a partition that has just become ours goes on from the last one on the topic.  Two
owners that take each other for dead may both follow the same checkpoint: each then tells the truth about a range that
begins where that one ends, and whoever verifies follows both.  So nothing fences here, and nothing has to.

Knows neither commands nor what audit records say.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from pydantic import ValidationError

from schemas.checkpoints import Checkpoint, SignedCheckpoint
from schemas.cloudevents import headers
from worker.errors import Misconfigured, Refused, Transient
from worker.merkle import Distinct
from worker.partitioner import partition_of
from worker.ports import Clock, EventStream, Outgoing, Topic
from worker.signing import Signers, signed

RECORDS_MAX = 16_384
"""Leaves of one checkpoint; more follow in the next.  It bounds the memory of whoever makes or verifies one."""
LOOK_BACK = 256
"""Records at the end of the checkpoints' topic among which the last of a partition is looked for first."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Line:
    """Where a partition's line of checkpoints stands, as its owner of this epoch knows."""

    epoch: int
    sequence: int = 0
    sha256: str | None = None
    end_offset: int = 0
    trusted_key_id: str | None = None
    looked_offset: int = 0
    """Up to here there is nothing that a checkpoint does not cover."""


class Checkpointer:
    """`owned` tells the epoch of each partition that is ours."""

    def __init__(
        self, stream: EventStream, clock: Clock, owned: Callable[[], Mapping[int, int]], signers: Signers
    ) -> None:
        self._stream, self._clock, self._owned, self._signers = stream, clock, owned, signers
        self._lines: dict[int, Line] = {}

    async def run(self, interval_seconds: float) -> None:
        """For ever."""
        if self._signers.now is None:
            log.warning("checkpoint.unsigned")
        while True:
            await self._clock.sleep(interval_seconds)
            await self.once()

    async def once(self) -> None:
        """Seal what is new.  Trouble is logged, and nothing is remembered of the lines, whose end is unknown then."""
        try:
            await self._seal()
        except (Transient, Refused, Misconfigured) as error:
            self._lines.clear()
            log.warning("checkpoint.failed", error=str(error))
        except BaseException:
            self._lines.clear()
            raise

    async def _seal(self) -> None:
        owned = self._owned()
        if not owned:
            return
        self._lines = {number: line for number, line in self._lines.items() if owned.get(number) == line.epoch}
        self._lines |= await self._taken_over({n: epoch for n, epoch in owned.items() if n not in self._lines})
        at = self._clock.now()  # before the ends are read, so that all that was committed by then is covered
        ends = {number: end for number, (_, end) in (await self._stream.bounds(Topic.AUDIT)).items()}
        new: dict[int, int] = {}
        for number, line in sorted(self._lines.items()):
            if ends[number] < line.end_offset:
                log.error("checkpoint.log_cut", partition=number, ends_at=ends[number], sealed_to=line.end_offset)
            elif ends[number] > line.looked_offset:
                new[number] = line.looked_offset
        if new:
            await self._read(new, ends, at)

    async def _read(self, new: Mapping[int, int], ends: Mapping[int, int], at: datetime) -> None:
        ranges = {number: Distinct() for number in new}
        async for record in self._stream.read(Topic.AUDIT, new, follow=False):
            number = record.partition
            if record.offset >= ends[number]:
                continue  # committed since
            ranges[number].add(record.value or b"")
            if len(ranges[number]) == RECORDS_MAX:
                await self._publish(number, ranges[number], record.offset + 1, at)
                ranges[number] = Distinct()
        for number, found in ranges.items():
            if len(found):
                await self._publish(number, found, ends[number], at)
            else:  # such as the marks of transactions
                self._lines[number] = replace(self._lines[number], looked_offset=ends[number])

    async def _publish(self, number: int, found: Distinct, end_offset: int, at: datetime) -> None:
        line = self._lines[number]
        signer, introduces = self._signers.after(line.trusted_key_id)
        checkpoint = Checkpoint(
            kind="audit.checkpoint",
            partition=number,
            sequence=line.sequence + 1,
            previous_sha256=line.sha256,
            first_offset=line.end_offset,
            end_offset=end_offset,
            records=len(found),
            root_sha256=found.root().hex(),
            at=at,
            key_id=signer.key_id if signer else None,
            introduces=introduces,
        )
        made = signed(checkpoint, signer)
        await self._stream.publish([_outgoing(checkpoint, made)])
        self._lines[number] = _line(line.epoch, made, checkpoint)

    async def _taken_over(self, epochs: Mapping[int, int]) -> dict[int, Line]:
        """The lines of these partitions as the topic has them, looked for from its end backwards."""
        lines = {number: Line(epoch) for number, epoch in epochs.items()}
        if not lines:
            return lines
        bounds = await self._stream.bounds(Topic.CHECKPOINTS)
        where = {number: partition_of(_key(number), len(bounds)) for number in lines}
        missing, back = sorted(lines), LOOK_BACK
        while missing:
            starts = {where[n]: max(bounds[where[n]][0], bounds[where[n]][1] - back) for n in missing}
            async for record in self._stream.read(Topic.CHECKPOINTS, starts, follow=False):
                with suppress(ValidationError):  # what is none of ours is for whoever verifies to name
                    made = SignedCheckpoint.model_validate_json(record.value or b"")
                    _follow(lines, made, made.checkpoint)
            missing = [n for n in missing if not lines[n].sequence and starts[where[n]] > bounds[where[n]][0]]
            back *= 4
        return lines


def _follow(lines: dict[int, Line], made: SignedCheckpoint, said: Checkpoint) -> None:
    """Of two that follow the same one, the one that reaches further is gone on from."""
    line = lines.get(said.partition)
    if line is not None and said.end_offset > line.end_offset:
        lines[said.partition] = _line(line.epoch, made, said)


def _line(epoch: int, made: SignedCheckpoint, said: Checkpoint) -> Line:
    """The line that ends with this checkpoint."""
    return Line(epoch, said.sequence, made.sha256, said.end_offset, said.trusted_key_id, said.end_offset)


def _key(number: int) -> bytes:
    """One for all checkpoints of an audit partition, so that they stay in order."""
    return f"audit/{number}".encode()


def _outgoing(said: Checkpoint, made: SignedCheckpoint) -> Outgoing:
    name, subject = f"checkpoint/{said.partition}/{said.sequence}", f"audit/{said.partition}"
    envelope = headers(id=name, type=said.kind, time=said.at, subject=subject)
    body = made.model_dump_json(exclude_none=True).encode()
    return Outgoing(Topic.CHECKPOINTS, _key(said.partition), body, envelope)
