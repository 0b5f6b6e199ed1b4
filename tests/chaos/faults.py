"""What is done to a run: one fault at a time, each at a moment at which work is in flight, and counted by that.

A fault of the log, the store or the API server counts only if an operation was caught under way (`wires`) and commands
were unanswered; one of a worker, if commands were unanswered.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random

from tests.chaos.fleet import Fleet, Worker
from tests.chaos.plan import Kind
from tests.chaos.stage import SESSION_TIMEOUT_SECONDS, Stage
from tests.chaos.talk import Asked
from tests.chaos.tier import Tier
from tests.chaos.wires import Point, Trap, Wire, trap

COMMIT = ("EndTxn", "TxnOffsetCommit", "AddOffsetsToTxn")
WRITE = ("PUT",)
STOP = ("DELETE",)
CALL = ("DELETE", "GET", "watch")
CAUGHT_SECONDS = 20.0
"""How long is waited for an operation to strike at."""
STOP_SECONDS = 6.0
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
        doing: dict[Kind, Callable[[], Awaitable[Strike]]] = {
            Kind.KILL: self._kill,
            Kind.FREEZE: self._freeze,
            Kind.BROKER: self._broker,
            Kind.STORE: self._store,
            Kind.API: self._api,
            Kind.CUT_LOG: self._cut_log,
            Kind.CUT_STORE: self._cut_store,
            Kind.CUT_API: self._cut_api,
        }
        struck = await doing[kind]()
        self.strikes.append(struck)
        return struck

    # ------------------------------------------------------------------------------ workers

    async def _kill(self) -> Strike:
        """Inside a commit, a write, a call of the API server, or anywhere."""
        worker = self._victim()
        wires, operations, seconds = self._somewhere()
        point = self.random.choice((Point.UNHEARD, Point.DONE))
        with trap(wires, *operations, point=point, who=worker.name) as laid:
            await self._caught(laid, seconds)
            struck = self._struck(Kind.KILL, worker.name, laid, needs=False)
            await worker.kill()
        await asyncio.sleep(self.random.choice((0.0, 0.0, 1.0, 3.0)))
        await worker.start()
        return struck

    def _somewhere(self) -> tuple[Iterable[Wire], tuple[str, ...], float]:
        """Where a worker is to be hit: wires, operations, and how long is waited for one of them."""
        choices: list[tuple[Iterable[Wire], tuple[str, ...], float]] = [
            ([self.stage.log], COMMIT, CAUGHT_SECONDS),
            (self.stage.store_wires, WRITE, CAUGHT_SECONDS),
            (self.stage.api_wires, STOP, STOP_SECONDS),
            ((), (), 0.0),
        ]
        return self.random.choice(choices)

    async def _freeze(self) -> Strike:
        """In the middle of a commit, whose end then comes late; its partitions are another's by then."""
        worker = self._victim()
        with trap([self.stage.log], "EndTxn", point=Point.LATE, who=worker.name) as laid:
            await self._caught(laid, CAUGHT_SECONDS)
            struck = self._struck(Kind.FREEZE, worker.name, laid, needs=False)
            worker.freeze()
            try:
                await asyncio.sleep(SESSION_TIMEOUT_SECONDS + self.random.uniform(1.5, 4))
            finally:
                worker.thaw()
        return struck

    def _victim(self) -> Worker:
        return self.random.choice([worker for worker in self.fleet.workers if worker.is_up])

    # ------------------------------------------------------------------------------ servers

    async def _broker(self) -> Strike:
        with trap([self.stage.log], *COMMIT, point=self._lost()) as laid:
            await self._caught(laid, CAUGHT_SECONDS)
            struck = self._struck(Kind.BROKER, "broker", laid)
            await self.stage.broker.kill()
        await asyncio.sleep(self.random.uniform(0, 2))
        await self.stage.broker.start()
        return struck

    async def _store(self) -> Strike:
        with trap(self.stage.store_wires, *WRITE, point=self._lost()) as laid:
            await self._caught(laid, CAUGHT_SECONDS)
            struck = self._struck(Kind.STORE, "S3", laid)
            await self.stage.store.kill()
        await asyncio.sleep(self.random.uniform(0, 3))
        await self.stage.store.start()
        return struck

    async def _api(self) -> Strike:
        """It comes back by itself, or stays away for a while."""
        with ExitStack() as laying:
            laid = await self._on_a_call(laying, self._lost())
            struck = self._struck(Kind.API, "API server", laid)
            if self.random.random() < 0.5:
                await self.stage.cluster.ctl("kill", "apiserver")
            else:
                await self.stage.cluster.ctl("down", "apiserver")
                await asyncio.sleep(self.random.uniform(0, 4))
        await self.stage.cluster.start()
        return struck

    def _lost(self) -> Point:
        return self.random.choice((Point.UNHEARD, Point.DONE))

    # ------------------------------------------------------------------------------ connections

    async def _cut_log(self) -> Strike:
        with trap([self.stage.log], *COMMIT, point=Point.CUT) as laid:
            await self._caught(laid, CAUGHT_SECONDS)
            return self._struck(Kind.CUT_LOG, "", laid)

    async def _cut_store(self) -> Strike:
        with trap(self.stage.store_wires, *WRITE, point=Point.CUT) as laid:
            await self._caught(laid, CAUGHT_SECONDS)
            return self._struck(Kind.CUT_STORE, "", laid)

    async def _cut_api(self) -> Strike:
        with ExitStack() as laying:
            laid = await self._on_a_call(laying, Point.CUT)
            return self._struck(Kind.CUT_API, "", laid)

    async def _on_a_call(self, laying: ExitStack, point: Point) -> Trap:
        """A DELETE, where one comes soon; else whatever is asked of the API server."""
        laid = laying.enter_context(trap(self.stage.api_wires, *STOP, point=point))
        if await self._caught(laid, STOP_SECONDS) is None:
            laid = laying.enter_context(trap(self.stage.api_wires, *CALL, point=point))
            await self._caught(laid, CAUGHT_SECONDS)
        return laid

    async def _caught(self, laid: Trap, timeout_seconds: float) -> Asked | None:
        self.waits = True
        try:
            return await laid.sprung(timeout_seconds)
        finally:
            self.waits = False

    def _struck(self, kind: Kind, whom: str, laid: Trap, *, needs: bool = True) -> Strike:
        """As it is now; `needs`: it counts only with an operation under way.  Cut is whoever was caught."""
        caught, unanswered = laid.caught, self.tier.unanswered
        during = f"{caught.operation}: {laid.point}" if caught else "anywhere"
        whom = whom or (caught.who if caught else "nobody")
        return Strike(kind, whom, during, unanswered, unanswered > 0 and (caught is not None or not needs))
