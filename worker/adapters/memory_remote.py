"""Agents and executors in memory: doubles with fault switches, for tests of a worker or of an API tier.

A task or turn is a script on the Clock port: when it ends by itself, and how long after the first cancel it stops.
Whichever comes first is how it ended, so a late success after a cancel needs no switch.  Knows no network.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from math import inf
from typing import Literal

from worker.errors import Refused, Unavailable
from worker.ports import Clock, TaskAnswer, TaskState, TurnAnswer


class Fault(StrEnum):
    """What is wrong with an agent or a zone as a whole."""

    UNAVAILABLE = "unavailable"  # nothing reaches it
    REFUSES = "refuses"  # answers 401 or 403
    SILENT = "silent"  # does nothing and never answers: the caller's time-out ends it
    LOSES_ANSWERS = "loses_answers"  # does what it was asked, but the answer is lost


@dataclass(frozen=True, slots=True)
class Asked:
    """One call, as it arrived."""

    at: datetime
    method: Literal["cancel", "get"]
    party: str
    """The agent or the zone."""
    id: str
    """The task or the turn."""
    session_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Run:
    """Something that runs on the other side; seconds of the Clock, `inf` for never."""

    ends_after_seconds: float = inf
    """When it ends by itself, from its start on; 0: it had ended before anybody asked."""
    stops_after_seconds: float = 0.0
    """How long it goes on after the first cancel; `inf`: it ignores it."""
    started_at: float = 0.0
    """Set by `run`, on the Clock's monotonic scale."""
    cancelled_at: float = inf
    """Set by the first cancel that it took."""

    @property
    def ends_at(self) -> float:
        return min(self.started_at + self.ends_after_seconds, self.cancelled_at + self.stops_after_seconds)

    @property
    def ends_by_itself(self) -> bool:
        """Whether its own end comes first."""
        return self.started_at + self.ends_after_seconds <= self.cancelled_at + self.stops_after_seconds


@dataclass(slots=True, kw_only=True)
class AgentTask(Run):
    """A task of an agent."""

    outcome: TaskState = TaskState.COMPLETED
    """Its state once it ended by itself."""
    on_cancel: Literal["stops", "not_cancelable", "unsupported"] = "stops"
    """The last two refuse, and it runs on."""
    says: list[TaskState | TaskAnswer] = field(default_factory=list)
    """Answers given first, one per call, whatever is true and without doing anything: how an agent lies."""


@dataclass(slots=True, kw_only=True)
class ExecutorTurn(Run):
    """A turn of an executor."""

    outcome: Literal["succeeded", "failed"] = "succeeded"
    """How it ended by itself."""
    says: list[TurnAnswer] = field(default_factory=list)
    """As `AgentTask.says`."""


