"""Agents over A2A: JSON-RPC 2.0 over HTTP, in the dialects 0.2, 0.3 and 1.0.

Agents are known by the name that the settings give them; a URL in a document is never called.  Nothing is repeated
here (the runtime does that), except that an agent which does not know the method is asked in the other dialect.
"""

import asyncio
from collections.abc import Callable, Mapping
from enum import Enum
from itertools import count
from typing import Any, Literal

from aiohttp import ClientSession
from pydantic import BaseModel, ConfigDict, ValidationError

from worker.adapters.http import Answer, TimedEndpoint, open_session, post_json
from worker.errors import Refused, Unavailable
from worker.ports import TaskAnswer, TaskState

ANSWER_BYTES_MAX = 8 * 1024 * 1024  # a task comes with its artifacts

TASK_NOT_FOUND = -32001
TASK_NOT_CANCELABLE = -32002
UNSUPPORTED_OPERATION = -32004
VERSION_NOT_SUPPORTED = -32009
METHOD_NOT_FOUND = -32601
INVALID_REQUEST = -32600

ANSWERS = {
    TASK_NOT_FOUND: TaskAnswer.NOT_FOUND,
    TASK_NOT_CANCELABLE: TaskAnswer.NOT_CANCELABLE,
    UNSUPPORTED_OPERATION: TaskAnswer.UNSUPPORTED,
}
WRONG_DIALECT = frozenset({METHOD_NOT_FOUND, VERSION_NOT_SUPPORTED, INVALID_REQUEST})
"""What an agent says to a method that it does not know; agents of a2a-sdk 0.2 say "invalid request"."""


class Agent(TimedEndpoint):
    """One agent: the URL of its JSON-RPC endpoint, its credential, the bound of one call."""


class Dialect(Enum):
    """How a method is called: the words differ between 0.x and 1.0, the meaning does not."""

    V0 = ("tasks/cancel", "tasks/get", None)
    V1 = ("CancelTask", "GetTask", "1.0")

    def __init__(self, cancel: str, get: str, version: str | None) -> None:
        self.cancel = cancel
        self.get = get
        self.headers = {} if version is None else {"A2A-Version": version}


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Status(_Lenient):
    state: str = ""


class _Task(_Lenient):
    id: str
    status: _Status


class _Error(_Lenient):
    code: int
    message: str = ""


class _Response(_Lenient):
    jsonrpc: Literal["2.0"]
    id: int | str | None = None
    result: _Task | None = None
    error: _Error | None = None


def task_state(word: str) -> TaskState:
    """The state that an agent's word means, in any dialect: `canceled`, `TASK_STATE_CANCELED`."""
    plain = word.lower().removeprefix("task_state_").replace("_", "-")
    if plain == "cancelled":
        return TaskState.CANCELED
    return TaskState(plain) if plain in set(TaskState) else TaskState.UNKNOWN


class A2AClient:
    """`AgentClient` over A2A.  Calls may run at once; each is bounded by its agent's `timeout_seconds`."""

    def __init__(
        self,
        agents: Mapping[str, Agent],
        *,
        open_session: Callable[[], ClientSession] = open_session,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        self._agents = dict(agents)
        self._open_session = open_session
        self._answer_bytes_max = answer_bytes_max
        self._session: ClientSession | None = None
        self._dialects: dict[str, Dialect] = {}
        self._request_ids = count(1)

    async def start(self) -> None:
        if self._session is None:
            self._session = self._open_session()

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def cancel(self, agent: str, task_id: str, session_id: str | None) -> TaskState | TaskAnswer:
        """Ask to cancel.  Raises Refused, Unavailable (see `post_json`; a malformed answer too)."""
        params: dict[str, Any] = {"id": task_id}
        if session_id is not None:
            params["metadata"] = {"session_id": session_id}
        return await self._call(agent, lambda dialect: dialect.cancel, params)

    async def get(self, agent: str, task_id: str) -> TaskState | TaskAnswer:
        """The task's state now.  Raises as `cancel`."""
        # One message of its history, as a2a-sdk 0.3 takes 0 for all of it.
        return await self._call(agent, lambda dialect: dialect.get, {"id": task_id, "historyLength": 1})

    async def _call(
        self, name: str, method: Callable[[Dialect], str], params: Mapping[str, Any]
    ) -> TaskState | TaskAnswer:
        """In the dialect that this agent spoke last, then in the other; the one that is understood is remembered."""
        agent = self._agents.get(name)
        if agent is None:
            raise Refused(f"agent {name!r} is not in the settings")
        known = self._dialects.get(name, Dialect.V0)
        clock = asyncio.get_running_loop().time
        ends = clock() + agent.timeout_seconds
        not_understood: list[_Error] = []
        for dialect in (known, *(other for other in Dialect if other is not known)):
            said = await self._ask(name, agent, dialect, method(dialect), params, max(ends - clock(), 0.001))
            if isinstance(said, _Error) and said.code in WRONG_DIALECT:
                not_understood.append(said)
                continue
            if isinstance(said, _Error) and said.code not in ANSWERS:
                raise _unavailable(name, agent, said)
            self._dialects[name] = dialect
            return ANSWERS[said.code] if isinstance(said, _Error) else task_state(said.status.state)
        if any(error.code == METHOD_NOT_FOUND for error in not_understood):
            return TaskAnswer.UNSUPPORTED
        raise _unavailable(name, agent, not_understood[-1])

    async def _ask(
        self,
        name: str,
        agent: Agent,
        dialect: Dialect,
        method: str,
        params: Mapping[str, Any],
        timeout_seconds: float,
    ) -> _Task | _Error:
        if self._session is None:
            raise Unavailable(f"agent {name!r} cannot be asked: the client is not started")
        request_id = next(self._request_ids)
        answer = await post_json(
            self._session,
            f"agent {name!r}",
            agent,
            agent.url,
            {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params},
            timeout_seconds=timeout_seconds,
            answer_bytes_max=self._answer_bytes_max,
            headers=dialect.headers,
        )
        return _understood(name, answer, request_id, params["id"])


def _unavailable(name: str, agent: Agent, error: _Error) -> Unavailable:
    return Unavailable(f"agent {name!r} answered error {error.code}: {agent.quote(error.message)}")


def _understood(name: str, answer: Answer, request_id: int, task_id: str) -> _Task | _Error:
    """The task or the error in a JSON-RPC response to this request; raises Unavailable where it is none.

    An error may come without an id (a2a-sdk 0.2 does so for a method that it does not know), but never one that says
    something of a task: that is evidence, and has to be about the task that was named.
    """
    try:
        response = _Response.model_validate_json(answer.body)
    except ValidationError:
        # Not chained: pydantic's error quotes the answer.
        raise Unavailable(f"agent {name!r} answered HTTP {answer.status} with what is no A2A response") from None
    error, task = response.error, response.result
    if error is not None and task is None:
        if response.id == request_id or (response.id is None and error.code not in ANSWERS):
            return error
    elif task is not None and error is None and response.id == request_id and task.id == task_id:
        return task
    raise Unavailable(f"agent {name!r} answered about something else (HTTP {answer.status})")
