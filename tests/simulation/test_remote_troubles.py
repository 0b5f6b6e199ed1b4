"""What goes wrong with agents and executors: each fault and trouble strikes, is counted, and looks as in reality."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, replace
from random import Random
from typing import Any, TypeVar

import pytest

from worker.adapters.a2a import A2AClient
from worker.adapters.executor import HttpExecutor
from worker.errors import Refused, Unavailable
from worker.ports import TaskAnswer, TaskState, TurnAnswer
from worker.simulation.faults import NO_FAULTS, Plan
from worker.simulation.loop import run
from worker.simulation.remote import CALM, USUAL, Rates, Remote, TaskWish, TurnWish
from worker.simulation.remote.agents import Release
from worker.simulation.world import World

T = TypeVar("T")
AGENT, ZONE = "agent", "zone-1"
SESSION = f"{'0' * 26}.{ZONE}"


def always(*faults: str) -> Plan:
    return Plan(rates=NO_FAULTS.rates | dict.fromkeys(faults, 1.0))


class Zoo:
    """An agent and a zone, with a task and a turn that stop at once, and the clients of a worker."""

    def __init__(self, plan: Plan = NO_FAULTS, rates: Rates = CALM, seed: str = "1", release: Release = "0.3") -> None:
        self.world = World(seed, plan)
        self.remote = Remote(self.world, {AGENT: release}, [ZONE], rates)
        self.task = self.remote.start_task(AGENT, "task-1", TaskWish())
        self.turn = self.remote.start_turn(ZONE, SESSION, "turn-1", TurnWish())
        self.agents = A2AClient(self.remote.agents(), open_session=self.remote.open_session)
        self.executors = HttpExecutor(self.remote.zones(), open_session=self.remote.open_session)

    async def cancel(self) -> TaskState | TaskAnswer:
        await self.agents.start()
        return await self.agents.cancel(AGENT, "task-1", None)

    async def cancel_turn(self, turn_id: str = "turn-1", timeout_seconds: float = 5) -> TurnAnswer:
        await self.executors.start()
        return await self.executors.cancel(ZONE, SESSION, turn_id, timeout_seconds)


def in_zoo(act: Callable[[Zoo], Awaitable[T]], *options: Any) -> tuple[T, Zoo]:
    async def main() -> tuple[T, Zoo]:
        zoo = Zoo(*options)
        return await act(zoo), zoo

    return run(main(), Random("1"))


async def unavailable(zoo: Zoo) -> str:
    with pytest.raises(Unavailable) as raised:
        await zoo.cancel()
    return str(raised.value)


@pytest.mark.parametrize(
    ("fault", "says", "runs"),
    [("F20", "did not answer within 10 s", True), ("F26", "the connection broke", False), ("F28", "HTTP 429", True)],
)
def test_a_fault_strikes_and_is_counted(fault: str, says: str, runs: bool) -> None:
    told, zoo = in_zoo(unavailable, always(fault))
    assert says in told
    assert zoo.world.faults.counts == {fault: 1}
    assert zoo.task.running(zoo.world.now) is runs


def test_a_credential_that_was_rotated_is_refused_until_it_is_put_right() -> None:
    async def act(zoo: Zoo) -> TaskState | TaskAnswer:
        with pytest.raises(Refused, match="refuses this worker's credential"):
            await zoo.cancel()
        zoo.world.faults.off()
        with pytest.raises(Refused, match="refuses this worker's credential"):
            await zoo.cancel()
        await asyncio.sleep(60)
        return await zoo.cancel()

    answer, zoo = in_zoo(act, always("F29"))
    assert answer == TaskState.CANCELED
    assert zoo.world.faults.counts == {"F29": 2}, "drawn once, and met once"


@pytest.mark.parametrize(
    ("trouble", "says", "runs"),
    [
        ("request_lost", "the connection broke", True),
        ("reply_lost", "the connection broke", False),
        ("reply_cut", "the connection broke", False),
        ("error", "answered HTTP 50", True),
        ("garbage", "with what is no A2A response", True),
        ("other", "answered about something else", False),
    ],
)
def test_a_trouble_without_a_number_strikes(trouble: str, says: str, runs: bool) -> None:
    told, zoo = in_zoo(unavailable, NO_FAULTS, Rates(**{**asdict(CALM), trouble: 1.0}))
    assert says in told
    assert zoo.task.running(zoo.world.now) is runs


def test_a_late_cancel_is_carried_out_after_its_sender_gave_up() -> None:
    async def act(zoo: Zoo) -> bool:
        assert "did not answer within" in await unavailable(zoo)
        zoo.remote.calm()
        await asyncio.sleep(40)
        return zoo.task.running(zoo.world.now)

    still, zoo = in_zoo(act, NO_FAULTS, replace(CALM, late=1.0))
    assert not still
    assert [(asked.what, asked.party, asked.id) for asked in zoo.remote.asked] == [("task", AGENT, "task-1")]


def test_an_answer_that_comes_twice_is_not_taken_for_another() -> None:
    async def act(zoo: Zoo) -> None:
        assert await zoo.cancel() == TaskState.CANCELED
        with pytest.raises(Unavailable, match="answered about something else"):
            await zoo.agents.get(AGENT, "task-1")

    in_zoo(act, NO_FAULTS, replace(CALM, twice=1.0))


def test_an_agent_pretends_and_its_task_runs_on() -> None:
    async def act(zoo: Zoo) -> None:
        task = zoo.remote.start_task(AGENT, "task-2", TaskWish(behaviour="pretends"))
        await zoo.agents.start()
        assert await zoo.agents.cancel(AGENT, "task-2", None) == TaskState.CANCELED
        assert task.running(zoo.world.now)
        assert task.said_ended_at <= zoo.world.now, "so the checker excuses it"

    in_zoo(act)


def test_an_agent_that_has_lost_a_task_says_so_and_one_with_a_script_says_that_first() -> None:
    async def act(zoo: Zoo) -> None:
        zoo.remote.start_task(AGENT, "task-2", TaskWish(behaviour="forgotten"))
        zoo.remote.start_task(AGENT, "task-3", TaskWish(says=("paused",)))
        await zoo.agents.start()
        assert await zoo.agents.cancel(AGENT, "task-2", None) == TaskAnswer.NOT_FOUND
        answers = [await zoo.agents.cancel(AGENT, "task-3", None) for _ in range(2)]
        assert answers == [TaskState.UNKNOWN, TaskState.CANCELED]

    in_zoo(act)


def test_while_the_next_turn_runs_an_unknown_one_does_not_and_the_last_one_has_ended() -> None:
    async def act(zoo: Zoo) -> list[TurnAnswer]:
        zoo.remote.start_turn(ZONE, SESSION, "turn-2", TurnWish())
        return [await zoo.cancel_turn("turn-0"), await zoo.cancel_turn("turn-1")]

    answers, zoo = in_zoo(act)
    assert answers == [TurnAnswer("not_running"), TurnAnswer("finished", "failed")]
    assert zoo.remote.turns["turn-2"].running(zoo.world.now)


@pytest.mark.parametrize(("forgets", "after"), [(False, TurnAnswer("cancelled")), (True, TurnAnswer("not_running"))])
def test_an_executor_dies_and_comes_back_with_its_memory_or_without(forgets: bool, after: TurnAnswer) -> None:
    async def act(zoo: Zoo) -> None:
        zoo.remote.start_turn(ZONE, SESSION, "turn-2", TurnWish(stops_after_seconds=20))
        zone = zoo.remote.zone(ZONE)
        zoo.world.after(1, lambda: zone.die(forgets=forgets))
        with pytest.raises(Unavailable, match="the connection broke"):
            await zoo.cancel_turn("turn-2", 10)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await zoo.cancel_turn("turn-2", 10)
        assert zoo.remote.turns["turn-2"].running(zoo.world.now) is not forgets
        zone.come_back()
        await asyncio.sleep(20)
        assert await zoo.cancel_turn("turn-2") == after

    in_zoo(act)


def test_an_impatient_executor_answers_at_once_and_the_next_time_it_waits() -> None:
    async def act(zoo: Zoo) -> list[TurnAnswer]:
        zoo.remote.start_turn(ZONE, "another", "turn-2", TurnWish(stops_after_seconds=3, impatient=True))
        return [await zoo.cancel_turn("turn-2"), await zoo.cancel_turn("turn-2")]

    answers, _ = in_zoo(act)
    assert answers == [TurnAnswer("cancelling"), TurnAnswer("cancelled")]


def test_a_closed_session_asks_nobody() -> None:
    async def act(zoo: Zoo) -> None:
        session = zoo.remote.open_session()
        await session.close()
        with pytest.raises(RuntimeError, match="Session is closed"):
            async with session.post("https://agent.agents.test/", data=b"{}", headers={}, allow_redirects=False):
                pass

    in_zoo(act)


async def many(zoo: Zoo) -> None:
    """A few hundred calls about everything that behaves as it likes."""
    zoo.remote.start()
    await zoo.agents.start()
    for number in range(100):
        zoo.remote.start_task(AGENT, f"any-{number}")
        zoo.remote.start_turn(ZONE, SESSION, f"any-{number}")
        with suppress(Unavailable, Refused):
            await zoo.agents.cancel(AGENT, f"any-{number}", None)
        with suppress(Unavailable, Refused):
            await zoo.agents.get(AGENT, f"any-{number}")
        with suppress(Unavailable, Refused):
            await zoo.cancel_turn(f"any-{number}", 2)


def test_the_same_seed_gives_the_same_trace_and_another_one_another() -> None:
    traces = [in_zoo(many, Plan().without("F1"), USUAL, seed)[1].world.trace_hash for seed in ("1", "1", "2")]
    assert traces[0] == traces[1] != traces[2]


def test_every_fault_of_these_parties_strikes_by_itself() -> None:
    counts: Counter[str] = Counter()
    for seed in range(6):
        counts += in_zoo(many, Plan().without("F1"), USUAL, str(seed))[1].world.faults.counts
    assert {fault for fault, count in counts.items() if count > 0} == {"F20", "F26", "F28", "F29"}
