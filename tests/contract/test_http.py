"""HTTP under every adapter here: bounded in time and size, never repeated in silence; discretion has its own file."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession
from pydantic import SecretStr

from tests.peers.raw import Behaviour, Request, answer, raw, says, silence
from worker.adapters.a2a import A2AClient, Agent
from worker.adapters.executor import HttpExecutor, Zone
from worker.adapters.http import CONNECT_TIMEOUT_SECONDS, Answer, Endpoint, open_session, post_json
from worker.errors import Refused, Unavailable

SECRET = "s3cret-t0ken"  # noqa: S105  # it opens nothing
BYTES_MAX = 100_000


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with open_session() as session:
        yield session


async def post(session: ClientSession, url: str, *, timeout_seconds: float = 5, **more: Any) -> Answer:
    endpoint = Endpoint(url=url, credential=SecretStr(SECRET), **more)
    return await post_json(
        session, "agent 'x'", endpoint, url, {"a": 1}, timeout_seconds=timeout_seconds, answer_bytes_max=BYTES_MAX
    )


def elapsed_since(moment: float) -> float:
    return asyncio.get_running_loop().time() - moment


# ------------------------------------------------------------------------------ what is sent, what is understood


async def test_one_json_request_with_the_credential_is_sent(session: ClientSession) -> None:
    async with raw(says(answer('{"b": 2}'))) as server:
        assert await post(session, server.url + "/path") == Answer(200, b'{"b": 2}')
        await post(session, server.url, credential_header="X-Key", credential_scheme="")
    first, second = server.requests
    assert (first.line, json.loads(first.body)) == ("POST /path HTTP/1.1", {"a": 1})
    assert first.headers["content-type"] == first.headers["accept"] == "application/json"
    assert first.headers["authorization"] == f"Bearer {SECRET}"
    assert (second.headers["x-key"], second.headers.get("authorization")) == (SECRET, None)


@pytest.mark.parametrize("status", [200, 201, 400, 404, 409, 422])
async def test_an_answer_is_the_callers_to_read(session: ClientSession, status: int) -> None:
    async with raw(says(answer("{}", status))) as server:
        assert await post(session, server.url) == Answer(status, b"{}")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_credential_that_is_not_accepted_is_refused(session: ClientSession, status: int) -> None:
    async with raw(says(answer("{}", status))) as server:
        with pytest.raises(Refused, match=rf"agent 'x' refuses this worker's credential \(HTTP {status}\)"):
            await post(session, server.url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(session: ClientSession, status: int) -> None:
    async with raw(says(answer())) as elsewhere, raw(says(answer("", status, location=elsewhere.url))) as server:
        with pytest.raises(Unavailable, match=rf"redirect \(HTTP {status}\)"):
            await post(session, server.url)
        assert (len(server.requests), elsewhere.requests) == (1, [])


async def test_neither_proxies_nor_cookies_come_between(
    session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw(says(answer())) as proxy, raw(says(answer(set_cookie="a=b"))) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        for _ in range(2):
            await post(session, server.url.replace("127.0.0.1", "localhost"))  # of an address no cookie is kept
        assert (len(server.requests), proxy.requests) == (2, [])
    assert "cookie" not in server.requests[1].headers


# ------------------------------------------------------------------------------ come back later


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0", 0), ("9" * 30, 3600), ("86400", 3600), ("-1", None), ("1.5", None), ("soon", None), ("", None)],
)
async def test_retry_after_in_seconds_is_passed_on(
    session: ClientSession, status: int, value: str, seconds: float | None
) -> None:
    async with raw(says(answer("{}", status, retry_after=value))) as server:
        with pytest.raises(Unavailable, match=f"agent 'x' answered HTTP {status}") as raised:
            await post(session, server.url)
    assert raised.value.retry_after_seconds == seconds
    assert len(server.requests) == 1


ANSWERED_AT = datetime(2020, 2, 29, 12, 0, tzinfo=UTC)
"""By the server's clock, which is years behind ours."""


@pytest.mark.parametrize(("ahead_seconds", "seconds"), [(60, 60), (-60, 0), (86400, 3600)])
async def test_retry_after_as_a_date_counts_from_the_date_of_the_answer(
    session: ClientSession, ahead_seconds: float, seconds: float
) -> None:
    date, then = (_http(ANSWERED_AT + timedelta(seconds=each)) for each in (0, ahead_seconds))
    async with raw(says(answer("{}", 429, retry_after=then, date=date))) as server:
        with pytest.raises(Unavailable) as raised:
            await post(session, server.url)
    assert raised.value.retry_after_seconds == seconds


@pytest.mark.parametrize("date", [{}, {"date": "noon"}])
async def test_retry_after_as_a_date_asks_for_nothing_where_the_answer_has_none(
    session: ClientSession, date: dict[str, str]
) -> None:
    in_a_minute = _http(datetime.now(UTC) + timedelta(minutes=1))
    async with raw(says(answer("{}", 429, retry_after=in_a_minute, **date))) as server:
        with pytest.raises(Unavailable) as raised:
            await post(session, server.url)
    assert raised.value.retry_after_seconds is None


