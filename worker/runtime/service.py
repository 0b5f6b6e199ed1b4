"""The process: probes, signals, and a supervisor that ends it when a part has ended that it cannot do without.

A log or a store that is away when it starts is waited out, as at any other time: the process is alive then, and not
ready.  What no waiting heals (a setting, a credential, a right, a topic that nobody made) ends it.

SIGTERM or SIGINT drains, up to a deadline; a second one ends the process on the spot.  Nothing is lost either way:
what has no committed verdict is fetched again, and resumes from its document, as after a kill -9.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from worker.errors import Transient, WorkerError
from worker.runtime.engine import Engine
from worker.runtime.probes import Probes
from worker.telemetry import metrics

SIGNALS = (signal.SIGTERM, signal.SIGINT)
log = structlog.get_logger()


class Service:
    """Runs one engine until it is told to stop; `about` is logged at the start."""

    def __init__(
        self, engine: Engine, probes: Probes | None, about: Mapping[str, str], drain_timeout_seconds: float
    ) -> None:
        self._engine, self._probes, self._about = engine, probes, about
        self._drain_timeout_seconds = drain_timeout_seconds
        self._port: int | None = None
        """Of the probes, once they listen."""

    async def run(self) -> int:
        """-> 0 stopped when asked to, 1 a part has failed.  Raises Misconfigured, Refused at the start."""
        gc.freeze()  # what is loaded stays; commands leave few cycles behind, so looking for them may wait
        gc.set_threshold(50_000, 20, 50)
        stopping = asyncio.Event()
        with _signals(stopping):
            return await self.serve(stopping)

    async def serve(self, stopping: asyncio.Event) -> int:
        """As `run`, where somebody else knows when to stop; leaves nothing behind."""
        log.info("worker.started", pid=os.getpid(), **self._about)
        try:
            return await self._run(stopping)
        finally:
            metrics.READY.set(0)
            await self._engine.stop()
            if self._probes:
                await self._probes.stop()
            self._port = None
            log.info("worker.stopped")

    async def _run(self, stopping: asyncio.Event) -> int:
        if not await self._started(stopping):
            return 0
        metrics.READY.set(1)
        log.info("worker.ready", probes_port=self._port, partitions=len(self._engine.consumer.partitions))
        parts = asyncio.create_task(self._engine.wait())
        asked = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait([parts, asked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            parts.cancel()
            await asyncio.gather(asked, parts, return_exceptions=True)
        if not stopping.is_set():
            error = parts.exception()
            log.error("worker.failed", error=_one_line(error), exc_info=error)
            return 1
        await self._drain()
        return 0

    async def _started(self, stopping: asyncio.Event) -> bool:
        """Whether it started before it was told to stop: a start may wait long for what is away."""
        starting = asyncio.create_task(self._start())
        asked = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait([starting, asked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            if not starting.done():
                starting.cancel()
            await asyncio.gather(asked, starting, return_exceptions=True)
        if starting.cancelled():
            return False
        starting.result()
        return True

    async def _start(self) -> None:
        """However long log or store are away; each try that fails is a line in the log.

        The probes come after the first try: a second worker on one file hears who has the file, and not the port.
        """
        backoff = self._engine.backoff()
        while True:
            try:
                await self._engine.start()
            except Transient as error:
                metrics.OUTAGES.inc()
                log.warning("dependency.unavailable", error=str(error))
                await self._engine.stop()
                await self._listen()
                await backoff.pause(error)
            else:
                await self._listen()
                return

    async def _listen(self) -> None:
        if self._probes and self._port is None:
            self._port = await self._probes.start()

    async def _drain(self) -> None:
        metrics.READY.set(0)
        log.info("worker.draining", timeout_seconds=self._drain_timeout_seconds)
        try:
            async with asyncio.timeout(self._drain_timeout_seconds):
                await self._engine.drain()
        except TimeoutError:
            log.warning("worker.drain_cut")


@contextmanager
def _signals(stopping: asyncio.Event) -> Iterator[None]:
    """The first signal sets the event; the second does not wait for the loop, which may be blocked."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        stopping.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, second)

    def second(number: int, _: object) -> None:
        os.write(2, f"stopped at once, by a second {signal.Signals(number).name}; nothing is lost\n".encode())
        os._exit(0)

    for number in SIGNALS:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _one_line(error: BaseException | None) -> str:
    text = str(error) if isinstance(error, WorkerError) else type(error).__name__
    return text.splitlines()[0] if text else type(error).__name__
