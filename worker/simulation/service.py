"""How a call travels: from a process to a server and back, with everything that may happen to it on the way.

The server applies a request when it arrives, whether or not anybody still waits for the answer: its sender may have
given up, sleep, or be dead by then.  Knows nothing of what is called.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from worker.simulation.process import Process
from worker.simulation.world import World, current

T = TypeVar("T")
LATE_SECONDS = (1.0, 40.0)
"""How much later than usual a late request arrives."""
AMBUSH_SECONDS = 0.008
"""At most so long after a call has begun happens what waits for one: it may be on its way there or back by then."""
BROKEN_SECONDS = 0.3
"""At most so long after a loss a connection is seen to be broken, where the client sees that at all."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """Which faults happen to a service's calls; empty: none of that kind."""

    request_lost: str = ""
    reply_lost: str = ""
    late: str = ""
    hang: str = ""
    away: str = ""


class Service:
    """A server as it is reached.  `away`: connections are refused; `busy`: requests that are not answered yet."""

    def __init__(self, world: World, name: str, troubles: Troubles) -> None:
        self.world, self.name = world, name
        self.away = False
        self.busy = 0
        self._troubles = troubles
        self._chance = world.random(name)

    async def call(
        self,
        what: str,
        serve: Callable[[], T],
        detail: str = "",
        *,
        refused: Callable[[], BaseException],
        broken: Callable[[], BaseException] | None,
    ) -> T:
        """-> what `serve` returns where the server runs it, or raises what it raises.

        `refused` makes the error of a server that is away; `broken` that of an answer which will not come.  None:
        such a client just waits, until its caller gives up.
        """
        process = current()
        who = process.name if process else "world"
        self.world.note(who, f"{self.name}.{what}", detail)
        await self._crash_point(process, f"before {self.name}.{what}")
        answer: asyncio.Future[T] = self.world.loop.create_future()
        self._begin(process)
        self.world.after(self._travel(), lambda: self._arrive(process, what, serve, refused, broken, answer))
        value = await answer
        await self._crash_point(process, f"after {self.name}.{what}")
        return value

    async def _crash_point(self, process: Process | None, where: str) -> None:
        """Here the process may die (F1), or was just killed or frozen by somebody who waited for this."""
        if process is None:
            return
        if self.world.faults.strikes("F1"):
            self.world.kill(process, where)
        if process.state == "frozen":
            await asyncio.sleep(0)  # the rest of this step waits for its awakening
        if process.state == "dead":
            await never()

    # ------------------------------------------------------------------------------ on the way

    def _travel(self) -> float:
        """Seconds one way: mostly some milliseconds, now and then a tenth of a second."""
        chance = self._chance.random()
        seconds = 0.0003 + 0.003 * self._chance.random()
        return seconds + (0.1 * self._chance.random() if chance < 0.02 else 0.0)

    def _arrive(
        self,
        process: Process | None,
        what: str,
        serve: Callable[[], T],
        refused: Callable[[], BaseException],
        broken: Callable[[], BaseException] | None,
        answer: "asyncio.Future[T]",
    ) -> None:
        if self.away:
            self._met(self._troubles.away)
            self._reply(process, answer, refused())
        elif self._strikes(self._troubles.request_lost):
            self._lose(process, what, "request lost", broken, answer)
        elif self._strikes(self._troubles.hang):
            self._lose(process, what, "hangs", None, answer)
        elif self._strikes(self._troubles.late):
            low, high = LATE_SECONDS
            self.world.note(self.name, "late", what)
            self.world.after(self._chance.uniform(low, high), lambda: self._serve(process, what, serve, broken, answer))
        else:
            self._serve(process, what, serve, broken, answer)

    def _serve(
        self,
        process: Process | None,
        what: str,
        serve: Callable[[], T],
        broken: Callable[[], BaseException] | None,
        answer: "asyncio.Future[T]",
    ) -> None:
        outcome: T | BaseException
        try:
            outcome = serve()
        except Exception as error:  # noqa: BLE001  # it is the answer
            outcome = error
        if self._strikes(self._troubles.reply_lost):
            self._lose(process, what, "reply lost", broken, answer)
        else:
            self.world.after(self._travel(), lambda: self._reply(process, answer, outcome))

    def _lose(
        self,
        process: Process | None,
        what: str,
        how: str,
        broken: Callable[[], BaseException] | None,
        answer: "asyncio.Future[T]",
    ) -> None:
        self.world.note(self.name, how, what)
        if broken is None:
            self._end(process)
        else:
            error = broken()
            self.world.after(self._chance.uniform(0.0, BROKEN_SECONDS), lambda: self._reply(process, answer, error))

    def _reply(self, process: Process | None, answer: "asyncio.Future[T]", outcome: T | BaseException) -> None:
        self._end(process)
        if answer.done():
            return
        if isinstance(outcome, BaseException):
            answer.set_exception(outcome)
            answer.exception()  # its sender may be dead: then nobody asks
        else:
            answer.set_result(outcome)

    # ------------------------------------------------------------------------------

    def _begin(self, process: Process | None) -> None:
        self.busy += 1
        if process is not None:
            process.in_flight += 1
            if ambush := process.ambush:
                process.ambush = None
                self.world.after(AMBUSH_SECONDS * self._chance.random(), ambush)

    def _end(self, process: Process | None) -> None:
        self.busy -= 1
        if process is not None:
            process.in_flight -= 1

    def _strikes(self, fault: str) -> bool:
        return bool(fault) and self.world.faults.strikes(fault)

    def _met(self, fault: str) -> None:
        if fault:
            self.world.faults.met(fault)


async def never() -> NoReturn:
    """The rest of a step whose process is dead: it does not come."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a dead process goes on")
