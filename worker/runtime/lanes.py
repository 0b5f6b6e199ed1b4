"""Lanes: the inputs of one key are decided one by one; keys go on side by side (must 6).

A lane lives in the memory of one assignment and dies with it.  While effects run nothing is decided, and later
commands of the key are: an observation is one more input.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import chain

from schemas.commands import Aggregate
from schemas.documents import Answered, Failure, Unsettled
from schemas.observations import Observed
from worker.domain.decision import AnyState
from worker.errors import AssignmentLost, Conflict, OutcomeUnknown, Transient
from worker.handler import Arrived, Given
from worker.runtime.desk import LaneDesk
from worker.runtime.flight import Flight
from worker.runtime.retry import Backoff
from worker.runtime.shop import Shop

TRIES_MAX = 3
"""How often a step that meets an unclassified error is tried, each time on what is stored."""
UNKNOWN_SEQ = 0
"""In the marker of something that no decision could write down; no decision has this audit_seq."""


class Lane:
    """The queue of one key."""

    def __init__(self, shop: Shop, aggregate: Aggregate) -> None:
        self.aggregate = aggregate
        self._shop = shop
        self._desk = LaneDesk(shop, aggregate)
        self._inputs: deque[Given] = deque()
        self._settling = False
        self._observed = False
        self._bugs = 0
        self._answering: Arrived | None = None
        self._flight: Flight | None = None
        self._task: asyncio.Task[None] | None = None

    def put(self, given: Given) -> None:
        self._inputs.append(given)
        if self._task is None:
            self._task = self._shop.spawn(self._work())

    @property
    def idle(self) -> bool:
        """Nothing that would be lost with the lane."""
        flying = self._flight is not None and self._flight.active
        return self.quiet and self._desk.idle and not flying

    @property
    def quiet(self) -> bool:
        """Nothing is being decided; effects may be under way."""
        return self._task is None

    async def stop(self) -> None:
        """End effects; the lane's own task is ended by the shop."""
        if self._flight:
            await self._flight.stop()

    async def _work(self) -> None:
        """Decide until nothing is left; an outage is waited out, a lost compare-and-set repeated on what is stored."""
        backoff = Backoff(self._shop.clock, self._shop.ids)
        while self._inputs or self._settling or self._desk.owes_reload:
            try:
                await self._step()
                backoff.reset()
                self._bugs = 0
            except (Conflict, OutcomeUnknown) as error:
                self._desk.forget()
                self._shop.repeated(self.aggregate, error)
                if backoff.tries or isinstance(error, OutcomeUnknown):
                    await backoff.pause(error)
                else:
                    backoff.tries += 1  # whoever won has written: at once, and with a pause only if it happens again
            except Transient as error:
                self._shop.outage(error, aggregate=self.aggregate.key)
                await backoff.pause(error)
            except AssignmentLost:
                raise
            except Exception as error:  # noqa: BLE001  # anything unclassified is a bug (must 7)
                self._shop.bug("command.bug", error, aggregate=self.aggregate.key)
                self._desk.forget()  # it may have struck after the write: what is stored decides
                self._bugs += 1
                if self._bugs < TRIES_MAX:
                    await backoff.pause()
                else:
                    self._bugs = 0
                    await self._bury(error)
                    backoff.reset()
        self._task = None
        self._shop.lane_quiet(self)

    async def _step(self) -> None:
        """Decide and make durable, then answer; each half is repeated alone."""
        if not self._settling and self._inputs:
            count = 1 if self._bugs else self._desk.steps_max  # one by one, so that a bug hurts nobody else's command
            inputs = [self._inputs[i] for i in range(min(len(self._inputs), count))]
            for _ in range(await self._shop.handler.handle(self._desk, inputs)):
                self._observed |= isinstance(self._inputs.popleft(), Observed)
            self._settling = True
        if self._desk.owes_reload:
            await self._desk.reload()
        await self._settle()
        self._settling = self._observed = False

    async def _settle(self) -> None:
        """Answer whoever waits and can be answered now; decide again whoever is unknown; steer the effects."""
        entry, desk = self._desk.entry, self._desk
        if entry is None:  # there is no such document (any more): whoever waits is decided again, on that
            self._inputs.extendleft(reversed(desk.waiting))
            desk.waiting.clear()
            return
        state, again = entry.document.state, list[Arrived]()
        under_way = {opened.id for opened in state.open}
        for arrived in [arrived for arrived in desk.waiting if arrived.command.id not in under_way]:
            known = _answer(state, arrived)
            if known is not None:
                self._answering = arrived
                await desk.answer(arrived, entry.loaded(), known)
                self._answering = None
            else:
                again.append(arrived)
            desk.waiting.remove(arrived)
        self._inputs.extendleft(reversed(again))
        if state.open and self._flight is None:
            self._flight = self._shop.flight(self.put)
        if self._flight is not None:
            self._flight.steer(state, observed=self._observed)

    async def _bury(self, error: Exception) -> None:
        """A bug: dead letters with the reason, and verdicts; the partition goes on (must 7).

        What was observed and could not be decided is still open in the document: a marker lets the reconciler resume.
        """
        deciding = bool(self._inputs) and not self._settling
        victim = self._inputs.popleft() if deciding else self._answering
        self._answering = None
        if isinstance(victim, Arrived):  # this one cannot be answered; the others go on
            if victim in self._desk.waiting:
                self._desk.waiting.remove(victim)
            self._desk.bury(victim, error)
            return
        self._settling = self._observed = False
        self._desk.give_up()
        if victim is not None and self._flight is not None:
            self._flight.unreport()
        await self._owe()
        while self._desk.waiting:
            self._desk.bury(self._desk.waiting.pop(), error)

    async def _owe(self) -> None:
        """A marker for what no decision could write down: the reconciler resumes it; an outage is waited out."""
        if self.aggregate.type == "org":
            return  # nothing runs for it
        owed = Unsettled(audit_seq=UNKNOWN_SEQ, why="unconfirmed", due_at=self._desk.now())
        backoff = Backoff(self._shop.clock, self._shop.ids)
        while True:
            try:
                await self._shop.store.put(self._desk.marker(UNKNOWN_SEQ), owed.model_dump_json().encode())
                return
            except Transient as error:
                self._shop.outage(error, aggregate=self.aggregate.key)
                await backoff.pause(error)


def _answer(state: AnyState, arrived: Arrived) -> Answered | Failure | None:
    """What a waiting record gets: all that wait for one command get the same bytes, of its last failure, too."""
    entries: Iterator[Answered | Failure] = chain(state.answered, reversed(state.failures))
    return next((entry for entry in entries if entry.id == arrived.command.id), None)
