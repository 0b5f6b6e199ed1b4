"""Credentials of the other sides: in no error, no log, no representation, even where the other side echoes them."""

import asyncio
import json
import logging
import traceback

import pytest
from pydantic import SecretStr, ValidationError

from tests.peers.raw import Behaviour, Request, answer, raw, says
from worker.adapters.a2a import A2AClient, Agent
from worker.adapters.executor import HttpExecutor, Zone
from worker.adapters.http import Endpoint
from worker.errors import Refused, Unavailable

SECRET = "s3cret-t0ken"  # noqa: S105  # it opens nothing
ECHOES = {
    "as a status line": "{}\r\n\r\n",
    "as a header": "HTTP/1.1 200 OK\r\n{}\r\n\r\n",
    "as a length": "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
    "as a chunk": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}\r\n",
    "as a redirect": "HTTP/1.1 302 Found\r\nlocation: http://x/{}\r\ncontent-length: 0\r\n\r\n",
    "as a reason": "HTTP/1.1 503 {}\r\ncontent-length: 0\r\n\r\n",
    "as a refusal": "HTTP/1.1 401 {}\r\ncontent-length: 0\r\n\r\n",
    "as a body": "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
    "as an error": 'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{{"jsonrpc": "2.0", "id": 1, "error":'
    ' {{"code": -32603, "message": "{}"}}}}',
    "as another task": 'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{{"jsonrpc": "2.0", "id": 1, "result":'
    ' {{"id": "{}", "status": {{"state": "working"}}}}}}',
    "as another turn": 'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{{"turn_id": "{}", "status": "cancelled"}}',
}


def echoes(text: str) -> Behaviour:
    """Sends the credential back that it was given."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await says(text.format(request.headers["authorization"]).encode(), then_close=True)(request, writer)

    return behave


@pytest.mark.parametrize("text", ECHOES.values(), ids=ECHOES)
async def test_an_echoed_credential_never_reaches_an_error_or_a_log(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with raw(echoes(text)) as server:
        agents = A2AClient({"x": Agent(url=server.url, credential=SecretStr(SECRET))})
        executors = HttpExecutor({"z": Zone(url=server.url, credential=SecretStr(SECRET))})
        await agents.start()
        await executors.start()
        for call in (agents.cancel("x", "task-1", None), executors.cancel("z", "session-1", "turn-1", 1)):
            with pytest.raises((Refused, Unavailable)) as raised:
                await call
            assert SECRET not in "".join(traceback.format_exception(raised.value))
        await agents.stop()
        await executors.stop()
        assert any(SECRET in request.headers["authorization"] for request in server.requests)
    assert SECRET not in caplog.text


async def test_an_agents_own_words_are_quoted_in_one_bounded_line() -> None:
    message = f"no\n\x1b[31mluck\x00 with {SECRET} " + "x" * 5000
    error = json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32603, "message": message}})
    async with raw(says(answer(error))) as server:
        client = A2AClient({"x": Agent(url=server.url, credential=SecretStr(SECRET))})
        await client.start()
        with pytest.raises(Unavailable) as raised:
            await client.get("x", "task-1")
        await client.stop()
    text = str(raised.value)
    assert text.startswith("agent 'x' answered error -32603: no [31mluck with *** xxx")
    assert text.isprintable()
    assert len(text) < 300


def test_a_credential_shows_in_no_representation() -> None:
    for model in (Endpoint, Agent, Zone):
        endpoint = model(url="https://x.test", credential=SecretStr(SECRET))
        assert SECRET not in f"{endpoint!r} {endpoint} {endpoint.model_dump()} {endpoint.model_dump_json()}"
        assert SECRET not in repr(HttpExecutor({"z": Zone(url="https://x.test", credential=SecretStr(SECRET))}))


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "ftp://x.test"},
        {"url": "x.test"},
        {"url": "http://"},
        {"url": f"https://user:{SECRET}@x.test"},
        {"url": f"https://{SECRET}@x.test"},
        {"url": f"https://x.test#{SECRET}"},
        {"url": "https://x.test", "credential": f"{SECRET}\r\nX-Other: 1"},
        {"url": "https://x.test", "credential": ""},
        {"url": "https://x.test", "credential": SECRET, "credential_header": "X: "},
        {"url": "https://x.test", "credential": SECRET, "credential_scheme": "Be arer"},
        {"url": "https://x.test", "crdential": SECRET},
    ],
)
def test_a_wrong_endpoint_is_refused_without_quoting_it(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as raised:
        Endpoint.model_validate(fields)
    assert SECRET not in str(raised.value)
