"""A server on the loopback interface whose every byte is the test's: it can be wrong in any way, and counts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One request as it arrived; names of headers in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


Behaviour = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]
"""What is done with a request; the connection stays open unless the writer is closed."""


@dataclass
class Raw:
    """Where it listens, and what it was asked so far."""

    url: str
    requests: list[Request] = field(default_factory=list)


@asynccontextmanager
async def raw(behaviour: Behaviour) -> AsyncIterator[Raw]:
    """Serve until the end of the block."""
    served = Raw("")
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "it runs in one"
        connections.add(task)
        # The other side goes away as it likes, and the end of the block ends what is left.
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError), closing(writer):
            while not writer.is_closing():
                request = await _read(reader)
                served.requests.append(request)
                await behaviour(request, writer)
                await writer.drain()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Request:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines)}
    return Request(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def answer(body: bytes | str = b"{}", status: int = 200, **headers: str) -> bytes:
    """A whole answer; `retry_after="1"` becomes the header retry-after."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = f"HTTP/1.1 {status} Whatever\r\ncontent-length: {len(body)}\r\n{''.join(lines)}\r\n"
    return head.encode() + body


def says(data: bytes, *, then_close: bool = False) -> Behaviour:
    """Writes these bytes to every request, and then perhaps closes the connection."""

    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if then_close:
            await writer.drain()
            writer.close()

    return behave


async def silence(_: Request, __: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.sleep(3600)
