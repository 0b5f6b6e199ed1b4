"""Executors of turns: the published cancel protocol over HTTP, and turns that end, stall, or die with their executor.

A zone is one executor here: it runs one turn of a session at a time.  Knows nothing of the worker.
"""

import asyncio
import json
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Any, Literal
from urllib.parse import unquote

from worker.simulation.remote.web import Answer, Asked, Call, Party, Rates, Reply, broken
from worker.simulation.world import World


@dataclass(frozen=True, slots=True)
class TurnWish:
    """How a turn behaves, in seconds of the simulation; `inf`: never."""

    ends_after_seconds: float = inf
    """When it ends by itself; 0: before anybody could cancel it."""
    outcome: Literal["succeeded", "failed"] = "succeeded"
    """How it ends by itself."""
    stops_after_seconds: float = 0.0
    """How long it goes on after the first cancel; `inf`: it ignores it, and ends by itself at best."""
    silent: bool = False
    """Whether a cancel is neither carried out nor answered."""
    impatient: bool = False
    """Whether its executor answers a first cancel at once, without waiting for the end."""
    remembered_seconds: float = inf
    """How long its executor knows it after its end."""
    tells_outcome: bool = True
    """Whether its executor knows how it ended."""


def drawn_turn(chance: Random) -> TurnWish:
    """A turn like those out there: most of them do as they are told."""
    return TurnWish(
        ends_after_seconds=chance.choices((0.0, chance.expovariate(1 / 20), inf), weights=(10, 50, 40))[0],
        outcome=chance.choices(("succeeded", "failed"), weights=(3, 1))[0],
        stops_after_seconds=chance.choices((0.0, chance.uniform(0.1, 30.0), inf), weights=(60, 35, 5))[0],
        silent=chance.random() < 0.03,
        impatient=chance.random() < 0.2,
        remembered_seconds=chance.choices((inf, chance.uniform(0.0, 20.0)), weights=(80, 20))[0],
        tells_outcome=chance.random() < 0.9,
    )


@dataclass(slots=True)
class Turn:
    """What is true of a turn; times are seconds since the simulation began."""

    zone: str
    session_id: str
    id: str
    wish: TurnWish
    started_at: float
    asked_at: float = inf
    """When the first cancel came."""
    died_at: float = inf
    """When it died with its executor, or made room for the next turn of its session."""
    lost: bool = False
    """Whether its executor has forgotten it."""
    said_ended_at: float = inf
    """When its executor first answered that it does not run (any more)."""

    @property
    def own_end_at(self) -> float:
        return self.started_at + self.wish.ends_after_seconds

    @property
    def ends_at(self) -> float:
        return min(self.own_end_at, self.asked_at + self.wish.stops_after_seconds, self.died_at)

    def running(self, now: float) -> bool:
        """The truth, whatever its executor says."""
        return now < self.ends_at

    def known(self, now: float) -> bool:
        """To its executor."""
        return not self.lost and (self.running(now) or now < self.ends_at + self.wish.remembered_seconds)

    def answer(self, now: float) -> dict[str, Any]:
        """What a cancel is answered with; it was asked to stop, or had ended."""
        if self.running(now):
            return {"turn_id": self.id, "status": "cancelling"}
        if self.ends_at == self.asked_at + self.wish.stops_after_seconds < self.own_end_at:
            return {"turn_id": self.id, "status": "cancelled"}
        told = {"outcome": self.wish.outcome if self.ends_at == self.own_end_at else "failed"}
        return {"turn_id": self.id, "status": "finished", **(told if self.wish.tells_outcome else {})}


class ZoneServer(Party):
    """The executor of a zone."""

    def __init__(self, world: World, name: str, credential: str, rates: Rates, asked: list[Asked]) -> None:
        super().__init__(world, name, credential, rates, asked)
        self.turns: dict[str, Turn] = {}
        self._waiting: dict[asyncio.Future[Reply], None] = {}

    def start(self, session_id: str, turn_id: str, wish: TurnWish) -> Turn:
        """Run a turn; one of its session that still runs makes room."""
        now = self._world.now
        for other in self.turns.values():
            if other.session_id == session_id and other.running(now):
                other.died_at = now
        turn = self.turns[turn_id] = Turn(self.name, session_id, turn_id, wish, now)
        return turn

    def is_cancel(self, call: Call) -> bool:
        return True  # it is all that is asked of an executor

    def answer(self, call: Call) -> Answer:
        turn_id = unquote(call.path.split("/")[-2])
        self.note_cancel(call, "turn", turn_id)
        now, turn = self._world.now, self.turns.get(turn_id)
        if turn is None or not turn.known(now):
            if turn is not None:
                turn.said_ended_at = min(turn.said_ended_at, now)
            others = (other for other in self.turns.values() if other.session_id == call.body["session_id"])
            busy = any(other.running(now) for other in others)
            return _reply({"turn_id": turn_id, "status": "not_running"}, 409 if busy else 404)
        if turn.wish.silent:
            return self._wait()
        first = turn.asked_at == inf
        turn.asked_at = min(turn.asked_at, now)
        seconds = min(max(turn.ends_at - now, 0.0), call.body["timeout_seconds"])
        if seconds > 0 and not (turn.wish.impatient and first):
            return self._after(seconds, turn)
        return self._say(turn)

    def _say(self, turn: Turn) -> Reply:
        said = turn.answer(self._world.now)
        if said["status"] != "cancelling":
            turn.said_ended_at = min(turn.said_ended_at, self._world.now)
        return _reply(said)

    def _after(self, seconds: float, turn: Turn) -> asyncio.Future[Reply]:
        """The answer once the turn has ended, or when the time is up."""
        answer = self._wait()

        def say() -> None:
            if not answer.done():
                answer.set_result(self._say(turn))

        self._world.after(seconds, say)
        return answer

    def _wait(self) -> asyncio.Future[Reply]:
        answer = self.pending()
        self._waiting[answer] = None
        answer.add_done_callback(lambda done: self._waiting.pop(done, None))
        return answer

    def die(self, *, forgets: bool) -> None:
        """Nobody listens any more, and whoever waits for an answer sees that; with its memory go its turns."""
        self._world.note(self.name, "dies", "and forgets" if forgets else "")
        self.service.away = True
        for answer in list(self._waiting):
            if not answer.done():
                answer.set_exception(broken())
                answer.exception()  # whoever waited may be dead: then nobody asks
        if forgets:
            for turn in self.turns.values():
                turn.died_at = min(turn.died_at, max(self._world.now, turn.started_at))
                turn.lost = True

    def come_back(self) -> None:
        self._world.note(self.name, "is back")
        self.service.away = False

    def about_something_else(self, reply: Reply) -> Reply:
        return _reply(json.loads(reply.body) | {"turn_id": "another-turn"}, reply.status)


def _reply(body: dict[str, Any], status: int = 200) -> Reply:
    return Reply(status, json.dumps(body).encode())
