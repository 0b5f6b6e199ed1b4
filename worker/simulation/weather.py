"""What happens to processes and servers by itself: each fault comes at random moments, as often as the plan says.

A fault is counted where it met something: a process with a call under way, a server that was asked meanwhile.  Knows
servers by what can be done to them, and nothing of commands.
"""

import asyncio
from collections.abc import Callable, Mapping
from random import Random

from worker.simulation.process import Process
from worker.simulation.service import Service
from worker.simulation.world import World

MINUTE_SECONDS = 60.0
SLEEP_SECONDS_MAX = 600.0
HOUR_SECONDS = 3600.0
MEMORY_STEPS_MAX = 400
"""A process that runs out of memory does so at one of its next steps."""


class Weather:
    """Begins with `start`; `clear` ends it and sets right what it has disturbed."""

    def __init__(
        self,
        world: World,
        workers: Callable[[], list[Process]],
        *,
        session_timeout_seconds: float,
        servers: Mapping[str, Service],
        rebalance: Callable[[], bool],
        burst: Callable[[float], None],
        terminate: Callable[[Process], None],
    ) -> None:
        """`servers` by the fault that takes them away; `rebalance` says whether there was anything to move."""
        self._world, self._workers = world, workers
        self._servers = servers
        self._acts: dict[str, Callable[[Random], None]] = {
            "F5": lambda _: self._rebalance(rebalance),
            "F6": lambda chance: self._falls_asleep("F6", chance, _long_or_short(chance)),
            "F19": lambda chance: burst(chance.uniform(0.5, 10.0)),
            "F36": lambda chance: self._strike("F36", chance, lambda process: self._terminate(process, terminate)),
            "F37": lambda chance: self._strike("F37", chance, lambda process: world.kill(process, "SIGKILL")),
            "F38": lambda chance: self._falls_asleep(
                "F38", chance, session_timeout_seconds * chance.uniform(1.05, 1.6)
            ),
            "F39": lambda chance: self._jumps(chance, chance.choice((-HOUR_SECONDS, HOUR_SECONDS))),
            "F40": self._exhaust,
        }
        self._acts |= {fault: self._goes_away(fault, server) for fault, server in servers.items()}
        self._tasks: list[asyncio.Task[None]] = []
        self._away: dict[str, int] = {}

    def start(self) -> None:
        for fault, act in self._acts.items():
            if self._world.faults.rate(fault) > 0:
                self._tasks.append(self._world.spawn(self._again_and_again(fault, act), f"weather {fault}"))

    def clear(self) -> None:
        """No more of it: servers answer, sleepers wake, clocks are right."""
        for task in self._tasks:
            task.cancel()
        for server in self._servers.values():
            server.away = False
        for process in self._workers():
            process.clock.skew_seconds = 0.0
            self._world.loop.wake(process)

    async def _again_and_again(self, fault: str, act: Callable[[Random], None]) -> None:
        chance = self._world.faults.source(fault)
        while True:
            await asyncio.sleep(chance.expovariate(self._world.faults.rate(fault) / MINUTE_SECONDS))
            act(chance)

    # ------------------------------------------------------------------------------ processes

    def _one(self, chance: Random) -> Process | None:
        awake = [process for process in self._workers() if process.state == "running"]
        return chance.choice(awake) if awake else None

    def _strike(self, fault: str, chance: Random, act: Callable[[Process], None]) -> None:
        """At its next call, since between two of them nearly nothing can go wrong."""
        process = self._one(chance)
        if process is None:
            return

        def ambush() -> None:
            if process.state == "running":
                if process.in_flight:
                    self._world.faults.met(fault)
                act(process)

        process.ambush = ambush

    def _exhaust(self, chance: Random) -> None:
        """Not at a call, but at any step of the loop."""
        if process := self._one(chance):
            process.steps_left = chance.randrange(MEMORY_STEPS_MAX)
            process.exhausted = lambda: self._killed_by_the_kernel(process)

    def _killed_by_the_kernel(self, process: Process) -> None:
        self._world.faults.met("F40")
        self._world.kill(process, "out of memory")

    def _falls_asleep(self, fault: str, chance: Random, seconds: float) -> None:
        self._strike(fault, chance, lambda process: self._sleep(process, seconds))

    def _jumps(self, chance: Random, seconds: float) -> None:
        self._strike("F39", chance, lambda process: self._jump(process, seconds))

    def _sleep(self, process: Process, seconds: float) -> None:
        self._world.note(process.name, "sleeps", f"{seconds:.3f} s")
        self._world.loop.freeze(process)
        self._world.after(seconds, lambda: self._wake(process))

    def _wake(self, process: Process) -> None:
        if process.state == "frozen":
            self._world.note(process.name, "wakes")
            self._world.loop.wake(process)

    def _terminate(self, process: Process, terminate: Callable[[Process], None]) -> None:
        self._world.note(process.name, "SIGTERM")
        terminate(process)

    def _jump(self, process: Process, seconds: float) -> None:
        process.clock.skew_seconds = seconds
        self._world.note(process.name, "clock", f"{seconds:+.0f} s")

    # ------------------------------------------------------------------------------ servers

    def _rebalance(self, rebalance: Callable[[], bool]) -> None:
        if rebalance():
            self._world.faults.met("F5")

    def _goes_away(self, fault: str, server: Service) -> Callable[[Random], None]:
        longest = 300.0 if fault == "F34" else 60.0

        def act(chance: Random) -> None:
            seconds = longest * chance.random() ** 3 + 0.2
            self._world.note(server.name, "away", f"{seconds:.3f} s")
            server.away = True
            number = self._away[fault] = self._away.get(fault, 0) + 1
            self._world.after(seconds, lambda: self._comes_back(fault, server, number))

        return act

    def _comes_back(self, fault: str, server: Service, number: int) -> None:
        """Unless it went away again meanwhile."""
        if self._away[fault] == number:
            self._world.note(server.name, "back")
            server.away = False


def _long_or_short(chance: Random) -> float:
    """Seconds: mostly some, at most ten minutes."""
    return SLEEP_SECONDS_MAX * chance.random() ** 4
