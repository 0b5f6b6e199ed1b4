"""The engine: handler, performer and consumer put together over one set of ports; the same for every stack."""

import asyncio
import contextlib
from dataclasses import dataclass

from schemas.audit import DecisionSettings
from worker.handler import Handler
from worker.ports import Assignment, Ports
from worker.runtime.consumer import Consumer
from worker.runtime.partition import Partition
from worker.runtime.perform import Performer
from worker.sealing import Sealer


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine needs of the settings; sizes in bytes, durations in seconds."""

    decisions: DecisionSettings
    build: str
    command_bytes_max: int = 8 * 1024 * 1024
    drain_timeout_seconds: float = 20


class Engine:
    """Start, run, drain, stop."""

    def __init__(self, ports: Ports, settings: EngineSettings) -> None:
        self._ports, self._settings = ports, settings
        self._sealer = Sealer(ports.store, ports.ids)
        self._handler = Handler(ports.store, ports.ids, self._sealer, settings.decisions, settings.build)
        self._performer = Performer(
            jobs=ports.jobs,
            agents=ports.agents,
            executors=ports.executors,
            store=ports.store,
            clock=ports.clock,
            ids=ports.ids,
            job_label=settings.decisions.job_label,
        )
        self.consumer = Consumer(ports.log, ports.clock, ports.ids, self._partition)
        self._loop: asyncio.Task[None] | None = None

    def _partition(self, assignment: Assignment) -> Partition:
        return Partition(
            self._ports,
            self._handler,
            self._sealer,
            self._performer,
            assignment,
            command_bytes_max=self._settings.command_bytes_max,
            memory_commands=self._settings.decisions.memory_commands,
        )

    async def start(self) -> None:
        """Open everything, take the partitions, begin.  Raises Misconfigured."""
        ports = self._ports
        await ports.store.start()
        await asyncio.gather(ports.jobs.start(), ports.agents.start(), ports.executors.start())
        await self._handler.start()
        await ports.log.start(self.consumer)
        self._loop = asyncio.create_task(self.consumer.run())

    async def wait(self) -> None:
        """Until the loop ends, which is a failure."""
        assert self._loop is not None, "started first"
        await self._loop

    async def stop(self, *, drain: bool = True) -> None:
        """Stop fetching, let decisions be committed (within a bound), drop the rest; nothing is lost either way."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
            self._loop = None
        if drain:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.consumer.drain(), self._settings.drain_timeout_seconds)
        await self.consumer.stop()
        ports = self._ports
        await ports.log.stop()
        await asyncio.gather(ports.jobs.stop(), ports.agents.stop(), ports.executors.stop())
        await ports.stream.stop()
        await ports.store.stop()
