"""The simulated world: one loop, one seed, the faults, and the record of everything that happened.

The record is a hash over all calls with their arguments and times (same seed, same hash, whatever the machine), and the
lines of it, from which a story is told.  Knows nothing of workers and servers; both are put into it.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import Any, NamedTuple

from worker.simulation.faults import Faults, Plan
from worker.simulation.loop import OWNER, SeededLoop
from worker.simulation.process import Process


class Line(NamedTuple):
    """Something that happened; `who` is a process, or a server."""

    seconds: float
    who: str
    what: str
    detail: str


class Trap(NamedTuple):
    """What happens the first time that a line is noted which it waits for."""

    waits_for: Callable[[Line], bool]
    act: Callable[[Line], object]


class World:
    """Made inside of a running `SeededLoop`."""

    def __init__(self, seed: str, plan: Plan) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SeededLoop)
        self.loop = loop
        self.seed = seed
        self.faults = Faults(plan, seed)
        self.history: list[Line] = []
        self.bugs: list[str] = []
        self.processes: dict[str, Process] = {}
        self._hash = hashlib.sha256()
        self._traps: list[Trap] = []
        self._outside = Context()
        self._ended: dict[Process, Callable[[Process], None]] = {}
        loop.set_exception_handler(self._unhandled)

    def random(self, concern: str) -> Random:
        """A source of chance of its own: what one concern draws does not move the others."""
        return Random(f"{self.seed}/{concern}")

    @property
    def now(self) -> float:
        """Seconds since the simulation began."""
        return self.loop.time()

    # ------------------------------------------------------------------------------ the record

    def note(self, who: str, what: str, detail: str = "") -> None:
        """Something happened: part of the trace, and of the story."""
        line = Line(self.now, who, what, detail)
        self.history.append(line)
        self._hash.update(f"{line.seconds:.9f}\t{who}\t{what}\t{detail}\n".encode())
        for trap in self._traps[:]:
            if trap.waits_for(line):
                self._traps.remove(trap)
                trap.act(line)

    def tell(self, who: str, what: str, detail: str = "") -> None:
        """Part of the story only, such as what a worker logs."""
        self.history.append(Line(self.now, who, what, detail))

    def when(self, waits_for: Callable[[Line], bool], act: Callable[[Line], object]) -> None:
        """Do something the first time that something happens, in the middle of whoever does it: for schedules."""
        self._traps.append(Trap(waits_for, act))

    @property
    def trace_hash(self) -> str:
        """Hex, over everything noted so far."""
        return self._hash.hexdigest()

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody took is a bug of whoever raised it."""
        error = context.get("exception")
        text = f"{context['message']}: {error!r}"
        self.bugs.append(text)
        self.note("loop", "unhandled", text)

    # ------------------------------------------------------------------------------ outside of all processes

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """A task that no fault touches: a server's own, or the world's."""
        return self.loop.create_task(work, name=name, context=self._outside)

    def after(self, seconds: float, act: Callable[[], object]) -> asyncio.TimerHandle:
        """Do it then, outside of all processes."""
        return self.loop.call_later(seconds, act, context=self._outside)

    # ------------------------------------------------------------------------------ processes

    def start(
        self, name: str, main: Callable[[Process], Coroutine[Any, Any, None]], ended: Callable[[Process], None]
    ) -> Process:
        """A new process; `ended` is called once it has returned or was killed, not where it only sleeps."""
        process = self.processes[name] = Process(self.loop, name, self.seed)
        self.note(name, "starts")
        self._ended[process] = ended
        process.start(main(process)).add_done_callback(lambda task: self._over(process, task), context=self._outside)
        return process

    def kill(self, process: Process, why: str) -> None:
        """At once, whatever it is doing; what it has sent is on its way."""
        if process.state != "dead":
            self.note(process.name, "killed", why)
            self.loop.kill(process)
            self._over(process, None)

    def _over(self, process: Process, task: "asyncio.Task[None] | None") -> None:
        error = None if task is None or task.cancelled() else task.exception()
        if task is not None:
            self.note(process.name, "ends", repr(error) if error else "")
            process.tasks_left = sum(not left.done() for left in process.tasks)
            self.loop.kill(process)  # what it leaves behind ends with it, as at the end of any process
        if ended := self._ended.pop(process, None):
            ended(process)


def current() -> Process | None:
    """The process whose step this is; None: the world's."""
    owner = OWNER.get()
    return owner if isinstance(owner, Process) else None
