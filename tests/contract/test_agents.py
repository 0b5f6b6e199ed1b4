"""The contract of AgentClient, over each implementation, and what `A2AClient` says to real agents.

They are made with the official a2a-sdk, one release per dialect, each in a process of its own (see tests/peers);
what no sane agent says is in test_a2a.py.  `MemoryAgents` is the double.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Protocol

import pytest

from tests.peers.environment import RELEASES
from tests.peers.process import Peer
from worker.adapters.a2a import A2AClient, Agent
from worker.adapters.http import open_session
from worker.adapters.memory_remote import AgentTask, Fault, MemoryAgents
from worker.adapters.system import SystemClock
from worker.errors import Refused, Unavailable
from worker.ports import AgentClient, TaskAnswer, TaskState

AGENT = "harness-builder"
TIMEOUT_SECONDS = 5.0
IMPATIENT_SECONDS = 0.3
LATE_SECONDS = 0.5
PEERS = [*((release, "/") for release in RELEASES), ("1.3.0", "/both")]
"""The last serves both dialects at one URL."""
OUTCOMES = [TaskState.COMPLETED, TaskState.FAILED, TaskState.REJECTED]


@dataclass(frozen=True)
class Wish:
    """How a task behaves, for every implementation."""

    outcome: TaskState = TaskState.COMPLETED
    ends_after_seconds: float = 3600.0
    on_cancel: Literal["stops", "stops_later", "not_cancelable", "unsupported", "silent"] = "stops"


class Rig(Protocol):
    """An implementation, and the other side of it."""

    @property
    def client(self) -> AgentClient: ...

    async def run(self, wish: Wish) -> str:
        """-> the id of a task that runs."""

    async def running(self, task_id: str) -> bool:
        """The truth about a task's work, not by way of the port."""


class Peers:
    """The adapter, and an agent made with the official SDK."""

    def __init__(self, release: str, path: str, url: str) -> None:
        self.speaks_only_the_new_dialect = (release, path) == ("1.3.0", "/")
        self._url, self._session = url, open_session()
        self._agents = {
            AGENT: Agent(url=url + path, timeout_seconds=TIMEOUT_SECONDS),
            "impatient": Agent(url=url + path, timeout_seconds=IMPATIENT_SECONDS),
            "away": Agent(url="http://127.0.0.1:1"),
        }
        self.client = A2AClient(self._agents)

    async def run(self, wish: Wish) -> str:
        body = {
            "ends_after_seconds": wish.ends_after_seconds,
            "outcome": wish.outcome.value,
            "on_cancel": wish.on_cancel,
        }
        async with self._session.post(f"{self._url}/tests/tasks", json=body) as response:
            return str((await response.json())["task_id"])

    async def running(self, task_id: str) -> bool:
        async with self._session.get(f"{self._url}/tests/tasks/{task_id}") as response:
            return bool((await response.json())["running"])

    async def asked(self) -> list[dict[str, Any]]:
        """Every call that came over the wire so far."""
        async with self._session.get(f"{self._url}/tests/asked") as response:
            calls: list[dict[str, Any]] = await response.json()
            return calls

    async def close(self) -> None:
        await self._session.close()


class InMemory:
    """The double."""

    def __init__(self) -> None:
        agents = [AGENT, "impatient", "away"]
        self.client = MemoryAgents(SystemClock(), agents, timeout_seconds=IMPATIENT_SECONDS)
        self.client.faults = {"away": Fault.UNAVAILABLE}
        self._started = 0

    async def run(self, wish: Wish) -> str:
        self._started += 1
        task_id = f"task-{self._started}"
        if wish.on_cancel == "silent":
            self.client.faults["impatient"] = Fault.SILENT
        task = AgentTask(outcome=wish.outcome, ends_after_seconds=wish.ends_after_seconds)
        if wish.on_cancel in ("not_cancelable", "unsupported"):
            task.on_cancel = wish.on_cancel
        if wish.on_cancel == "stops_later":
            task.stops_after_seconds = LATE_SECONDS
        self.client.run(AGENT, task_id, task)
        return task_id

    async def running(self, task_id: str) -> bool:
        return self.client.running(AGENT, task_id)


