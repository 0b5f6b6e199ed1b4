"""What lies between a client and one server: it takes connections, opens one to the server for each, and ends both.

What is carried, and what happens to it on the way, is for those who build on it.  Knows sockets only.
"""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.services.container import HOST


class Relay(ABC):
    """`async with ... as relay`: the server is reached through `relay.port`.

    `server` says where it is, each time anew; `inwards` and `outwards` encrypt the way here, and the way to it.
    """

    def __init__(
        self,
        server: Callable[[], tuple[str, int]],
        *,
        inwards: ssl.SSLContext | None = None,
        outwards: ssl.SSLContext | None = None,
    ) -> None:
        self._server, self._inwards, self._outwards = server, inwards, outwards
        self._connections: dict[asyncio.Task[None], None] = {}
        self.port = 0

    @abstractmethod
    async def carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        """One connection; both sides of it end when this returns, or raises that either has ended."""

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, HOST, 0, ssl=self._inwards)
        self.port = int(self._listener.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._connections[task] = None
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                up_reader, up_writer = await asyncio.open_connection(*self._server(), ssl=self._outwards)
                try:
                    await self.carry(reader, writer, up_reader, up_writer)
                finally:
                    up_writer.transport.abort()
        finally:
            writer.transport.abort()
            del self._connections[task]
