"""A consumer that looks alive and gets nothing (K13): seen by its positions against the ends of the log.

Its tasks say nothing, they run.  Knows nothing of what is done about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a partition stood, and since when, with something left to get."""

    position: int
    since_seconds: float
    fetches: int


class Watchdog:
    """Looked at again and again; times are seconds of one monotonic clock."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._marks: dict[int, _Mark] = {}

    def look(self, now_seconds: float, fetches: int, at: Mapping[int, tuple[int, int]]) -> str | None:
        """`at`: {partition that should get records: (position, end)}; `fetches`: how often was fetched so far.

        -> what stands still for too long, for people; a partition that nobody fetched meanwhile does not count.
        """
        before, self._marks = self._marks, {}
        for partition, (position, end) in sorted(at.items()):
            if position >= end:
                continue
            mark = before.get(partition)
            if mark is None or mark.position != position:
                mark = _Mark(position, now_seconds, fetches)
            self._marks[partition] = mark
            seconds = now_seconds - mark.since_seconds
            if seconds >= self._timeout_seconds and fetches > mark.fetches:
                return f"partition {partition} stands at {position} of {end} for {seconds:.0f} s, and gets nothing"
        return None

    def forget(self) -> None:
        """The broker did not answer: what stands still may be its fault."""
        self._marks.clear()
