"""What lies between a worker and a server: carries bytes, and springs traps on operations as they pass.

A trap holds one operation at one point of its way, tells who has set it, and ends the connection when it is let go: so
a fault strikes while that operation is under way, and not by luck.  Knows sockets and `talk`, nothing of the worker.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from tests.chaos.talk import Asked, Talk
from tests.services.relay import Relay

CHUNK_BYTES = 64 * 1024


class Point(StrEnum):
    """How far an operation gets that a trap has caught."""

    UNHEARD = "the request never came"
    DONE = "carried out, and the answer lost"
    CUT = "the answer cut in its middle"
    LATE = "the request came late"


class Trap:
    """Catches the first of these operations that passes (of `who`, where one is named), at this point of its way."""

    def __init__(self, operations: frozenset[str], point: Point, who: str | None) -> None:
        self._operations, self.point, self._who = operations, point, who
        self.caught: Asked | None = None
        self._sprung, self._released = asyncio.Event(), asyncio.Event()

    def takes(self, asked: Asked, *, answer: bool) -> bool:
        """Whether it springs on this request (or on the answer to it); it springs once."""
        if self.caught or answer != (self.point in (Point.DONE, Point.CUT)):
            return False
        if asked.operation not in self._operations or self._who not in (None, asked.who):
            return False
        self.caught = asked
        self._sprung.set()
        return True

    async def sprung(self, timeout_seconds: float) -> Asked | None:
        """-> what it caught, and holds; None where nothing came in time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._sprung.wait(), timeout_seconds)
        return self.caught

    def release(self) -> None:
        self._released.set()

    async def hold(self) -> None:
        await self._released.wait()


@contextmanager
def trap(wires: "Iterable[Wire]", *operations: str, point: Point, who: str | None = None) -> Iterator[Trap]:
    """Set in all of these wires until the end of the block; what it holds is let go then."""
    laid, lies_in = Trap(frozenset(operations), point, who), list(wires)
    for wire in lies_in:
        wire.traps.append(laid)
    try:
        yield laid
    finally:
        for wire in lies_in:
            wire.traps.remove(laid)
        laid.release()


class Wire(Relay):
    """`async with Wire(server, talk) as wire`: the server is reached through `wire.port`.

    `server` says where it is, each time anew; with `tls` the way to it is encrypted, the way here never.
    """

    def __init__(
        self, server: Callable[[], tuple[str, int]], talk: Callable[[], Talk], tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(server, outwards=tls)
        self._talk = talk
        self.traps: list[Trap] = []
        self.passed: Counter[str] = Counter()
        """Requests so far, by operation."""

    async def carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        """Both ways, until either side ends it or a trap does."""
        talk = self._talk()
        ways = [
            asyncio.create_task(self._requests(talk, reader, up_writer)),
            asyncio.create_task(self._answers(talk, up_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self, talk: Talk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            for asked in talk.asked(data):
                self.passed[asked.operation] += 1
                if trap := self._sprung(asked, answer=False):
                    await trap.hold()
                    if trap.point is not Point.LATE:
                        return
            writer.write(data)
            await writer.drain()

    async def _answers(self, talk: Talk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            for asked, middle in talk.answered(data):
                if trap := self._sprung(asked, answer=True):
                    if trap.point is Point.CUT:
                        writer.write(data[:middle])
                        await writer.drain()
                    await trap.hold()
                    return
            writer.write(data)
            await writer.drain()

    def _sprung(self, asked: Asked, *, answer: bool) -> Trap | None:
        return next((trap for trap in self.traps if trap.takes(asked, answer=answer)), None)
