"""What a real S3 server does, through its client library: the bodies that hold over the simulator's model as well.

What no server can be asked for (replies lost, bodies cut off, 409, 503) happens in the proxy before it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from tests.contract.suites.s3_facts import Rig as AnyRig
from tests.contract.suites.s3_facts import S3Facts
from tests.integration.proxy import Proxy, reply
from tests.integration.s3_world import settings_of
from tests.services.object_store import ObjectStore
from worker.adapters.s3.client import open_client

NOBODY = "http://127.0.0.1:1"


class CuttingProxy(Proxy):
    """Breaks answers off in the middle where it is told to."""

    cuts = False

    async def carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        await super().carry(reader, cast(asyncio.StreamWriter, _Scissors(self, writer)), up_reader, up_writer)


class _Scissors:
    """As much of a writer as the proxy uses."""

    def __init__(self, proxy: CuttingProxy, writer: asyncio.StreamWriter) -> None:
        self._proxy, self._writer = proxy, writer

    def write(self, answer: bytes) -> None:
        head, end, body = answer.partition(b"\r\n\r\n")
        if self._proxy.cuts and body:
            self._writer.write(head + end + body[: len(body) // 2])
            self._writer.close()
        else:
            self._writer.write(answer)

    async def drain(self) -> None:
        await self._writer.drain()


class Rig:
    """A bucket of the real server, and the proxy before it."""

    def __init__(self, server: ObjectStore, bucket: str, proxy: CuttingProxy, opened: AsyncExitStack) -> None:
        self.bucket = bucket
        self.client: Any = None
        self._server, self._proxy, self._opened = server, proxy, opened
        self._nobody: Any = None

    async def start(self) -> AnyRig:
        self.client = await self.another()
        self._nobody = await self._open(NOBODY)
        return self

    async def another(self) -> Any:
        return await self._open(self._proxy.url)

    async def _open(self, url: str) -> Any:
        patience = {"connect_timeout_seconds": 10, "read_timeout_seconds": 2}
        settings = settings_of(self._server, self.bucket, endpoint_url=url, **patience)
        return await self._opened.enter_async_context(open_client(settings))

    def lose_replies(self) -> None:
        self._proxy.requests.clear()
        self._proxy.loses = lambda method, path: True

    def cut_bodies(self) -> None:
        self._proxy.cuts = True

    def hang(self) -> None:
        self._proxy.latency_seconds = 60

    def go_away(self) -> None:
        self.client = self._nobody

    def throttle(self) -> None:
        answer = reply("503 Slow Down", "<Error><Code>SlowDown</Code></Error>", Retry_After="2")
        self._proxy.answers = lambda method, path: answer

    def undecided(self) -> None:
        answer = reply("409 Conflict", "<Error><Code>ConditionalRequestConflict</Code></Error>")
        self._proxy.answers = lambda method, path: answer if method == "PUT" else None

    def recover(self) -> None:
        assert len(self._proxy.requests) == 1 or not self._proxy.lost, "what was lost was sent once"
        self._proxy.loses = lambda method, path: False
        self._proxy.answers = lambda method, path: None
        self._proxy.cuts, self._proxy.latency_seconds = False, 0.0


class TestFacts(S3Facts):
    @pytest.fixture
    async def rig(self, s3: ObjectStore, bucket: str) -> AsyncIterator[AnyRig]:
        async with CuttingProxy(s3.endpoint_url) as proxy, AsyncExitStack() as opened:
            yield await Rig(s3, bucket, proxy, opened).start()
