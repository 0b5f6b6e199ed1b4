"""Effects of one key under way, outside of its lane (step 6).

Level-triggered: `steer(state)` starts what the state asks for, restarts what it asks for differently (a raised mode, a
shorter grace, a later deadline), and stops what it no longer asks for.  What was seen is reported as one observation
when nothing is left to do, when an effect waits for its record, or when an open command's deadline passes; until the
lane has decided on it, it counts as seen, so that no stream of other commands makes the flight begin again.  Dropped
with its lane: the document resumes.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from schemas.observations import Observation, Observed, Pending
from worker.domain.decision import AnyState
from worker.domain.effects import (
    Effect,
    FindJobs,
    RemovePartial,
    StopJob,
    StopTask,
    StopTurn,
    effects,
    needs_record,
    next_deadline,
)
from worker.ports import Clock
from worker.runtime.perform import Performer
from worker.runtime.trail import Trail

Key = tuple[str, str]


def identity(effect: Effect) -> Key:
    """What makes an effect the same one, however it goes about it."""
    match effect:
        case StopJob():
            return "job", effect.job.uid
        case StopTask():
            return "task", effect.task.task_id
        case StopTurn():
            return "turn", effect.turn_id
        case FindJobs():
            return "find", effect.evaluation_id
        case RemovePartial():
            return "partial", effect.evaluation_id


class Flight:
    """One per lane with open commands."""

    def __init__(self, performer: Performer, clock: Clock, report: Callable[[Observed], None]) -> None:
        self._performer, self._clock, self._report = performer, clock, report
        self._state: AnyState | None = None
        self._seen: list[Observation] = []
        self._told = 0
        self._trails: dict[Key, Trail] = {}
        self._running: dict[Key, tuple[Effect, asyncio.Task[None]]] = {}
        self._ending: dict[asyncio.Task[None], None] = {}
        self._timer: asyncio.Task[None] | None = None
        self._timer_at: datetime | None = None
        self._reported = False
        self._soon: asyncio.Handle | None = None

    @property
    def active(self) -> bool:
        return bool(self._running) or self._timer is not None or self._soon is not None

    def steer(self, state: AnyState, *, observed: bool) -> None:
        """The lane has decided, on what was reported if `observed`: go on from this state."""
        self._state = state
        if observed:
            del self._seen[: self._told]
            self._told, self._reported = 0, False
        self._go()

    def unreport(self) -> None:
        """What was reported could not be decided: it is reported again with the next step, or at the deadline."""
        self._told, self._reported = 0, False

    async def stop(self) -> None:
        """Cancel everything; what was seen and not decided is seen again by the next owner."""
        if self._soon:
            self._soon.cancel()
            self._soon = None
        for _, task in self._running.values():
            self._end(task)
        self._running = {}
        if self._timer:
            self._end(self._timer)
            self._timer = None
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._ending[task] = None
        task.add_done_callback(self._ending.pop)

    def _go(self) -> None:
        assert self._state is not None, "steered first"
        if self._soon:
            self._soon.cancel()
            self._soon = None
        wanted = {identity(effect): effect for effect in effects(self._state, self._seen)}
        for key, (effect, task) in list(self._running.items()):
            if wanted.get(key) != effect:
                self._end(task)
                del self._running[key]
        for key, effect in wanted.items():
            if key not in self._running:
                trail = self._trails.setdefault(key, Trail())
                self._running[key] = (effect, asyncio.create_task(self._perform(key, effect, trail)))
        if self._seen and not self._reported and (not self._running or needs_record(self._seen)):
            self._tell(list(self._seen))
        self._set_timer()

    async def _perform(self, key: Key, effect: Effect, trail: Trail) -> None:
        observation = await self._performer.perform(effect, trail)
        # No await from here on: a flight that is stopped meanwhile has cancelled this task, and it never gets here.
        del self._running[key]
        self._seen.append(observation)
        if self._soon is None:  # many may end in one turn of the loop: looked at once
            self._soon = asyncio.get_running_loop().call_soon(self._go)

    def _tell(self, items: list[Observation]) -> None:
        self._reported, self._told = True, len(self._seen)
        self._report(Observed(at=self._clock.now(), items=tuple(items)))

    def _set_timer(self) -> None:
        assert self._state is not None, "steered first"
        at = next_deadline(self._state)
        if at == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._end(self._timer)
        self._timer, self._timer_at = None, at
        if at is not None:
            self._timer = asyncio.create_task(self._until(at))

    async def _until(self, at: datetime) -> None:
        while (left := (at - self._clock.now()).total_seconds()) > 0:
            await self._clock.sleep(left)
        self._timer = None
        if self._reported:
            return
        pending = [Pending(resource=trail.receipt()) for key, trail in self._trails.items() if self._is_pending(key)]
        self._tell([*self._seen, *pending])

    def _is_pending(self, key: Key) -> bool:
        return key in self._running and self._trails[key].known
