"""`A2AClient` and agents that nobody should have made: half a dialect, answers about something else, no answer.

Real agents are in test_agents.py; here every answer is scripted.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.peers.raw import Behaviour, Raw, Request, answer, raw, says
from worker.adapters.a2a import A2AClient, Agent, task_state
from worker.errors import Unavailable
from worker.ports import TaskAnswer, TaskState

AGENT = "harness-builder"
RESULT = {"id": "task-1", "status": {"state": "canceled"}}
METHOD_NOT_FOUND = {"error": {"code": -32601, "message": "Method not found"}}
Script = Callable[[str], dict[str, Any]]
"""What is answered to a method; `id` and `jsonrpc` are filled in."""


def scripted(script: Script) -> Behaviour:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(request.body)
        writer.write(answer(json.dumps({"jsonrpc": "2.0", "id": asked["id"]} | script(asked["method"]))))

    return behave


def methods(server: Raw) -> list[str]:
    return [json.loads(request.body)["method"] for request in server.requests]


@asynccontextmanager
async def against(behaviour: Behaviour, timeout_seconds: float = 5) -> AsyncIterator[tuple[A2AClient, Raw]]:
    async with raw(behaviour) as server:
        client = A2AClient({AGENT: Agent(url=server.url, timeout_seconds=timeout_seconds)})
        await client.start()
        try:
            yield client, server
        finally:
            await client.stop()


@pytest.mark.parametrize("code", [-32601, -32009, -32600])
async def test_the_other_dialect_is_tried_where_the_first_is_not_understood(code: int) -> None:
    not_understood = {"error": {"code": code}, "id": None}
    behaviour = scripted(lambda method: {"result": RESULT} if method == "CancelTask" else not_understood)
    async with against(behaviour) as (client, server):
        assert await client.cancel(AGENT, "task-1", None) == TaskState.CANCELED
        assert methods(server) == ["tasks/cancel", "CancelTask"]
        assert [request.headers.get("a2a-version") for request in server.requests] == [None, "1.0"]


async def test_an_agent_that_changes_its_dialect_is_followed() -> None:
    speaks = "CancelTask"
    async with against(scripted(lambda method: {"result": RESULT} if method == speaks else METHOD_NOT_FOUND)) as both:
        client, server = both
        assert await client.cancel(AGENT, "task-1", None) == TaskState.CANCELED
        speaks = "tasks/cancel"
        for _ in range(2):
            assert await client.cancel(AGENT, "task-1", None) == TaskState.CANCELED
        assert methods(server) == ["tasks/cancel", "CancelTask", "CancelTask", "tasks/cancel", "tasks/cancel"]


async def test_an_agent_without_a_method_for_it_cannot_cancel() -> None:
    async with against(scripted(lambda _: METHOD_NOT_FOUND)) as (client, server):
        assert await client.cancel(AGENT, "task-1", None) == TaskAnswer.UNSUPPORTED
        assert methods(server) == ["tasks/cancel", "CancelTask"]


@pytest.mark.parametrize("code", [-32600, -32602, -32603, -32700, -32000, 1])
async def test_another_error_is_no_answer(code: int) -> None:
    async with against(scripted(lambda _: {"error": {"code": code, "message": "no luck"}})) as (client, _):
        with pytest.raises(Unavailable, match=f"answered error {code}: no luck"):
            await client.cancel(AGENT, "task-1", None)


@pytest.mark.parametrize(
    "said",
    [
        {"result": {"id": "task-2", "status": {"state": "canceled"}}},
        {"result": RESULT, "id": 4711},
        {"result": RESULT, "id": None},
        {"result": RESULT, "jsonrpc": "1.0"},
        {"result": RESULT, "error": {"code": -32001}},
        {"result": {"id": "task-1"}},
        {"error": {"code": -32001}, "id": None},
        {"error": {"code": -32001}, "id": 4711},
        {"error": {"message": "no code"}},
        {},
    ],
)
async def test_what_proves_nothing_about_the_named_task_is_no_answer(said: dict[str, Any]) -> None:
    async with against(scripted(lambda _: said)) as (client, _):
        with pytest.raises(Unavailable, match="agent 'harness-builder' answered"):
            await client.cancel(AGENT, "task-1", None)


@pytest.mark.parametrize(("status", "body"), [(404, "<h1>Not Found</h1>"), (200, ""), (200, "[]"), (200, "[" * 9999)])
async def test_what_is_no_response_is_no_answer(status: int, body: str) -> None:
    async with against(says(answer(body, status))) as (client, _):
        with pytest.raises(Unavailable, match=rf"answered HTTP {status} with what is no A2A response"):
            await client.get(AGENT, "task-1")


async def test_an_error_is_understood_whatever_the_http_status() -> None:
    body = '{"jsonrpc": "2.0", "id": 1, "error": {"code": -32001, "message": "Task not found", "data": null}}'
    async with against(says(answer(body, 404))) as (client, _):
        assert await client.cancel(AGENT, "task-1", None) == TaskAnswer.NOT_FOUND


async def test_both_dialects_together_take_no_longer_than_one_call_may() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        await scripted(lambda _: METHOD_NOT_FOUND)(request, writer)

    before = asyncio.get_running_loop().time()
    async with against(behave, timeout_seconds=0.8) as (client, server):
        with pytest.raises(Unavailable, match="did not answer within"):
            await client.cancel(AGENT, "task-1", None)
        assert asyncio.get_running_loop().time() - before < 1 + 0.8
        assert methods(server) == ["tasks/cancel", "CancelTask"]


async def test_a_client_that_was_not_started_says_so() -> None:
    with pytest.raises(Unavailable, match="not started"):
        await A2AClient({AGENT: Agent(url="http://127.0.0.1:1")}).get(AGENT, "task-1")


def test_every_word_of_every_dialect_is_a_state() -> None:
    for state in set(TaskState) - {TaskState.UNKNOWN}:
        assert task_state(state.value) == state
        assert task_state("TASK_STATE_" + state.value.upper().replace("-", "_")) == state
    assert task_state("cancelled") == TaskState.CANCELED
    for word in ("", "unknown", "TASK_STATE_UNSPECIFIED", "paused", "canceled!"):
        assert task_state(word) == TaskState.UNKNOWN