def _http(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


async def test_without_retry_after_nothing_is_asked_for(session: ClientSession) -> None:
    async with raw(says(answer("{}", 503))) as server:
        with pytest.raises(Unavailable) as raised:
            await post(session, server.url)
    assert raised.value.retry_after_seconds is None


# ------------------------------------------------------------------------------ time and size


async def dribble(_: Request, writer: asyncio.StreamWriter) -> None:
    """A body that comes byte by byte, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 90000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("behaviour", [silence, dribble])
async def test_the_time_out_bounds_the_whole_call(session: ClientSession, behaviour: Behaviour) -> None:
    before = asyncio.get_running_loop().time()
    async with raw(behaviour) as server, asyncio.timeout(5):
        with pytest.raises(Unavailable, match=r"agent 'x' did not answer within 0\.3 s"):
            await post(session, server.url, timeout_seconds=0.3)
        assert elapsed_since(before) < 1.5
        assert len(server.requests) == 1


async def test_connecting_has_its_own_shorter_bound(session: ClientSession) -> None:
    """A listener whose queue is full drops what comes."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        before = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable, match="agent 'x' cannot be reached"):
            await post(session, f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=60)
    assert elapsed_since(before) < CONNECT_TIMEOUT_SECONDS + 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
async def test_nobody_there_is_unavailable(session: ClientSession, url: str) -> None:
    with pytest.raises(Unavailable, match="agent 'x' cannot be reached"):
        await post(session, url)


async def test_an_answer_of_the_largest_size_is_read(session: ClientSession) -> None:
    async with raw(says(answer(b"x" * BYTES_MAX))) as server:
        assert await post(session, server.url) == Answer(200, b"x" * BYTES_MAX)


async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
    """A chunked body without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize("behaviour", [says(answer(b"x" * (BYTES_MAX + 1))), endless], ids=["sized", "endless"])
async def test_a_larger_answer_is_not_read_to_its_end(session: ClientSession, behaviour: Behaviour) -> None:
    async with raw(behaviour) as server:
        with pytest.raises(Unavailable, match=f"more than {BYTES_MAX} bytes"):
            await post(session, server.url)


async def test_a_compressed_answer_is_not_unpacked(session: ClientSession) -> None:
    async with raw(says(answer(b"\x1f\x8b...", content_encoding="gzip"))) as server:
        assert (await post(session, server.url)).body == b"\x1f\x8b..."
    assert server.requests[0].headers["accept-encoding"] == "identity"


# ------------------------------------------------------------------------------ broken, and never repeated

BROKEN = {
    "no answer": b"",
    "within the headers": b"HTTP/1.1 200 OK\r\ncontent-le",
    "within the body": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
    "within a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{",
    "no HTTP": b"SSH-2.0-whatever\r\n\r\n",
    "no status": b"HTTP/1.1 abc\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
    "no chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_a_broken_answer_is_unavailable_and_the_request_is_sent_once(session: ClientSession, data: bytes) -> None:
    async with raw(says(data, then_close=True)) as server:
        with pytest.raises(Unavailable, match="agent 'x'"):
            await post(session, server.url)
        assert len(server.requests) == 1


def drops_every_second() -> Behaviour:
    """Answers, and closes a kept connection once it is used again: what aiohttp takes for an idle one."""
    seen = 0

    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        if seen % 2:
            writer.write(answer())
        else:
            writer.close()

    return behave


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_kept_connection_that_breaks_repeats_no_request(session: ClientSession, method: str) -> None:
    async with raw(drops_every_second()) as server:
        async with session.request(method, server.url) as response:
            await response.read()
        with pytest.raises(ClientError):
            await session.request(method, server.url)
        assert len(server.requests) == 2


async def test_aiohttp_by_itself_repeats_what_may_have_been_applied() -> None:
    """The reason for the middleware; once this fails, it may go."""
    async with raw(drops_every_second()) as server, ClientSession() as session:
        for _ in range(2):
            async with session.put(server.url) as response:
                await response.read()
        assert len(server.requests) == 3


# ------------------------------------------------------------------------------ where requests go


async def test_an_id_is_one_segment_of_the_path_whatever_it_holds() -> None:
    async with raw(says(answer("{}", 400))) as server:
        executors = HttpExecutor({"z": Zone(url=server.url + "/base/")})
        await executors.start()
        for turn_id in ("a/b", "a?b#c", "%2e%2e", "ä b"):
            with pytest.raises(Unavailable):
                await executors.cancel("z", "session-1", turn_id, 1)
        await executors.stop()
    assert [request.line.split()[1] for request in server.requests] == [
        "/base/v1/turns/a%2Fb/cancel",
        "/base/v1/turns/a%3Fb%23c/cancel",
        "/base/v1/turns/%252e%252e/cancel",
        "/base/v1/turns/%C3%A4%20b/cancel",
    ]


async def test_a_task_id_that_looks_like_a_url_is_not_called() -> None:
    async with raw(says(answer())) as elsewhere, raw(says(answer("{}", 400))) as server:
        client = A2AClient({"x": Agent(url=server.url)})
        await client.start()
        with pytest.raises(Unavailable):
            await client.cancel("x", elsewhere.url, elsewhere.url)
        with pytest.raises(Refused, match="not in the settings"):
            await client.cancel(elsewhere.url, "task-1", None)
        await client.stop()
        assert (len(server.requests), elsewhere.requests) == (1, [])
