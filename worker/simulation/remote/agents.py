"""A2A agents in the dialects 0.2, 0.3 and 1.0: JSON-RPC over HTTP, and tasks that behave as they were told.

What is true of a task (`Task`) and what its agent says of it are two things.  Knows nothing of the worker.
"""

import asyncio
import json
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Any, Literal

from worker.simulation.remote.web import Answer, Asked, Call, Party, Rates, Reply
from worker.simulation.world import World

TASK_NOT_FOUND = (-32001, "Task not found")
TASK_NOT_CANCELABLE = (-32002, "Task cannot be canceled")
UNSUPPORTED_OPERATION = (-32004, "This operation is not supported")
VERSION_NOT_SUPPORTED = (-32009, "Version not supported")
INVALID_REQUEST = (-32600, "Request payload validation error")
METHOD_NOT_FOUND = (-32601, "Method not found")

Release = Literal["0.2", "0.3", "1.0", "both"]
"""`both`: one URL for 0.3 and 1.0."""
RELEASES: tuple[Release, ...] = ("0.2", "0.3", "1.0", "both")
OLD, NEW = {"tasks/cancel": "cancel", "tasks/get": "get"}, {"CancelTask": "cancel", "GetTask": "get"}
ENDED = ("completed", "canceled", "failed", "rejected")


@dataclass(frozen=True, slots=True)
class TaskWish:
    """How a task behaves, in seconds of the simulation; `inf`: never."""

    ends_after_seconds: float = inf
    """When it ends by itself; 0: before anybody could cancel it."""
    outcome: str = "completed"
    """Its state then: an end, or `input-required` and `auth-required`, in which it waits and can be cancelled."""
    stops_after_seconds: float = 0.0
    """How long it goes on after a cancel was accepted; `inf`: it stalls, and ends by itself at best."""
    refuses_seconds: float = 0.0
    """So long from the first cancel on it is "not cancelable"; `inf`: for good."""
    behaviour: Literal["normal", "unsupported", "silent", "pretends", "forgotten"] = "normal"
    """The agent cannot cancel at all; does nothing and never answers a cancel; says that it is canceled, and lets it
    run; or has lost it, and with it its work."""
    says: tuple[str, ...] = ()
    """States that it is said to have first, one per call, whatever is true, and without doing anything."""


def drawn_task(chance: Random) -> TaskWish:
    """A task like those out there: most of them do as they are told."""
    ends = chance.choices((0.0, chance.expovariate(1 / 30), inf), weights=(10, 40, 50))[0]
    return TaskWish(
        ends_after_seconds=ends,
        outcome=chance.choices(("completed", "failed", "rejected"), weights=(6, 3, 1))[0],
        stops_after_seconds=chance.choices((0.0, chance.uniform(0.1, 20.0), inf), weights=(60, 35, 5))[0],
        refuses_seconds=chance.choices((0.0, chance.uniform(1.0, 30.0), inf), weights=(85, 10, 5))[0],
        behaviour=chance.choices(
            ("normal", "unsupported", "silent", "pretends", "forgotten"), weights=(86, 3, 3, 3, 5)
        )[0],
        says=tuple(chance.choices(("working", "submitted", "paused"), k=chance.choices((0, 2), weights=(95, 5))[0])),
    )


@dataclass(slots=True)
class Task:
    """What is true of a task; times are seconds since the simulation began."""

    agent: str
    id: str
    wish: TaskWish
    started_at: float
    asked_at: float = inf
    """When the first cancel came."""
    cancelled_at: float = inf
    """When a cancel was accepted."""
    said: int = 0
    """How many of the wish's words were said."""
    said_ended_at: float = inf
    """When its agent first answered that it had ended, or that there is no such task: right or wrong."""

    @property
    def own_end_at(self) -> float:
        if self.wish.behaviour == "forgotten":
            return self.started_at
        return self.started_at + self.wish.ends_after_seconds if self.wish.outcome in ENDED else inf

    @property
    def ends_at(self) -> float:
        return min(self.own_end_at, self.cancelled_at + self.wish.stops_after_seconds)

    def running(self, now: float) -> bool:
        """The truth, whatever its agent says."""
        return now < self.ends_at

    def state(self, now: float) -> str:
        """In the words of 0.x."""
        if now < self.ends_at:
            waits = self.wish.outcome not in ENDED and now >= self.started_at + self.wish.ends_after_seconds
            return self.wish.outcome if waits else "working"
        stopped_at = self.cancelled_at + self.wish.stops_after_seconds
        return "canceled" if stopped_at < self.own_end_at else self.wish.outcome