class _Remote:
    """What both doubles share: who is known, who is faulty, what was asked."""

    def __init__(self, clock: Clock, parties: Iterable[str]) -> None:
        self._clock, self._parties = clock, frozenset(parties)
        self.faults: dict[str, Fault] = {}
        """By agent or zone; set and removed at any time."""
        self.asked: list[Asked] = []
        """Every call that arrived, in order."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def _reach(
        self, method: Literal["cancel", "get"], party: str, name: str, session_id: str | None, timeout_seconds: float
    ) -> None:
        """Raises Refused and Unavailable: whatever keeps the call from being carried out."""
        fault = self.faults.get(party)
        if party not in self._parties:
            raise Refused(f"{party!r} is not in the settings")
        if fault is Fault.UNAVAILABLE:
            raise Unavailable(f"{party!r} cannot be reached")
        self.asked.append(Asked(self._clock.now(), method, party, name, session_id))
        if fault is Fault.REFUSES:
            raise Refused(f"{party!r} refuses this worker's credential")
        if fault is Fault.SILENT:
            await self._clock.sleep(timeout_seconds)
            raise Unavailable(f"{party!r} did not answer within {timeout_seconds:g} s")

    def _return(self, party: str) -> None:
        """Raises Unavailable where the answer is lost on its way back."""
        if self.faults.get(party) is Fault.LOSES_ANSWERS:
            raise Unavailable(f"{party!r}: the connection broke")


class MemoryAgents(_Remote):
    """`AgentClient`: agents that exist in this process.  Calls may run at once."""

    def __init__(self, clock: Clock, agents: Iterable[str], *, timeout_seconds: float = 10.0) -> None:
        super().__init__(clock, agents)
        self._timeout_seconds = timeout_seconds
        self._tasks: dict[tuple[str, str], AgentTask] = {}

    def run(self, agent: str, task_id: str, task: AgentTask | None = None) -> None:
        """From now on this task runs at this agent."""
        task = self._tasks[agent, task_id] = task or AgentTask()
        task.started_at = self._clock.monotonic()

    def running(self, agent: str, task_id: str) -> bool:
        """The truth, whatever the agent says."""
        return self._clock.monotonic() < self._tasks[agent, task_id].ends_at

    async def cancel(self, agent: str, task_id: str, session_id: str | None) -> TaskState | TaskAnswer:
        """As the port says; a silent agent raises Unavailable after the time-out."""
        await self._reach("cancel", agent, task_id, session_id, self._timeout_seconds)
        answer = self._cancel(agent, task_id)
        self._return(agent)
        return answer

    async def get(self, agent: str, task_id: str) -> TaskState | TaskAnswer:
        """As the port says."""
        await self._reach("get", agent, task_id, None, self._timeout_seconds)
        task = self._tasks.get((agent, task_id))
        answer = TaskAnswer.NOT_FOUND if task is None else task.says.pop(0) if task.says else self._state(task)
        self._return(agent)
        return answer

    def _cancel(self, agent: str, task_id: str) -> TaskState | TaskAnswer:
        task, now = self._tasks.get((agent, task_id)), self._clock.monotonic()
        if task is None:
            return TaskAnswer.NOT_FOUND
        if task.says:
            return task.says.pop(0)
        if task.on_cancel == "unsupported":
            return TaskAnswer.UNSUPPORTED
        if task.on_cancel == "not_cancelable" or now >= task.ends_at:
            return TaskAnswer.NOT_CANCELABLE
        task.cancelled_at = min(task.cancelled_at, now)
        return self._state(task)

    def _state(self, task: AgentTask) -> TaskState:
        if self._clock.monotonic() < task.ends_at:
            return TaskState.WORKING
        return task.outcome if task.ends_by_itself else TaskState.CANCELED


class MemoryExecutors(_Remote):
    """`TurnExecutor`: executor groups that exist in this process.  Calls may run at once."""

    def __init__(self, clock: Clock, zones: Iterable[str]) -> None:
        super().__init__(clock, zones)
        self._turns: dict[tuple[str, str], ExecutorTurn] = {}

    def run(self, zone: str, turn_id: str, turn: ExecutorTurn | None = None) -> None:
        """From now on this turn runs in this zone."""
        turn = self._turns[zone, turn_id] = turn or ExecutorTurn()
        turn.started_at = self._clock.monotonic()

    def running(self, zone: str, turn_id: str) -> bool:
        """The truth, whatever the executor says."""
        return self._clock.monotonic() < self._turns[zone, turn_id].ends_at

    async def cancel(self, zone: str, session_id: str, turn_id: str, timeout_seconds: float) -> TurnAnswer:
        """As the port says; a silent zone raises Unavailable after the time-out."""
        await self._reach("cancel", zone, turn_id, session_id, timeout_seconds)
        answer = await self._cancel(zone, turn_id, timeout_seconds)
        self._return(zone)
        return answer

    async def _cancel(self, zone: str, turn_id: str, timeout_seconds: float) -> TurnAnswer:
        turn, now = self._turns.get((zone, turn_id)), self._clock.monotonic()
        if turn is None:
            return TurnAnswer("not_running")
        if turn.says:
            return turn.says.pop(0)
        if now < turn.ends_at:
            turn.cancelled_at = min(turn.cancelled_at, now)
            await self._clock.sleep(max(0.0, min(turn.ends_at - now, timeout_seconds)))
        if self._clock.monotonic() < turn.ends_at:
            return TurnAnswer("cancelling")
        return TurnAnswer("finished", turn.outcome) if turn.ends_by_itself else TurnAnswer("cancelled")
