"""The position of a partition: the first unfinished offset, and the set of unfinished ones above it (must 6).

In the commit's metadata: `1:` + base64url of varints (highest finished - position, count, deltas).  With at most 512
unfinished offsets it never passes 4,096 characters.  Knows nothing of commands.
"""

import base64
from bisect import insort
from itertools import pairwise

from worker.ports import Position

UNFINISHED_MAX = 512
METADATA_MAX = 4096


def encode(first: int, highest: int, unfinished: list[int]) -> str:
    """`highest` is the offset after the highest finished one; `unfinished` ascend within [first, highest)."""
    numbers = [highest - first, len(unfinished)]
    before = first
    for offset in unfinished:
        numbers.append(offset - before)
        before = offset
    raw = b"".join(_varint(number) for number in numbers)
    return "1:" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(first: int, metadata: str) -> tuple[int, list[int]] | None:
    """-> (offset after the highest finished, unfinished ones below it); None where it cannot be read."""
    if not metadata.startswith("1:"):
        return None
    text = metadata[2:]
    try:
        numbers = _numbers(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except ValueError:
        return None
    if len(numbers) < 2 or len(numbers) != numbers[1] + 2:
        return None
    highest, offset, unfinished = first + numbers[0], first, []
    for delta in numbers[2:]:
        offset += delta
        unfinished.append(offset)
    ascending = all(a < b for a, b in pairwise(unfinished))
    return (highest, unfinished) if ascending and all(o < highest for o in unfinished) else None


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _numbers(raw: bytes) -> list[int]:
    numbers, value, shift = [], 0, 0
    for byte in raw:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(value)
            value = shift = 0
    if shift or not numbers:
        raise ValueError("cut varint")
    return numbers


class Progress:
    """What of a partition is unfinished, finished, and known to be committed."""

    def __init__(self, position: Position | None, log_start: int) -> None:
        self.first = position.offset if position else log_start
        known = decode(self.first, position.metadata) if position and position.metadata else None
        self.unreadable = bool(position and position.metadata) and known is None
        self._resumed_below, resumed = known or (self.first, [])
        self._to_resume = set(resumed)
        self._highest = self._resumed_below
        self._unfinished: list[int] = list(resumed)
        self._committed_first = self.first
        self._committed_highest = self._resumed_below
        self._committed_holes: frozenset[int] = frozenset(resumed)

    def take(self, offset: int) -> bool:
        """Take a record in; False where an earlier owner had finished it."""
        if offset < self._resumed_below:
            if offset in self._to_resume:
                self._to_resume.discard(offset)
                return True
            return False
        insort(self._unfinished, offset)
        return True

    def finish(self, offset: int) -> None:
        """Its verdict is in a transaction that is about to be committed."""
        self._unfinished.remove(offset)
        self._highest = max(self._highest, offset + 1)

    @property
    def resuming(self) -> bool:
        """Whether unfinished records of the position are still to be taken in; they are within the bound already."""
        return bool(self._to_resume)

    @property
    def unfinished(self) -> int:
        return len(self._unfinished)

    def position(self) -> Position:
        """What to commit now."""
        below = [offset for offset in self._unfinished if offset < self._highest]
        first = below[0] if below else self._highest
        metadata = encode(first, self._highest, below)
        assert len(metadata) <= METADATA_MAX, "the bound of unfinished commands keeps it short"
        return Position(first, metadata)

    def committed(self, position: Position) -> None:
        """The transaction with this position is known to have committed."""
        highest, holes = decode(position.offset, position.metadata) or (position.offset, [])
        self._committed_first, self._committed_highest = position.offset, highest
        self._committed_holes = frozenset(holes)

    def is_committed(self, offset: int) -> bool:
        """Whether the record's verdict is known to be visible."""
        return offset < self._committed_first or (
            offset < self._committed_highest and offset not in self._committed_holes
        )