class AgentServer(Party):
    """One agent: one URL, one dialect (or both)."""

    def __init__(
        self, world: World, name: str, release: Release, credential: str, rates: Rates, asked: list[Asked]
    ) -> None:
        super().__init__(world, name, credential, rates, asked)
        self.release = release
        self.tasks: dict[str, Task] = {}

    def start(self, task_id: str, wish: TaskWish) -> Task:
        """Run a task."""
        task = self.tasks[task_id] = Task(self.name, task_id, wish, self._world.now)
        return task

    def is_cancel(self, call: Call) -> bool:
        return call.body["method"] in ("tasks/cancel", "CancelTask")

    def answer(self, call: Call) -> Answer:
        request_id = call.body["id"]
        method = self._method(call)
        if isinstance(method, tuple):
            # Agents of a2a-sdk 0.2 do not repeat the id of a request that they do not understand.
            return _error(method, None if method == INVALID_REQUEST else request_id)
        task = self.tasks.get(call.body["params"]["id"])
        if method == "cancel":
            self.note_cancel(call, "task", call.body["params"]["id"])
        said = self._cancel(task) if method == "cancel" else self._get(task)
        if isinstance(said, asyncio.Future):
            return said
        self._remember(task, said)
        if isinstance(said, tuple):
            return _error(said, request_id)
        assert task is not None, "whoever has a state is known"
        word = f"TASK_STATE_{said.upper().replace('-', '_')}" if call.body["method"] in NEW else said
        result = {"id": task.id, "contextId": "context", "kind": "task", "status": {"state": word}}
        return _reply({"jsonrpc": "2.0", "id": request_id, "result": result})

    def _method(self, call: Call) -> str | tuple[int, str]:
        """What is asked for, or how it is not understood."""
        method = call.body["method"]
        if self.release in ("0.2", "0.3"):
            return OLD.get(method) or (INVALID_REQUEST if self.release == "0.2" else METHOD_NOT_FOUND)
        if self.release == "both" and method in OLD:
            return OLD[method]
        if method in NEW and call.headers.get("A2A-Version") != "1.0":
            return VERSION_NOT_SUPPORTED
        return NEW.get(method) or METHOD_NOT_FOUND

    def _cancel(self, task: Task | None) -> str | tuple[int, str] | asyncio.Future[Reply]:
        now = self._world.now
        if task is None or task.wish.behaviour == "forgotten":
            return TASK_NOT_FOUND
        task.asked_at = min(task.asked_at, now)
        if task.said < len(task.wish.says):
            return self._say(task)
        match task.wish.behaviour:
            case "unsupported":
                return UNSUPPORTED_OPERATION
            case "silent":
                return self.pending()
            case "pretends" if task.running(now):
                return "canceled"
            case _:
                pass
        if not task.running(now) or now < task.asked_at + task.wish.refuses_seconds:
            return TASK_NOT_CANCELABLE
        task.cancelled_at = min(task.cancelled_at, now)
        return task.state(now)

    def _get(self, task: Task | None) -> str | tuple[int, str]:
        if task is None or task.wish.behaviour == "forgotten":
            return TASK_NOT_FOUND
        return self._say(task) if task.said < len(task.wish.says) else task.state(self._world.now)

    def _say(self, task: Task) -> str:
        task.said += 1
        return task.wish.says[task.said - 1]

    def _remember(self, task: Task | None, said: str | tuple[int, str]) -> None:
        if task is not None and (said in ENDED or said == TASK_NOT_FOUND):
            task.said_ended_at = min(task.said_ended_at, self._world.now)

    def about_something_else(self, reply: Reply) -> Reply:
        said: dict[str, Any] = json.loads(reply.body)
        if "result" in said:
            said["result"]["id"] = "another-task"
        else:
            said["id"] = -1
        return _reply(said)


def _error(error: tuple[int, str], request_id: int | None) -> Reply:
    code, message = error
    return _reply({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})


def _reply(body: dict[str, Any]) -> Reply:
    return Reply(200, json.dumps(body).encode())
