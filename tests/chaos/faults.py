"""What is done to a run: one fault at a time, each at a moment at which work is in flight, and counted by that.

A fault of the log, the store or the API server counts only if an operation was caught under way (`wires`) and commands
were unanswered; one of a worker, if commands were unanswered.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random

from tests.chaos.fleet import Fleet, Worker
from tests.chaos.plan import Kind
from tests.chaos.stage import SESSION_TIMEOUT_SECONDS, Stage
from tests.chaos.talk import Asked
from tests.chaos.tier import Tier
from tests.chaos.wires import Point, Trap, Wire

COMMIT = ("EndTxn", "TxnOffsetCommit", "AddOffsetsToTxn")
WRITE = ("PUT",)
CALL = ("DELETE", "GET", "watch")
CAUGHT_SECONDS = 20.0
"""How long is waited for an operation to strike at."""
DELETE_SECONDS = 6.0
"""How long of that for the one call that stops something."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault as it struck: what was under way, and how many commands were unanswered."""

    kind: Kind
    whom: str
    during: str
    unanswered: int
    counts: bool


@dataclass(slots=True)
class Faults:
    """Strikes, and remembers them."""

    stage: Stage
    fleet: Fleet
    tier: Tier
    random: Random
    strikes: list[Strike] = field(default_factory=list)
    waits: bool = False
    """Whether it waits for an operation to strike at: commands should go on to come."""

    @property
    def counted(self) -> Counter[Kind]:
        return Counter(strike.kind for strike in self.strikes if strike.counts)

    async def strike(self, kind: Kind) -> Strike:
        """Do it, -> once what was killed runs again, and answers."""
        victim = self.random.choice([worker for worker in self.fleet.workers if worker.is_up])
        doing: dict[Kind, Callable[[Worker], Awaitable[Strike]]] = {
            Kind.KILL: self._kill,
            Kind.FREEZE: self._freeze,
            Kind.BROKER: self._broker,
            Kind.STORE: self._store,
            Kind.API: self._api,
            Kind.CUT_LOG: self._cut_log,
            Kind.CUT_STORE: self._cut_store,
            Kind.CUT_API: self._cut_api,
        }
        struck = await doing[kind](victim)
        self.strikes.append(struck)
        return struck

    # ------------------------------------------------------------------------------ workers

    async def _kill(self, worker: Worker) -> Strike:
        """Inside a commit, a write, a call of the API server, or anywhere."""
        trap, wire, operations, seconds = None, *self._somewhere(worker)
        async with AsyncExitStack() as set_traps:
            if operations:
                point = self.random.choice((Point.UNHEARD, Point.DONE))
                trap = await set_traps.enter_async_context(wire.trap(*operations, point=point, who=worker.name))
                await self._caught(trap, seconds)
            struck = self._struck(Kind.KILL, worker.name, trap, needs=False)
            await worker.kill()
        await asyncio.sleep(self.random.choice((0.0, 0.0, 1.0, 3.0)))
        await worker.start()
        return struck

    def _somewhere(self, worker: Worker) -> tuple[Wire, tuple[str, ...], float]:
        log, store, api = self.stage.log, self.stage.store_wires[worker.name], self.stage.api_wires[worker.name]
        choices: list[tuple[Wire, tuple[str, ...], float]] = [
            (log, COMMIT, CAUGHT_SECONDS),
            (store, WRITE, CAUGHT_SECONDS),
            (api, ("DELETE",), DELETE_SECONDS),
            (log, (), 0.0),
        ]
        return self.random.choice(choices)

    async def _freeze(self, worker: Worker) -> Strike:
        """In the middle of a commit, whose end then comes late; its partitions are another's by then."""
        async with self.stage.log.trap("EndTxn", point=Point.LATE, who=worker.name) as trap:
            await self._caught(trap, CAUGHT_SECONDS)
            struck = self._struck(Kind.FREEZE, worker.name, trap, needs=False)
            worker.freeze()
            try:
                await asyncio.sleep(SESSION_TIMEOUT_SECONDS + self.random.uniform(1.5, 4))
            finally:
                worker.thaw()
        return struck

    # ------------------------------------------------------------------------------ servers

    async def _broker(self, _: Worker) -> Strike:
        point = self.random.choice((Point.UNHEARD, Point.DONE))
        async with self.stage.log.trap(*COMMIT, point=point) as trap:
            await self._caught(trap, CAUGHT_SECONDS)
            struck = self._struck(Kind.BROKER, "broker", trap)
            await self.stage.broker.kill()
        await asyncio.sleep(self.random.uniform(0, 2))
        await self.stage.broker.start()
        return struck

    async def _store(self, worker: Worker) -> Strike:
        point = self.random.choice((Point.UNHEARD, Point.DONE))
        async with self.stage.store_wires[worker.name].trap(*WRITE, point=point) as trap:
            await self._caught(trap, CAUGHT_SECONDS)
            struck = self._struck(Kind.STORE, "S3", trap)
            await self.stage.store.kill()
        await asyncio.sleep(self.random.uniform(0, 3))
        await self.stage.store.start()
        return struck

    async def _api(self, worker: Worker) -> Strike:
        """It comes back by itself, or stays away for a while."""
        async with AsyncExitStack() as set_traps:
            trap = await self._on_a_call(set_traps, worker, self.random.choice((Point.UNHEARD, Point.DONE)))
            struck = self._struck(Kind.API, "API server", trap)
            if self.random.random() < 0.5:
                await self.stage.cluster.ctl("kill", "apiserver")
            else:
                await self.stage.cluster.ctl("down", "apiserver")
                await asyncio.sleep(self.random.uniform(0, 4))
        await self.stage.cluster.start()
        return struck

    # ------------------------------------------------------------------------------ connections

    async def _cut_log(self, worker: Worker) -> Strike:
        async with self.stage.log.trap(*COMMIT, point=Point.CUT, who=worker.name) as trap:
            await self._caught(trap, CAUGHT_SECONDS)
            return self._struck(Kind.CUT_LOG, worker.name, trap)

    async def _cut_store(self, worker: Worker) -> Strike:
        async with self.stage.store_wires[worker.name].trap(*WRITE, point=Point.CUT) as trap:
            await self._caught(trap, CAUGHT_SECONDS)
            return self._struck(Kind.CUT_STORE, worker.name, trap)

    async def _cut_api(self, worker: Worker) -> Strike:
        async with AsyncExitStack() as set_traps:
            trap = await self._on_a_call(set_traps, worker, Point.CUT)
            return self._struck(Kind.CUT_API, worker.name, trap)

    async def _on_a_call(self, set_traps: AsyncExitStack, worker: Worker, point: Point) -> Trap:
        """A DELETE of this worker's, where one comes soon; else whatever it asks."""
        wire = self.stage.api_wires[worker.name]
        trap = await set_traps.enter_async_context(wire.trap("DELETE", point=point))
        if await self._caught(trap, DELETE_SECONDS) is None:
            trap = await set_traps.enter_async_context(wire.trap(*CALL, point=point))
            await self._caught(trap, CAUGHT_SECONDS)
        return trap

    async def _caught(self, trap: Trap, timeout_seconds: float) -> Asked | None:
        self.waits = True
        try:
            return await trap.sprung(timeout_seconds)
        finally:
            self.waits = False

    def _struck(self, kind: Kind, whom: str, trap: Trap | None, *, needs: bool = True) -> Strike:
        """As it is now; `needs`: it counts only with an operation under way."""
        caught = trap.caught if trap else None
        during = f"{caught.operation}: {trap.point}" if caught and trap else "anywhere"
        unanswered = self.tier.unanswered
        return Strike(kind, whom, during, unanswered, unanswered > 0 and (caught is not None or not needs))
