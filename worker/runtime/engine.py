"""The engine: handler, performer and consumer put together over one set of ports; the same for every stack."""

import asyncio
from dataclasses import dataclass

import structlog

from schemas.audit import DecisionSettings
from worker.errors import Transient
from worker.handler import Handler
from worker.ports import Assignment, Ports
from worker.runtime.checkpointer import Checkpointer
from worker.runtime.consumer import Consumer
from worker.runtime.partition import Partition
from worker.runtime.perform import Performer
from worker.runtime.reconciler import Reconciler
from worker.runtime.retry import Backoff
from worker.sealing import Sealer
from worker.signing import UNSIGNED, Signers
from worker.telemetry import metrics

FIRST_PARTITION = 0
START_BACKOFF_SECONDS = 0.5
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine needs of the settings; sizes in bytes, durations in seconds."""

    decisions: DecisionSettings
    build: str
    command_bytes_max: int = 8 * 1024 * 1024
    fetch_records_max: int = 500
    reconcile_interval_seconds: float = 30
    checkpoint_interval_seconds: float = 60
    signers: Signers = UNSIGNED


class Engine:
    """Start, wait, drain, stop."""

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
        self._reconciler = Reconciler(ports.store, ports.stream, ports.clock)
        self.consumer = Consumer(ports.log, ports.clock, ports.ids, self._partition, settings.fetch_records_max)
        self._checkpointer = Checkpointer(ports.stream, ports.clock, self._owned, settings.signers)
        self._parts: list[asyncio.Task[None]] = []

    def _owned(self) -> dict[int, int]:
        return {number: held.assignment.epoch for number, held in self.consumer.partitions.items()}

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
        """Open everything, take the partitions, begin.  After an error it takes a `stop` before the next try.

        Raises Misconfigured and Refused; Unavailable and OutcomeUnknown, after which another try may succeed.
        """
        ports = self._ports
        await ports.store.start()
        await asyncio.gather(ports.jobs.start(), ports.agents.start(), ports.executors.start())
        await self._handler.start()
        await ports.log.start(self.consumer)
        sealing = self._checkpointer.run(self._settings.checkpoint_interval_seconds)
        self._parts = [
            asyncio.create_task(self.consumer.run(), name="consumer"),
            asyncio.create_task(self._reconcile(), name="reconciler"),
            asyncio.create_task(sealing, name="checkpointer"),
        ]

    def backoff(self) -> Backoff:
        """Between two tries to start, for whoever makes them."""
        return Backoff(self._ports.clock, self._ports.ids, first_seconds=START_BACKOFF_SECONDS)

    def unready(self) -> dict[str, str]:
        """Why no commands are consumed; empty: they are."""
        if not self._parts:
            return {"worker": "not started, or stopping"}
        return {f"partition {number}": why for number, why in sorted(self.consumer.stopped.items())}

    async def wait(self) -> None:
        """Until a part ends that must not; raises its error."""
        parts = self._parts
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            if part.done():
                part.result()

    async def _reconcile(self) -> None:
        """In the owner of the first partition only; an outage is waited out until the next time."""
        while True:
            await self._ports.clock.sleep(self._settings.reconcile_interval_seconds)
            if FIRST_PARTITION not in self.consumer.partitions:
                continue
            try:
                await self._reconciler.once()
            except Transient as error:
                metrics.OUTAGES.inc()
                log.warning("dependency.unavailable", error=str(error))

    async def drain(self) -> None:
        """Take nothing more in, let what is being decided be committed; effects resume with the next owner."""
        await self._end_parts()
        await self.consumer.drain()
        await self._checkpointer.once()

    async def stop(self) -> None:
        """Drop the rest at once; document and log hold what the next owner needs.  Tolerates a second stop."""
        await self._end_parts()
        await self.consumer.stop()
        ports = self._ports
        await ports.log.stop()
        await self.consumer.stop()  # a rebalance that was under way may have assigned something meanwhile
        await asyncio.gather(ports.jobs.stop(), ports.agents.stop(), ports.executors.stop())
        await ports.stream.stop()
        await ports.store.stop()

    async def _end_parts(self) -> None:
        parts, self._parts = self._parts, []
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
