"""Servers that a script steers: a bucket that lets a write be late, a broker that does not hear everything.

What a script does not ask for is as in any simulation without faults.  Knows nothing of schedules.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from worker.simulation.kafka.broker import Wire
from worker.simulation.process import Process
from worker.simulation.s3 import Bucket
from worker.simulation.s3.client import lost
from worker.simulation.s3.objects import PreconditionFailed
from worker.simulation.service import never
from worker.simulation.world import World, current

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Put:
    """A write as it arrived, and how it was answered."""

    seconds: float
    process: str
    key: str
    status: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A write that is under way; whoever has sent it saw its connection break.  `arrives`: now."""

    arrives: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Wait:
    """For a write of a process."""

    process: str
    key: str
    act: Callable[[], object]
    kept: asyncio.Future[Kept]


class WatchedBucket(Bucket):
    """A bucket that remembers how writes were answered, and lets one be late where a script says so."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.puts: list[Put] = []
        self._now = world.loop.time
        self._waits: list[Wait] = []

    def keep(self, process: Process, key: str, act: Callable[[], object]) -> asyncio.Future[Kept]:
        """Its next write there is late; `act` at the moment at which it should have arrived."""
        wait = Wait(process.name, key, act, asyncio.get_running_loop().create_future())
        self._waits.append(wait)
        return wait.kept

    def put(self, who: str, key: str, body: bytes, if_match: str | None, if_none_match: str | None) -> str:
        for wait in self._waits:
            if (wait.process, wait.key) == (who, key):
                self._waits.remove(wait)
                wait.kept.set_result(Kept(lambda: self._arrives_late(who, key, body, if_match, if_none_match)))
                wait.act()
                raise lost(self.endpoint_url)
        try:
            etag = super().put(who, key, body, if_match, if_none_match)
        except PreconditionFailed:
            self.puts.append(Put(self._now(), who, key, 412))
            raise
        self.puts.append(Put(self._now(), who, key, 200))
        return etag

    def _arrives_late(self, who: str, key: str, body: bytes, if_match: str | None, if_none_match: str | None) -> None:
        with suppress(PreconditionFailed):  # nobody is there to hear of it
            self.put(who, key, body, if_match, if_none_match)

    def answers(self, process: Process, key: str) -> list[int]:
        """The statuses of a process's writes of a key, in order of their arrival."""
        return [put.status for put in self.puts if (put.process, put.key) == (process.name, key)]


class PartedWire(Wire):
    """The way to the broker; `parted` processes do not reach it for these requests, and do not know it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.parted: dict[str, tuple[str, ...]] = {}

    async def call(self, what: str, serve: Callable[[], T], detail: str = "", **errors: Any) -> T:
        process = current()
        if process is not None and what in self.parted.get(process.name, ()):
            self.world.note(process.name, f"{self.name}.{what}", "is lost")
            await never()
        return await super().call(what, serve, detail, **errors)
