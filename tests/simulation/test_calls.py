"""How a call travels: applied once it arrives, whatever became of its sender; each trouble counted where it strikes."""

import asyncio
from random import Random
from typing import Any

import pytest

from worker.simulation.faults import NO_FAULTS, Plan
from worker.simulation.loop import run
from worker.simulation.service import Service, Troubles
from worker.simulation.world import World

TROUBLES = Troubles(request_lost="F2", reply_lost="F3", late="F4", hang="F20", away="F11")


def always(*faults: str) -> Plan:
    return Plan(rates=NO_FAULTS.rates | dict.fromkeys(faults, 1.0))


class Server:
    """Counts what it applied."""

    def __init__(self, plan: Plan) -> None:
        self.world = World("1", plan)
        self.service = Service(self.world, "server", TROUBLES)
        self.applied: list[float] = []

    def serve(self) -> int:
        self.applied.append(self.world.now)
        return len(self.applied)

    async def call(self, timeout_seconds: float = 100.0, *, broken: bool = True) -> int:
        async with asyncio.timeout(timeout_seconds):
            lost = (lambda: ConnectionResetError("lost")) if broken else None
            return await self.service.call("act", self.serve, refused=ConnectionRefusedError, broken=lost)


def outcome(plan: Plan, act: Any) -> tuple[Any, Server]:
    """Of a coroutine over a server."""

    async def main() -> tuple[Any, Server]:
        server = Server(plan)
        return await act(server), server

    return run(main(), Random("1"))


def test_without_trouble_it_is_applied_and_answered() -> None:
    answer, server = outcome(NO_FAULTS, lambda server: server.call())
    assert answer == 1
    assert len(server.applied) == 1
    assert server.service.busy == 0


def test_a_lost_request_is_not_applied() -> None:
    async def act(server: Server) -> None:
        with pytest.raises(ConnectionResetError):
            await server.call()

    _, server = outcome(always("F2"), act)
    assert server.applied == []
    assert server.world.faults.counts == {"F2": 1}


def test_a_lost_reply_leaves_it_applied() -> None:
    async def act(server: Server) -> None:
        with pytest.raises(ConnectionResetError):
            await server.call()

    _, server = outcome(always("F3"), act)
    assert len(server.applied) == 1
    assert server.world.faults.counts == {"F3": 1}


def test_a_late_request_is_applied_after_its_sender_gave_up() -> None:
    async def act(server: Server) -> float:
        with pytest.raises(TimeoutError):
            await server.call(0.5)
        gave_up = server.world.now
        await asyncio.sleep(100)
        return gave_up

    gave_up, server = outcome(always("F4"), act)
    assert len(server.applied) == 1
    assert server.applied[0] > gave_up
    assert server.service.busy == 0


def test_a_request_is_applied_although_its_sender_died_meanwhile() -> None:
    async def act(server: Server) -> list[int]:
        answers: list[int] = []

        async def main() -> None:
            answers.append(await server.call())

        process = server.world.start("process", lambda _: main(), lambda _: None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        server.world.kill(process, "because")
        await asyncio.sleep(10)
        assert process.in_flight == 0
        return answers

    answers, server = outcome(NO_FAULTS, act)
    assert answers == []
    assert len(server.applied) == 1


def test_a_server_that_is_away_refuses() -> None:
    async def act(server: Server) -> None:
        server.service.away = True
        with pytest.raises(ConnectionRefusedError):
            await server.call()

    _, server = outcome(NO_FAULTS, act)
    assert server.applied == []
    assert server.world.faults.counts == {"F11": 1}


@pytest.mark.parametrize("seed", range(8))
def test_a_crash_comes_before_or_after_a_call_and_never_in_the_middle_of_its_application(seed: int) -> None:
    async def main() -> tuple[int, list[int], int]:
        server = Server(Plan(rates=NO_FAULTS.rates | {"F1": 0.5}))
        answers: list[int] = []

        async def work() -> None:
            while True:
                answers.append(await server.call())

        server.world.start("process", lambda _: work(), lambda _: None)
        await asyncio.sleep(1000)
        return len(server.applied), answers, server.world.faults.counts["F1"]

    applied, answers, crashes = run(main(), Random(seed))
    assert crashes == 1
    assert applied - len(answers) in (0, 1)
