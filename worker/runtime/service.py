"""The process: probes, signals, and a supervisor that ends it when a part has ended that it cannot do without.

SIGTERM or SIGINT drains; a second one, or the deadline, stops at once.  Nothing is lost either way: what has no
committed verdict is fetched again, and resumes from its document.
"""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from worker.errors import WorkerError
from worker.runtime.engine import Engine
from worker.runtime.probes import Probes
from worker.telemetry import metrics

log = structlog.get_logger()


class Service:
    """Runs one engine until it is told to stop; `about` is logged at the start."""

    def __init__(
        self, engine: Engine, probes: Probes | None, about: Mapping[str, str], drain_timeout_seconds: float
    ) -> None:
        self._engine, self._probes, self._about = engine, probes, about
        self._drain_timeout_seconds = drain_timeout_seconds

    async def run(self) -> int:
        """-> 0 stopped when asked to, 1 a part has failed.  Raises Misconfigured, Unavailable at the start."""
        log.info("worker.started", pid=os.getpid(), **self._about)
        stopping, hurry = asyncio.Event(), asyncio.Event()
        with _signals(stopping, hurry):
            try:
                return await self._run(stopping, hurry)
            finally:
                metrics.READY.set(0)
                await self._engine.stop()
                if self._probes:
                    await self._probes.stop()
                log.info("worker.stopped")

    async def _run(self, stopping: asyncio.Event, hurry: asyncio.Event) -> int:
        port = await self._probes.start() if self._probes else None
        await self._engine.start()
        metrics.READY.set(1)
        log.info("worker.ready", probes_port=port, partitions=len(self._engine.consumer.partitions))
        failed = asyncio.create_task(self._engine.wait())
        try:
            await _first(failed, stopping)
        finally:
            failed.cancel()
            await asyncio.gather(failed, return_exceptions=True)
        if not stopping.is_set():
            error = failed.exception()
            log.error("worker.failed", error=_one_line(error), exc_info=error)
            return 1
        metrics.READY.set(0)
        log.info("worker.draining", timeout_seconds=self._drain_timeout_seconds)
        await self._drain(hurry)
        return 0

    async def _drain(self, hurry: asyncio.Event) -> None:
        drain = asyncio.create_task(self._engine.drain())
        try:
            async with asyncio.timeout(self._drain_timeout_seconds):
                await _first(drain, hurry)
        except TimeoutError:
            pass
        if drain.done():
            drain.result()
            return
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)
        log.warning("worker.drain_cut", why="a second signal" if hurry.is_set() else "the deadline")


async def _first(task: "asyncio.Task[None]", event: asyncio.Event) -> None:
    """Until the task has ended or the event is set; the task is left as it is."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


@contextmanager
def _signals(stopping: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    def told() -> None:
        (hurry if stopping.is_set() else stopping).set()

    loop, numbers = asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, told)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _one_line(error: BaseException | None) -> str:
    text = str(error) if isinstance(error, WorkerError) else type(error).__name__
    return text.splitlines()[0] if text else type(error).__name__
