"""Checkpoints as the topic has them, ready to be held against the audit log.

The checking itself is verify_bundle.py's, which strangers run alone; this reads what it needs through the ports.
"""

from collections.abc import Iterable

from worker.audit.verify_bundle import Lines, Seals
from worker.ports import EventStream, Topic


async def lines(stream: EventStream, keys: Iterable[bytes]) -> Lines:
    """All checkpoints, judged; `keys`: public keys that are trusted, 32 bytes each.  Raises Unavailable, Refused."""
    bounds = await stream.bounds(Topic.CHECKPOINTS)
    starts = {number: first for number, (first, end) in bounds.items() if first < end}
    found = [
        (f"checkpoints {record.partition}:{record.offset}", record.value or b"")
        async for record in stream.read(Topic.CHECKPOINTS, starts, follow=False)
    ]
    return Lines(found, keys)


async def seals(stream: EventStream, keys: Iterable[bytes], *, cut: bool = False) -> Seals:
    """Ready for the records of the audit log, every one, each partition in the order of its offsets.

    `cut`: the heads of partitions were cut on purpose, each where a checkpoint ends.  Raises Unavailable, Refused.
    """
    judged = await lines(stream, keys)
    bounds = await stream.bounds(Topic.AUDIT)
    return Seals(judged, {number: first if cut else 0 for number, (first, _) in bounds.items()})
