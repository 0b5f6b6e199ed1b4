"""The seeded loop: virtual time, an order that the seed decides, frozen and dead processes, nothing from outside."""

import asyncio
import socket
import time
from random import Random

import pytest

from worker.simulation.faults import NO_FAULTS
from worker.simulation.loop import Deadlock, Refused, run
from worker.simulation.process import Process
from worker.simulation.world import World


def seeded(seed: str = "1") -> Random:
    return Random(seed)


def test_an_hour_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    began = time.perf_counter()
    assert run(main(), seeded()) == 3600
    assert time.perf_counter() - began < 10


def order(seed: str) -> list[int]:
    """In which order ten tasks run that are ready at once."""
    ran: list[int] = []

    async def step(number: int) -> None:
        await asyncio.sleep(0)
        ran.append(number)

    async def main() -> None:
        await asyncio.gather(*(step(number) for number in range(10)))

    run(main(), seeded(seed))
    return ran


def test_the_seed_decides_who_of_those_ready_comes_first() -> None:
    orders = [order(str(seed)) for seed in range(5)]
    assert orders == [order(str(seed)) for seed in range(5)]
    assert len({tuple(each) for each in orders}) == 5


def test_timers_run_in_the_order_of_their_times() -> None:
    ran: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for seconds in (3.0, 1.0, 2.0):
            loop.call_later(seconds, ran.append, seconds)
        await asyncio.sleep(4)

    run(main(), seeded())
    assert ran == [1.0, 2.0, 3.0]


def test_many_cancelled_timers_are_forgotten_and_the_others_kept() -> None:
    async def main() -> int:
        for _ in range(1000):
            async with asyncio.timeout(1000):
                await asyncio.sleep(0.001)
        return len(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]  # its own list

    assert run(main(), seeded()) < 300


def test_who_waits_for_nothing_is_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(main(), seeded())


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(Refused, match="thread"):
        run(main(), seeded())


def test_sockets_are_refused() -> None:
    async def main() -> None:
        await asyncio.open_connection("localhost", 1)

    with pytest.raises(Refused, match="socket"):
        run(main(), seeded())


def test_names_are_not_looked_up() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().getaddrinfo("localhost", 1, family=socket.AF_INET)

    with pytest.raises(Refused):
        run(main(), seeded())


# ------------------------------------------------------------------------------ processes


async def ticking(ticks: list[float]) -> None:
    """Every second, for ever; what a `finally` does is seen, too."""
    try:
        while True:
            await asyncio.sleep(1)
            ticks.append(asyncio.get_running_loop().time())
    finally:
        ticks.append(-1)


def started(world: World, ticks: list[float]) -> Process:
    return world.start("process", lambda _: ticking(ticks), lambda _: None)


def test_a_frozen_process_sleeps_and_finds_its_timers_run_out() -> None:
    ticks: list[float] = []

    async def main() -> list[float]:
        world = World("1", NO_FAULTS)
        process = started(world, ticks)
        await asyncio.sleep(2.5)
        world.loop.freeze(process)
        await asyncio.sleep(10)
        world.loop.wake(process)
        await asyncio.sleep(1.2)
        return list(ticks)

    assert run(main(), seeded()) == [1, 2, 12.5, 13.5]


def test_a_killed_process_does_nothing_more_not_even_what_it_left_for_the_end() -> None:
    ticks: list[float] = []
    ends: list[str] = []

    async def main() -> tuple[list[float], list[str]]:
        world = World("1", NO_FAULTS)
        process = world.start("process", lambda _: ticking(ticks), lambda process: ends.append(process.name))
        await asyncio.sleep(2.5)
        world.kill(process, "because")
        await asyncio.sleep(10)
        return list(ticks), list(ends)

    assert run(main(), seeded()) == ([1, 2], ["process"])


def test_tasks_of_a_process_belong_to_it() -> None:
    ticks: list[float] = []

    async def parent() -> None:
        child = asyncio.create_task(ticking(ticks))
        await asyncio.shield(child)

    async def main() -> list[float]:
        world = World("1", NO_FAULTS)
        process = world.start("process", lambda _: parent(), lambda _: None)
        await asyncio.sleep(1.5)
        world.kill(process, "because")
        await asyncio.sleep(3)
        return list(ticks)

    assert run(main(), seeded()) == [1]


def test_a_process_out_of_memory_dies_at_the_step_that_was_drawn() -> None:
    ticks: list[float] = []

    async def main() -> list[float]:
        world = World("1", NO_FAULTS)
        process = started(world, ticks)
        await asyncio.sleep(0.5)
        process.steps_left = 3
        process.exhausted = lambda: world.kill(process, "out of memory")
        await asyncio.sleep(10)
        return list(ticks)

    assert len(run(main(), seeded())) < 4


def test_what_nobody_caught_is_recorded_as_a_bug() -> None:
    async def main() -> list[str]:
        world = World("1", NO_FAULTS)
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        return world.bugs

    [bug] = run(main(), seeded())
    assert "ZeroDivisionError" in bug
