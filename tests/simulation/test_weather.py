"""What happens by itself: each fault of it strikes while something is under way, and clears away in the end."""

import asyncio
from collections import Counter
from random import Random

import pytest

from worker.simulation.faults import NO_FAULTS, Plan
from worker.simulation.loop import run
from worker.simulation.process import Process
from worker.simulation.service import Service, Troubles
from worker.simulation.weather import Weather
from worker.simulation.world import World

SECONDS = 600.0


class Place:
    """Two workers that call a server again and again, and are started again when they die."""

    def __init__(self, plan: Plan) -> None:
        self.world = World("1", plan)
        self.server = Service(self.world, "server", Troubles(away="F11"))
        self.workers: dict[int, Process] = {}
        self.terminated: list[Process] = []
        self.lives = 0
        self.calls: Counter[Process] = Counter()
        self.weather = Weather(
            self.world,
            lambda: list(self.workers.values()),
            session_timeout_seconds=10.0,
            servers={"F11": self.server},
            rebalance=lambda: True,
            burst=lambda seconds: None,
            terminate=self.terminated.append,
        )

    def start(self, number: int) -> None:
        self.lives += 1
        name = f"worker-{number}.{self.lives}"
        self.workers[number] = self.world.start(name, self._work, lambda _: self.start(number))

    async def _work(self, process: Process) -> None:
        while True:
            try:
                await self.server.call("act", lambda: None, refused=ConnectionRefusedError, broken=None)
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)
            self.calls[process] += 1


def after_ten_minutes(fault: str) -> Place:
    async def main() -> Place:
        place = Place(Plan(rates=NO_FAULTS.rates | {fault: 4.0}))
        place.start(0)
        place.start(1)
        place.weather.start()
        await asyncio.sleep(SECONDS)
        place.world.faults.off()
        place.weather.clear()
        assert not place.server.away
        assert all(process.state == "running" for process in place.workers.values())
        assert all(process.clock.skew_seconds == 0 for process in place.workers.values())
        place.calls.clear()
        await asyncio.sleep(SECONDS)
        assert min(place.calls[process] for process in place.workers.values()) > SECONDS
        return place

    return run(main(), Random("1"))


@pytest.mark.parametrize("fault", ["F5", "F6", "F11", "F36", "F37", "F38", "F39", "F40"])
def test_each_strikes_and_is_counted(fault: str) -> None:
    place = after_ten_minutes(fault)
    assert place.world.faults.counts[fault] > 2
    assert set(place.world.faults.counts) == {fault}


@pytest.mark.parametrize("fault", ["F37", "F40"])
def test_who_is_killed_begins_again(fault: str) -> None:
    assert after_ten_minutes(fault).lives > 10


def test_who_is_told_to_stop_hears_of_it() -> None:
    assert len(after_ten_minutes("F36").terminated) > 10
