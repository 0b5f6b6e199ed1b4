"""One reader of the results for everybody who waits for a verdict: it hands each on by the command record it answers.

Knows nothing of what a result says.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from schemas.base import Coordinates
from worker.client.records import answered
from worker.errors import Misconfigured, Transient
from worker.ports import EventStream, Record, Topic

RETRY_SECONDS = 0.2
"""Pause before reading is tried again while the results are away."""


class Answers:
    """Start it before the first command is published; what nobody waits for is dropped."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._waiting: dict[Coordinates, asyncio.Future[Record]] = {}
        self._early: dict[Coordinates, Record] = {}
        self._publishing = 0
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Read from the end of now on; a no-op where that has begun.  Raises Unavailable."""
        async with self._starting:
            if self._reading is None or self._reading.done():
                ends = {partition: end for partition, (_, end) in (await self._stream.bounds(Topic.RESULTS)).items()}
                self._reading = asyncio.create_task(self._read(ends), name="results")

    async def stop(self) -> None:
        """Tolerates stop before start and a second stop."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Until it ends a verdict is kept that is read before its publisher knows where its command stands."""
        self._publishing += 1
        try:
            yield
        finally:
            self._publishing -= 1
            if not self._publishing:
                self._early.clear()

    def of(self, at: Coordinates) -> "asyncio.Future[Record]":
        """The result on this command record; ask while `publishing`, and `forget` in the end."""
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        if at in self._early:
            future.set_result(self._early[at])
        elif self._reading is not None and self._reading.done():
            self._reading.result()  # raises what it has ended with: nobody would ever answer
        self._waiting[at] = future
        return future

    def forget(self, places: Sequence[Coordinates]) -> None:
        """Nobody waits for these any more."""
        for at in places:
            self._waiting.pop(at, None)

    async def _read(self, at: dict[int, int]) -> None:
        """For ever; an outage is waited out.  Whatever else it ends with is told to all who wait."""
        try:
            while True:
                try:
                    async for record in self._stream.read(Topic.RESULTS, dict(at), follow=True):
                        at[record.partition] = record.offset + 1
                        self._hand_on(record)
                except Transient:
                    await asyncio.sleep(RETRY_SECONDS)
        except Exception as error:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)
            raise

    def _hand_on(self, record: Record) -> None:
        try:
            at = answered(record)
        except Misconfigured:
            return  # it answers nobody
        future = self._waiting.get(at)
        if future is not None and not future.done():
            future.set_result(record)
        elif self._publishing:
            self._early[at] = record
