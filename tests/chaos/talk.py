"""What two sides of a connection say to each other, as far as operations can be told apart: Kafka's and HTTP's words.

Knows framing and the names of operations; nothing of sockets, and nothing of what is done with what it tells.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, Protocol

PRODUCE, FETCH, ADD_PARTITIONS, ADD_OFFSETS, END_TXN, TXN_OFFSET_COMMIT = 0, 1, 24, 25, 26, 28
KAFKA_NAMES = {
    PRODUCE: "Produce",
    FETCH: "Fetch",
    ADD_PARTITIONS: "AddPartitionsToTxn",
    ADD_OFFSETS: "AddOffsetsToTxn",
    END_TXN: "EndTxn",
    TXN_OFFSET_COMMIT: "TxnOffsetCommit",
}
"""Requests that have a name here; others are called `other`."""
LENGTH_BYTES = 4
CLIENT_AT = 4 + 2 + 2 + 4
"""Where a request's client id begins: after length, key, version and correlation id."""
CLIENT_BYTES_MAX = 64


class Asked(NamedTuple):
    """A request: its operation, and who asks (empty: the connection does not say)."""

    operation: str
    who: str = ""


class Answered(NamedTuple):
    """An answer that begins in some bytes; `middle` is where half of what these bytes hold of it is over."""

    asked: Asked
    middle: int


class Talk(Protocol):
    """One connection; each method gets the next bytes of its direction."""

    def asked(self, data: bytes) -> list[Asked]:
        """-> requests whose operation became known by these bytes."""

    def answered(self, data: bytes) -> list[Answered]:
        """-> answers that begin in these bytes."""


class KafkaTalk:
    """Frames with a length; a broker answers the requests of one connection in their order."""

    def __init__(self) -> None:
        self._requests, self._replies = _Frames(CLIENT_AT + 2 + CLIENT_BYTES_MAX), _Frames(LENGTH_BYTES)
        self._open: deque[Asked] = deque()

    def asked(self, data: bytes) -> list[Asked]:
        found = [_request(head) for head, _, _ in self._requests.read(data)]
        self._open += found
        return found

    def answered(self, data: bytes) -> list[Answered]:
        return [
            Answered(self._open.popleft(), (first + last) // 2)
            for _, first, last in self._replies.read(data)
            if self._open
        ]


class _Frames:
    """Tells where frames begin, and keeps no more than their first `head_bytes`."""

    def __init__(self, head_bytes: int) -> None:
        self._head_bytes = head_bytes
        self._kept = b""
        self._skip = 0

    def read(self, data: bytes) -> Iterator[tuple[bytes, int, int]]:
        """-> (first bytes of a frame, where it begins and ends within the data), once enough of it is there."""
        at = min(self._skip, len(data))
        self._skip -= at
        while at < len(data):
            whole = self._kept + data[at : at + self._head_bytes]
            size = LENGTH_BYTES + int.from_bytes(whole[:LENGTH_BYTES], "big")
            if len(whole) < LENGTH_BYTES or len(whole) < min(size, self._head_bytes):
                self._kept = whole
                return
            ends = at + size - len(self._kept)
            self._kept = b""
            yield whole[:size], at, min(ends, len(data))
            self._skip = max(0, ends - len(data))
            at = min(ends, len(data))


def _request(head: bytes) -> Asked:
    key = int.from_bytes(head[LENGTH_BYTES : LENGTH_BYTES + 2], "big")
    size = max(0, int.from_bytes(head[CLIENT_AT : CLIENT_AT + 2], "big", signed=True))
    client = head[CLIENT_AT + 2 : CLIENT_AT + 2 + size].decode("utf-8", "replace")
    return Asked(KAFKA_NAMES.get(key, "other"), client)


class HttpTalk:
    """HTTP/1.1 without pipelining: what a client says after an answer began is the next request.

    An operation is the method; a watch is called so, since its answer goes on and on.
    """

    def __init__(self, who: str = "") -> None:
        self._who = who
        self._open: Asked | None = None
        self._fresh = True

    def asked(self, data: bytes) -> list[Asked]:
        if not self._fresh:
            return []
        line = data.split(b"\r\n", 1)[0].decode("latin-1")
        self._fresh, self._open = False, Asked("watch" if "watch=" in line else line.partition(" ")[0], self._who)
        return [self._open]

    def answered(self, data: bytes) -> list[Answered]:
        self._fresh, asked, self._open = True, self._open, None
        return [Answered(asked, len(data) // 2)] if asked else []
