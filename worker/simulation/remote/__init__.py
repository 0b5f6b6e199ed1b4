"""Agents and executors: the other sides of HTTP, which own what runs, and may lie, stall, die, or answer about another.

web           sessions and requests, and what goes wrong on the way
agents        A2A agents and their tasks
executors     executors of turns
"""

from collections.abc import Mapping, Sequence
from typing import cast

from aiohttp import ClientSession
from pydantic import SecretStr

from worker.adapters.a2a import Agent
from worker.adapters.executor import Zone
from worker.simulation.remote.agents import RELEASES, AgentServer, Release, Task, TaskWish, drawn_task
from worker.simulation.remote.executors import Turn, TurnWish, ZoneServer, drawn_turn
from worker.simulation.remote.web import CALM, USUAL, Asked, Party, Rates, Session, refused
from worker.simulation.world import World

__all__ = ["CALM", "USUAL", "Asked", "Rates", "Remote", "Task", "TaskWish", "Turn", "TurnWish"]

CREDENTIAL = "right"
TIMEOUT_SECONDS = 10.0
DEATHS_PER_MINUTE = 0.2
AWAY_SECONDS_MAX = 60.0


class Remote:
    """All agents and zones of a simulation.  `asked` are the cancels that arrived, in order."""

    def __init__(
        self, world: World, agents: Sequence[str] | Mapping[str, Release], zones: Sequence[str], rates: Rates = USUAL
    ) -> None:
        """`agents` by name, with the release of A2A that each speaks (drawn, where it is not said)."""
        self.asked: list[Asked] = []
        self._world = world
        self._chance = world.random("remote")
        releases = agents if isinstance(agents, Mapping) else {name: self._chance.choice(RELEASES) for name in agents}
        self._agents = {
            name: AgentServer(world, name, release, CREDENTIAL, rates, self.asked) for name, release in releases.items()
        }
        self._zones = {name: ZoneServer(world, name, CREDENTIAL, rates, self.asked) for name in zones}
        self._parties: dict[str, Party] = {
            **{_agent_host(name): agent for name, agent in self._agents.items()},
            **{_zone_host(name): zone for name, zone in self._zones.items()},
        }
        self._calm = rates == CALM

    # ------------------------------------------------------------------------------ for the adapters

    def open_session(self) -> ClientSession:
        """What the adapters take for an aiohttp session; made inside of the process that it belongs to."""
        return cast(ClientSession, Session(self))

    def agents(self) -> dict[str, Agent]:
        """The settings of `A2AClient`."""
        credential = SecretStr(CREDENTIAL)
        return {
            name: Agent(url=f"https://{_agent_host(name)}/", credential=credential, timeout_seconds=TIMEOUT_SECONDS)
            for name in self._agents
        }

    def zones(self) -> dict[str, Zone]:
        """The settings of `HttpExecutor`."""
        credential = SecretStr(CREDENTIAL)
        return {name: Zone(url=f"https://{_zone_host(name)}", credential=credential) for name in self._zones}

    def party(self, host: str) -> Party:
        """Raises ClientConnectorError where nobody is."""
        if host not in self._parties:
            raise refused(host)
        return self._parties[host]

    # ------------------------------------------------------------------------------ for the workload

    def start_task(self, agent: str, task_id: str, wish: TaskWish | None = None) -> Task:
        """Run a task; how it behaves is drawn where it is not said."""
        return self._agents[agent].start(task_id, drawn_task(self._chance) if wish is None else wish)

    def start_turn(self, zone: str, session_id: str, turn_id: str, wish: TurnWish | None = None) -> Turn:
        """Run a turn; how it behaves is drawn where it is not said.  Another one of its session makes room."""
        return self._zones[zone].start(session_id, turn_id, drawn_turn(self._chance) if wish is None else wish)

    def zone(self, name: str) -> ZoneServer:
        """The executor of a zone, which may be told to die."""
        return self._zones[name]

    def start(self) -> None:
        """From now on executors die now and then, and come back."""
        for zone in self._zones.values():
            self._dies_later(zone)

    def calm(self) -> None:
        """No trouble from now on, and everybody is there."""
        self._calm = True
        for party in self._parties.values():
            party.calm()
        for zone in self._zones.values():
            zone.come_back()

    def _dies_later(self, zone: ZoneServer) -> None:
        self._world.after(self._chance.expovariate(DEATHS_PER_MINUTE / 60), lambda: self._dies(zone))

    def _dies(self, zone: ZoneServer) -> None:
        if self._calm:
            return
        zone.die(forgets=self._chance.random() < 0.3)
        self._world.after(AWAY_SECONDS_MAX * self._chance.random() ** 2, lambda: self._comes_back(zone))

    def _comes_back(self, zone: ZoneServer) -> None:
        if not self._calm:
            zone.come_back()
            self._dies_later(zone)

    # ------------------------------------------------------------------------------ for the checker

    @property
    def tasks(self) -> dict[str, Task]:
        """By task id."""
        return {task.id: task for agent in self._agents.values() for task in agent.tasks.values()}

    @property
    def turns(self) -> dict[str, Turn]:
        """By turn id."""
        return {turn.id: turn for zone in self._zones.values() for turn in zone.turns.values()}


def _agent_host(name: str) -> str:
    return f"{name}.agents.test"


def _zone_host(name: str) -> str:
    return f"{name}.zones.test"
