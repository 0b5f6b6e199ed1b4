"""Retention: how far the head of the audit log may be cut, and what is lost with it.

A head is cut where a checkpoint ends and nowhere else: what is left is then still held against its checkpoints, which
are kept for ever (a few hundred bytes each).  A bundle that was exported before keeps what is cut verifiable.  What is
lost with a chain that goes on behind the cut: its state can no longer be folded from the log, so its document cannot be
rebuilt, nor its next decisions made again.  Nothing here cuts: whoever runs the log does.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from worker.audit.bundle import trunks
from worker.audit.verify_bundle import Lines, Made
from worker.ports import EventStream, Topic


@dataclass
class Cut:
    """Of one partition: everything below `offset` may go; it is the end of the last checkpoint made before the time."""

    partition: int
    offset: int
    at: str | None
    records: int = 0
    ended: set[str] = field(default_factory=set)
    """Aggregates all of whose records are below; by key."""
    going_on: set[str] = field(default_factory=set)
    """Aggregates whose chain is cut in two."""


async def cuts(stream: EventStream, judged: Lines, before: datetime) -> list[Cut]:
    """A cut for each partition; offset 0 or the log's own beginning: nothing may go.  One pass over the log.

    Memory: the keys of the aggregates below the cut.  Raises Unavailable, Refused.
    """
    bounds = await stream.bounds(Topic.AUDIT)
    lines = trunks(judged)
    found = {number: _cut(number, first, lines.get(number, ()), before) for number, (first, _) in bounds.items()}
    starts = {number: first for number, (first, _) in sorted(bounds.items()) if first < found[number].offset}
    async for record in stream.read(Topic.AUDIT, starts, follow=False):
        cut, key = found[record.partition], (record.key or b"").decode("utf-8", "replace")
        if record.offset < cut.offset:
            cut.records += 1
            cut.ended.add(key)
        elif key in cut.ended:
            cut.ended.discard(key)
            cut.going_on.add(key)
    return [found[number] for number in sorted(found)]


def _cut(number: int, first: int, line: Iterable[Made], before: datetime) -> Cut:
    """The end of the last checkpoint of a partition's line that was made before then."""
    last = [made for made in line if datetime.fromisoformat(made.at) < before and made.end > first][-1:]
    return Cut(number, last[0].end, last[0].at) if last else Cut(number, first, None)
