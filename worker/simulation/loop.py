"""The seeded event loop: virtual time, ready steps in an order that the seed decides, nothing from outside.

Whatever is ready at one moment runs in rounds, each shuffled; time moves only when nothing is ready, to the next timer.
Every step belongs to a simulated process (the one in whose context it was scheduled) or to the world: steps of a frozen
process are kept for its awakening, those of a dead one are dropped.  Threads, sockets and signals are refused.  Knows
nothing of workers and servers.
"""

import asyncio
import gc
import heapq
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from random import Random
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar

T = TypeVar("T")
CANCELLED_TIMERS_MAX = 200


class Deadlock(Exception):
    """Somebody still waits, and nothing will ever happen."""


class Refused(Exception):
    """Code under simulation asked for a thread, a socket or a signal."""


class Owner:
    """Whose steps these are.

    `parked` are the steps of a frozen one, in the order in which they became ready.  With `steps_left`, `exhausted` is
    called in place of the step that comes after so many.
    """

    def __init__(self) -> None:
        self.steps_left: int | None = None
        self.exhausted: Callable[[], object] = lambda: None
        self.state: Literal["running", "frozen", "dead"] = "running"
        self.parked: list[asyncio.Handle] = []
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


OWNER: ContextVar[Owner | None] = ContextVar("OWNER", default=None)
"""None: the world itself, which is never frozen."""


class Timer(NamedTuple):
    """What the heap holds."""

    when: float
    number: int
    handle: Any


class SeededLoop(asyncio.BaseEventLoop):
    """`run_until_complete` as usual; `time()` are seconds since the simulation began."""

    _ready: deque[Any]  # the base class's, as is the next
    _scheduled: list["Timer"]

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._now = 0.0
        self._timers = 0
        self._cancelled_timers = 0
        self._graves: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        return self._now

    # ------------------------------------------------------------------------------ processes

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        context = options.get("context")
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is not None:
            owner.tasks.add(task)
        return task

    def freeze(self, owner: Owner) -> None:
        """No step of it runs until `wake`; what it has sent goes on its way, its timers run out unseen."""
        if owner.state == "running":
            owner.state = "frozen"

    def wake(self, owner: Owner) -> None:
        """It goes on where it was, believing that no time has passed."""
        if owner.state == "frozen":
            owner.state = "running"
            self._ready.extend(owner.parked)
            owner.parked = []

    def kill(self, owner: Owner) -> None:
        """No step of it runs ever again, `finally` blocks included; its tasks are kept until the end, uncollected."""
        owner.state = "dead"
        owner.parked = []
        self._graves.extend(owner.tasks)

    def close(self) -> None:
        """What never ended is ended in silence: that it did not is the point of a crash."""
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            self._bury()
        finally:
            sys.unraisablehook = hook
        super().close()

    def _bury(self) -> None:
        self._graves.extend(asyncio.all_tasks(self))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for task in self._graves:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # told nowhere else
                with suppress(BaseException):  # whatever its last rites say
                    task.get_coro().close()
            self._graves.clear()
            self._ready.clear()
            self._scheduled.clear()

    # ------------------------------------------------------------------------------ steps

    def _run_once(self) -> None:
        """One round: all that is ready, shuffled; time moves first where nothing is."""
        self._forget_cancelled_timers()
        if not self._ready:
            if not self._scheduled:
                raise Deadlock("somebody still waits, and no timer is left")
            self._now = max(self._now, self._scheduled[0].when)
        while self._scheduled and self._scheduled[0].when <= self._now:
            timer = heapq.heappop(self._scheduled).handle
            timer._scheduled = False
            self._ready.append(timer)
        steps = list(self._ready)
        self._ready.clear()
        if len(steps) > 1:
            self._random.shuffle(steps)
        for step in steps:
            if step._cancelled:
                continue
            owner = step._context.get(OWNER)
            if owner is None:
                step._run()
            elif owner.state == "running":
                if owner.steps_left is not None and self._exhausts(owner):
                    continue
                step._run()
            elif owner.state == "frozen":
                owner.parked.append(step)

    def _exhausts(self, owner: Owner) -> bool:
        assert owner.steps_left is not None
        owner.steps_left -= 1
        if owner.steps_left >= 0:
            return False
        owner.steps_left = None
        owner.exhausted()
        return True

    # ------------------------------------------------------------------------------ timers

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As the base class, but timers of one moment keep their order, and comparing them costs little."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers += 1
        heapq.heappush(self._scheduled, Timer(when, self._timers, handle))
        handle._scheduled = True  # type: ignore[attr-defined]  # as the base class does
        return handle

    def _forget_cancelled_timers(self) -> None:
        """Those in front, and all of them where they have become many: time-outs are rarely reached."""
        while self._scheduled and self._scheduled[0].handle._cancelled:
            heapq.heappop(self._scheduled).handle._scheduled = False
            self._cancelled_timers -= 1
        if self._cancelled_timers > CANCELLED_TIMERS_MAX:
            for timer in self._scheduled:
                timer.handle._scheduled = not timer.handle._cancelled
            self._scheduled = [timer for timer in self._scheduled if not timer.handle._cancelled]
            heapq.heapify(self._scheduled)
            self._cancelled_timers = 0

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle._scheduled:  # type: ignore[attr-defined]
            self._cancelled_timers += 1

    # ------------------------------------------------------------------------------ the outside

    def _process_events(self, event_list: Any) -> NoReturn:
        raise Refused("there is no selector")

    def _write_to_self(self) -> None:
        """Nobody to be woken: whoever schedules does so from inside."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        raise Refused(f"a thread for {func!r}")

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        raise Refused("a signal handler")

    async def create_connection(self, *args: Any, **options: Any) -> NoReturn:
        raise Refused("a socket")

    async def create_server(self, *args: Any, **options: Any) -> NoReturn:
        raise Refused("a socket")

    async def subprocess_exec(self, *args: Any, **options: Any) -> NoReturn:
        raise Refused("a process")


def run(main: Coroutine[Any, Any, T], random: Random) -> T:
    """Run to its end on a fresh loop.  Raises Deadlock; what `main` raises.

    No garbage is collected meanwhile: when that happens would depend on the machine.
    """
    collecting = gc.isenabled()
    gc.disable()
    gc.freeze()
    loop = SeededLoop(random)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        gc.unfreeze()
        if collecting:
            gc.enable()
