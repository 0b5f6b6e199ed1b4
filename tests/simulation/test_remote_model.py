"""Agents and executors as models: they answer as the real ones do, and everything that can go wrong does.

The bodies of the ports' contracts (tests/contract) run over the real adapters on the models; there they run against
agents made with the official SDK, and the example executor.  Knows nothing of the worker's runtime.
"""

from collections.abc import Awaitable, Callable
from math import inf
from random import Random
from typing import Any

import pytest

from tests.contract import test_agents as agents
from tests.contract import test_executors as executors
from worker.adapters.a2a import A2AClient, Agent
from worker.adapters.executor import HttpExecutor, Zone
from worker.adapters.memory_remote import ExecutorTurn
from worker.simulation.faults import NO_FAULTS
from worker.simulation.loop import run
from worker.simulation.remote import CALM, Remote, TaskWish, TurnWish
from worker.simulation.remote.agents import RELEASES, Release
from worker.simulation.world import World

AGENT, ZONE, SESSION = agents.AGENT, executors.ZONE, executors.SESSION
Body = Callable[..., Awaitable[None]]


class Agents:
    """A rig of the contract of agents: the adapter, and a model."""

    def __init__(self, release: Release) -> None:
        self.world = World("1", NO_FAULTS)
        self.remote = Remote(self.world, {AGENT: release}, [], CALM)
        agent = self.remote.agents()[AGENT]
        others = {
            "impatient": agent.model_copy(update={"timeout_seconds": agents.IMPATIENT_SECONDS}),
            "away": Agent(url="https://away.agents.test/"),
        }
        self.client = A2AClient({AGENT: agent, **others}, open_session=self.remote.open_session)

    async def run(self, wish: agents.Wish) -> str:
        task_id = f"task-{len(self.remote.tasks)}"
        made = TaskWish(
            ends_after_seconds=wish.ends_after_seconds,
            outcome=wish.outcome.value,
            stops_after_seconds=agents.LATE_SECONDS if wish.on_cancel == "stops_later" else 0.0,
            refuses_seconds=inf if wish.on_cancel == "not_cancelable" else 0.0,
            behaviour=wish.on_cancel if wish.on_cancel in ("unsupported", "silent") else "normal",
        )
        self.remote.start_task(AGENT, task_id, made)
        return task_id

    async def running(self, task_id: str) -> bool:
        return self.remote.tasks[task_id].running(self.world.now)


class Executors:
    """A rig of the contract of executors: the adapter, and a model."""

    def __init__(self) -> None:
        self.world = World("1", NO_FAULTS)
        self.remote = Remote(self.world, [], [ZONE], CALM)
        url = self.remote.zones()[ZONE].url
        others = {
            "refused": Zone.model_validate({"url": url, "credential": "wrong"}),
            "away": Zone(url="https://away.zones.test"),
        }
        self.executor = HttpExecutor(self.remote.zones() | others, open_session=self.remote.open_session)
        self._sessions = 0

    async def run(self, turn_id: str, turn: ExecutorTurn, *, silent: bool = False) -> None:
        wish = TurnWish(turn.ends_after_seconds, turn.outcome, turn.stops_after_seconds, silent=silent)
        self._sessions += 1  # a session runs one turn at a time, here
        self.remote.start_turn(ZONE, f"{self._sessions}", turn_id, wish)

    async def running(self, turn_id: str) -> bool:
        return self.remote.turns[turn_id].running(self.world.now)


def bodies(module: Any) -> list[Any]:
    """Every test of a contract that takes a rig, with the cases of those that have some."""
    cases = []
    for name, body in sorted(vars(module).items()):
        if not name.startswith("test_") or "rig" not in body.__code__.co_varnames[: body.__code__.co_argcount]:
            continue
        marks = [mark for mark in getattr(body, "pytestmark", []) if mark.name == "parametrize"]
        for value in marks[0].args[1] if marks else [None]:
            arguments = {marks[0].args[0]: value} if marks else {}
            cases.append(pytest.param(body, arguments, id="-".join([name, *map(str, arguments.values())])))
    assert len(cases) > 10
    return cases


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("body", "arguments"), bodies(agents))
def test_the_contract_of_agents_holds_over_the_model(body: Body, arguments: dict[str, Any], release: Release) -> None:
    async def main() -> None:
        rig = Agents(release)
        await rig.client.start()
        await body(rig, **arguments)
        await rig.client.stop()

    run(main(), Random("1"))


@pytest.mark.parametrize(("body", "arguments"), bodies(executors))
def test_the_contract_of_executors_holds_over_the_model(body: Body, arguments: dict[str, Any]) -> None:
    async def main() -> None:
        rig = Executors()
        await rig.executor.start()
        await body(rig, **arguments)
        await rig.executor.stop()

    run(main(), Random("1"))
