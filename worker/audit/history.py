"""One aggregate's chain: where each of its records stands, and the state that it had at some point.

Trusts the log: whether the chain holds is the business of `verify`.  Knows no printing.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from schemas.base import Time
from schemas.commands import Aggregate
from worker.audit.chains import states_of
from worker.audit.replay import Reader, Told, Unreadable
from worker.audit.source import Source
from worker.domain.decision import AnyState
from worker.errors import Misconfigured

_TIME: TypeAdapter[datetime] = TypeAdapter(Time)


@dataclass(frozen=True, slots=True)
class Placed:
    """A record, where it first stands, and the state after it; None: that cannot be told, or there is none."""

    partition: int
    offset: int
    told: Told
    state: AnyState | None

    @property
    def where(self) -> str:
        return f"{self.partition}:{self.offset}"


class Point(NamedTuple):
    """When: one of the three."""

    time: datetime | None = None
    at: tuple[int, int] | None = None
    version: int | None = None

    def has(self, placed: Placed) -> bool:
        """Whether that record belongs to what had happened by then."""
        if self.time is not None:
            return placed.told.record.context.now <= self.time
        if self.at is not None:
            return placed.partition == self.at[0] and placed.offset <= self.at[1]
        return placed.state is not None and self.version is not None and placed.state.version <= self.version


def point(text: str) -> Point:
    """TIME, PARTITION:OFFSET or VERSION.  Raises ValueError."""
    if re.fullmatch(r"\d+", text):
        return Point(version=int(text))
    if pair := re.fullmatch(r"(\d+):(\d+)", text):
        return Point(at=(int(pair[1]), int(pair[2])))
    try:
        return Point(time=_TIME.validate_python(text))
    except ValidationError:
        raise ValueError(f"{text} is no RFC 3339 time, no PARTITION:OFFSET and no version") from None


async def history(source: Source, of: Aggregate) -> AsyncIterator[Placed]:
    """Its records in order, first occurrences; refusals where they came.  Raises Misconfigured, Unavailable."""
    reader, state, sequence = Reader(source), None, 0
    async for record in source.records(await source.bounds()):
        if record.key != of.key.encode():
            continue
        try:
            told = await reader.read(record.value or b"")
        except Unreadable as error:
            where = f"{record.partition}:{record.offset}"
            raise Misconfigured(f"{where}: {error}; `worker audit verify` says more") from None
        if told.record.kind != "refused":
            if told.record.audit_seq <= sequence:
                continue
            sequence, state = told.record.audit_seq, states_of(told, state)
        yield Placed(record.partition, record.offset, told, state)


async def state_at(source: Source, of: Aggregate, when: Point) -> Placed | None:
    """The last record of its chain by then, with the state; None: it had no record yet.  Raises as `history`."""
    last: Placed | None = None
    async for placed in history(source, of):
        if placed.told.record.kind != "refused" and when.has(placed):
            last = placed
    return last
