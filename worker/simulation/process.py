"""A simulated process: its tasks, its wall clock, its chance.  Knows nothing of what runs in it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from worker.simulation.loop import OWNER, Owner, SeededLoop

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""What true clocks say when a simulation begins."""


class Process(Owner):
    """`name` says which worker, and which of its lives: `worker-1.3`.

    `in_flight` are its calls under way; `tasks_left` those of its tasks that had not ended when it returned.
    """

    def __init__(self, loop: SeededLoop, name: str, seed: str) -> None:
        super().__init__()
        self.name = name
        self.in_flight = 0
        self.tasks_left = 0
        self.ambush: Callable[[], object] | None = None
        """Done once, while its next call is on its way."""
        self.clock = ProcessClock(loop)
        self.ids = SeededIds(Random(f"{seed}/{name}"))
        self._loop = loop
        self._context: Context = copy_context()
        self._context.run(OWNER.set, self)

    def start(self, main: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run as a task of this process; so is every task that it makes."""
        return self._loop.create_task(main, name=self.name, context=self._context)


class ProcessClock:
    """`Clock`: the simulation's time; the wall clock may be wrong by `skew_seconds`."""

    def __init__(self, loop: SeededLoop) -> None:
        self._loop = loop
        self.skew_seconds = 0.0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time() + self.skew_seconds)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededIds:
    """`Ids` from one source of chance."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def fresh(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def jitter(self) -> float:
        return self._random.random()

    def nonce(self) -> bytes:
        return self._random.randbytes(12)