@pytest.fixture(scope="session")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One agent per release, for all tests: by release, where it listens."""
    folder = tmp_path_factory.mktemp("peers")
    with ExitStack() as running:
        started = [(release, Peer(release, folder / f"{release}.log")) for release in RELEASES]
        yield {release: running.enter_context(peer) for release, peer in started}


@asynccontextmanager
async def over_a2a(peer: tuple[str, str], urls: dict[str, str]) -> AsyncIterator[Peers]:
    release, path = peer
    rig = Peers(release, path, urls[release])
    await rig.client.start()
    yield rig
    await rig.client.stop()
    await rig.close()


@pytest.fixture(params=[*PEERS, None], ids=[*map("".join, PEERS), "memory"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param is None:
        yield InMemory()
        return
    async with over_a2a(request.param, request.getfixturevalue("urls")) as rig:
        yield rig


@pytest.fixture(params=PEERS, ids="".join)
async def peers(request: pytest.FixtureRequest, urls: dict[str, str]) -> AsyncIterator[Peers]:
    async with over_a2a(request.param, urls) as rig:
        yield rig


async def reaches(rig: Rig, task_id: str, state: TaskState) -> bool:
    """Ask until the agent says so; False: it never did."""
    for _ in range(200):
        if await rig.client.get(AGENT, task_id) == state:
            return True
        await asyncio.sleep(0.02)
    return False


# ------------------------------------------------------------------------------ every implementation


async def test_a_running_task_is_cancelled_and_its_work_has_stopped(rig: Rig) -> None:
    task, other = await rig.run(Wish()), await rig.run(Wish())
    assert await reaches(rig, task, TaskState.WORKING)
    assert await reaches(rig, other, TaskState.WORKING)
    assert await rig.client.cancel(AGENT, task, None) == TaskState.CANCELED
    assert not await rig.running(task)
    assert await rig.running(other), "no other task is touched"
    assert await rig.client.get(AGENT, task) == TaskState.CANCELED
    assert await rig.client.get(AGENT, other) == TaskState.WORKING


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_finished_task_is_not_cancelable_and_keeps_its_outcome(rig: Rig, outcome: TaskState) -> None:
    task = await rig.run(Wish(outcome, ends_after_seconds=0))
    assert await reaches(rig, task, outcome)
    assert await rig.client.cancel(AGENT, task, None) == TaskAnswer.NOT_CANCELABLE
    assert await rig.client.get(AGENT, task) == outcome


async def test_a_cancelled_task_is_not_cancelable_again_and_stays_cancelled(rig: Rig) -> None:
    task = await rig.run(Wish())
    assert await reaches(rig, task, TaskState.WORKING)
    assert await rig.client.cancel(AGENT, task, None) == TaskState.CANCELED
    assert await rig.client.cancel(AGENT, task, None) == TaskAnswer.NOT_CANCELABLE
    assert await rig.client.get(AGENT, task) == TaskState.CANCELED


async def test_an_unknown_task_is_not_found(rig: Rig) -> None:
    assert await rig.client.cancel(AGENT, "no-such-task", "session-1") == TaskAnswer.NOT_FOUND
    assert await rig.client.get(AGENT, "no-such-task") == TaskAnswer.NOT_FOUND


async def test_a_task_that_refuses_runs_on(rig: Rig) -> None:
    task = await rig.run(Wish(on_cancel="not_cancelable"))
    assert await reaches(rig, task, TaskState.WORKING)
    assert await rig.client.cancel(AGENT, task, None) == TaskAnswer.NOT_CANCELABLE
    assert await rig.client.get(AGENT, task) == TaskState.WORKING
    assert await rig.running(task)


async def test_an_agent_that_cannot_cancel_says_so(rig: Rig) -> None:
    task = await rig.run(Wish(on_cancel="unsupported"))
    assert await reaches(rig, task, TaskState.WORKING)
    assert await rig.client.cancel(AGENT, task, None) == TaskAnswer.UNSUPPORTED
    assert await rig.running(task)


async def test_a_task_that_needs_its_time_is_working_until_it_has_stopped(rig: Rig) -> None:
    task = await rig.run(Wish(on_cancel="stops_later"))
    assert await reaches(rig, task, TaskState.WORKING)
    assert await rig.client.cancel(AGENT, task, None) == TaskState.WORKING
    assert await rig.running(task)
    assert await reaches(rig, task, TaskState.CANCELED)
    assert not await rig.running(task)


async def test_a_silent_agent_is_unavailable_after_its_time_out(rig: Rig) -> None:
    task = await rig.run(Wish(on_cancel="silent"))
    async with asyncio.timeout(IMPATIENT_SECONDS + 1):
        with pytest.raises(Unavailable, match=r"'impatient' did not answer within"):
            await rig.client.cancel("impatient", task, None)
    assert await rig.running(task)


async def test_an_agent_that_cannot_be_reached_is_unavailable(rig: Rig) -> None:
    with pytest.raises(Unavailable, match="'away' cannot be reached"):
        await rig.client.cancel("away", "task-1", None)


async def test_an_agent_that_is_not_in_the_settings_is_refused(rig: Rig) -> None:
    for agent in ("stranger", "http://127.0.0.1:1/"):
        with pytest.raises(Refused, match="not in the settings"):
            await rig.client.cancel(agent, "task-1", None)
        with pytest.raises(Refused, match="not in the settings"):
            await rig.client.get(agent, "task-1")


async def test_many_calls_run_at_once(rig: Rig) -> None:
    tasks = [await rig.run(Wish()) for _ in range(10)]
    for task in tasks:
        assert await reaches(rig, task, TaskState.WORKING)
    answers = await asyncio.gather(*(rig.client.cancel(AGENT, task, None) for task in tasks))
    assert answers == [TaskState.CANCELED] * 10
    assert not any([await rig.running(task) for task in tasks])


async def test_stop_tolerates_a_second_stop_and_stop_before_start(rig: Rig) -> None:
    await rig.client.stop()
    await rig.client.stop()
    await rig.client.start()
    assert await rig.client.get(AGENT, "no-such-task") == TaskAnswer.NOT_FOUND


async def test_the_double_lies_loses_answers_and_remembers_what_it_was_asked() -> None:
    agents = MemoryAgents(SystemClock(), [AGENT])
    agents.run(AGENT, "task-1", AgentTask(says=[TaskState.CANCELED, TaskState.COMPLETED]))
    assert await agents.cancel(AGENT, "task-1", "session-1") == TaskState.CANCELED
    assert await agents.get(AGENT, "task-1") == TaskState.COMPLETED
    assert agents.running(AGENT, "task-1"), "it only said so"
    agents.faults[AGENT] = Fault.LOSES_ANSWERS
    with pytest.raises(Unavailable, match="the connection broke"):
        await agents.cancel(AGENT, "task-1", None)
    assert not agents.running(AGENT, "task-1"), "it was done, only the answer was lost"
    agents.faults[AGENT] = Fault.REFUSES
    with pytest.raises(Refused, match="refuses this worker's credential"):
        await agents.get(AGENT, "task-1")
    assert [(call.method, call.id, call.session_id) for call in agents.asked] == [
        ("cancel", "task-1", "session-1"),
        ("get", "task-1", None),
        ("cancel", "task-1", None),
        ("get", "task-1", None),
    ]


async def test_a_task_of_the_double_may_succeed_although_it_is_being_cancelled() -> None:
    agents = MemoryAgents(SystemClock(), [AGENT])
    agents.run(AGENT, "task-1", AgentTask(ends_after_seconds=0.1, stops_after_seconds=inf))
    assert await agents.cancel(AGENT, "task-1", None) == TaskState.WORKING
    await asyncio.sleep(0.12)
    assert await agents.get(AGENT, "task-1") == TaskState.COMPLETED


# ------------------------------------------------------------------------------ the wire


@pytest.mark.parametrize("state", [TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED])
async def test_a_task_that_waits_for_somebody_is_not_final_and_can_be_cancelled(peers: Peers, state: TaskState) -> None:
    task = await peers.run(Wish(state, ends_after_seconds=0))
    assert await reaches(peers, task, state)
    assert await peers.client.cancel(AGENT, task, None) == TaskState.CANCELED


async def test_the_session_goes_along_as_metadata(peers: Peers) -> None:
    task = await peers.run(Wish())
    assert await reaches(peers, task, TaskState.WORKING)
    assert await peers.client.cancel(AGENT, task, "session-1") == TaskState.CANCELED
    assert (await peers.asked())[-1]["params"] == {"id": task, "metadata": {"session_id": "session-1"}}


async def test_the_dialect_that_an_agent_understands_is_found_and_remembered(peers: Peers) -> None:
    before = len(await peers.asked())
    for _ in range(3):
        await peers.client.cancel(AGENT, "no-such-task", None)
    asked = [(call["method"], call["headers"].get("a2a-version")) for call in await peers.asked()][before:]
    old, new = ("tasks/cancel", None), ("CancelTask", "1.0")
    assert asked == ([old, new, new, new] if peers.speaks_only_the_new_dialect else [old, old, old])
