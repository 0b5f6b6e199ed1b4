"""The contract of TurnExecutor, over each implementation: a turn is named, and the answer is true of that turn.

`HttpExecutor` speaks to the example executor, whose turns are child processes; `MemoryExecutors` is the double.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Literal, Protocol

import pytest
from aiohttp import web

from tests.peers.raw import answer, raw, says
from worker.adapters.executor import HttpExecutor, Zone
from worker.adapters.http import open_session
from worker.adapters.memory_remote import ExecutorTurn, Fault, MemoryExecutors
from worker.adapters.system import SystemClock
from worker.demo.executor import application
from worker.errors import Refused, Unavailable
from worker.ports import TurnAnswer, TurnExecutor

ZONE = "eu-1"
SESSION = f"{'0' * 26}.{ZONE}"
LATE_SECONDS = 0.3


def is_alive(pid: int) -> bool:
    """What the process table says."""
    return Path(f"/proc/{pid}").exists()


class Rig(Protocol):
    """An implementation, and the other side of it."""

    @property
    def executor(self) -> TurnExecutor: ...

    async def run(self, turn_id: str, turn: ExecutorTurn, *, silent: bool = False) -> None:
        """From now on this turn runs; silent: a cancel of it is neither carried out nor answered."""

    async def running(self, turn_id: str) -> bool:
        """The truth about a turn, not by way of the port."""


class OverHttp:
    """The adapter, and the example executor in this process."""

    def __init__(self, url: str) -> None:
        zones = {
            ZONE: Zone.model_validate({"url": url, "credential": "right"}),
            "refused": Zone.model_validate({"url": url, "credential": "wrong"}),
            "away": Zone(url="http://127.0.0.1:1"),
        }
        self.executor, self._url = HttpExecutor(zones), url
        self._session = open_session()

    async def run(self, turn_id: str, turn: ExecutorTurn, *, silent: bool = False) -> None:
        wish = {
            "turn_id": turn_id,
            "session_id": SESSION,
            "finishes_after_seconds": min(turn.ends_after_seconds, 3600),
            "outcome": turn.outcome,
            "ignores_cancel_seconds": min(turn.stops_after_seconds, 3600),
            "silent": silent,
        }
        headers = {"Authorization": "Bearer right"}
        async with self._session.post(f"{self._url}/v1/turns", json=wish, headers=headers) as response:
            assert response.status == 201, await response.text()

    async def running(self, turn_id: str) -> bool:
        headers = {"Authorization": "Bearer right"}
        async with self._session.get(f"{self._url}/v1/turns/{turn_id}", headers=headers) as response:
            return is_alive((await response.json())["pid"])

    async def close(self) -> None:
        await self._session.close()


class InMemory:
    """The double."""

    def __init__(self) -> None:
        self.executor = MemoryExecutors(SystemClock(), [ZONE, "refused", "away"])
        self.executor.faults = {"refused": Fault.REFUSES, "away": Fault.UNAVAILABLE}

    async def run(self, turn_id: str, turn: ExecutorTurn, *, silent: bool = False) -> None:
        if silent:
            self.executor.faults[ZONE] = Fault.SILENT
        self.executor.run(ZONE, turn_id, turn)

    async def running(self, turn_id: str) -> bool:
        return self.executor.running(ZONE, turn_id)


async def over_http() -> AsyncIterator[Rig]:
    runner = web.AppRunner(application("right"), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rig = OverHttp(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield rig
    await rig.close()
    await runner.cleanup()


async def in_memory() -> AsyncIterator[Rig]:
    yield InMemory()


@pytest.fixture(params=[over_http, in_memory], ids=["http", "memory"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    implementation: Callable[[], AsyncIterator[Rig]] = request.param
    async for rig in implementation():
        await rig.executor.start()
        yield rig
        await rig.executor.stop()


async def ended(rig: Rig, turn_id: str) -> None:
    async with asyncio.timeout(5):
        while True:
            if not await rig.running(turn_id):
                return
            await asyncio.sleep(0.01)


async def test_a_running_turn_is_stopped_and_the_answer_comes_once_it_has(rig: Rig) -> None:
    await rig.run("turn-1", ExecutorTurn())
    await rig.run("turn-2", ExecutorTurn())
    assert await rig.executor.cancel(ZONE, SESSION, "turn-1", 5) == TurnAnswer("cancelled")
    assert not await rig.running("turn-1")
    assert await rig.running("turn-2"), "no other turn is touched"


async def test_asking_again_gives_the_same_answer(rig: Rig) -> None:
    await rig.run("turn-1", ExecutorTurn())
    answers = [await rig.executor.cancel(ZONE, SESSION, "turn-1", 5) for _ in range(3)]
    assert answers == [TurnAnswer("cancelled")] * 3


async def test_a_turn_that_goes_on_is_cancelling_until_it_stops(rig: Rig) -> None:
    await rig.run("turn-1", ExecutorTurn(stops_after_seconds=LATE_SECONDS))
    assert await rig.executor.cancel(ZONE, SESSION, "turn-1", 0) == TurnAnswer("cancelling")
    assert await rig.running("turn-1")
    assert await rig.executor.cancel(ZONE, SESSION, "turn-1", 5) == TurnAnswer("cancelled")
    assert not await rig.running("turn-1")


async def test_an_answer_does_not_wait_longer_than_it_was_told(rig: Rig) -> None:
    await rig.run("turn-1", ExecutorTurn(stops_after_seconds=inf))
    before = asyncio.get_running_loop().time()
    assert await rig.executor.cancel(ZONE, SESSION, "turn-1", LATE_SECONDS) == TurnAnswer("cancelling")
    assert LATE_SECONDS * 0.9 < asyncio.get_running_loop().time() - before < LATE_SECONDS + 1


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
async def test_a_turn_that_had_finished_keeps_its_outcome(rig: Rig, outcome: Literal["succeeded", "failed"]) -> None:
    await rig.run("turn-1", ExecutorTurn(ends_after_seconds=0, outcome=outcome))
    await ended(rig, "turn-1")
    assert await rig.executor.cancel(ZONE, SESSION, "turn-1", 5) == TurnAnswer("finished", outcome)


async def test_a_turn_that_finishes_although_it_was_cancelled_has_finished(rig: Rig) -> None:
    await rig.run("turn-1", ExecutorTurn(ends_after_seconds=LATE_SECONDS, stops_after_seconds=inf))
    assert await rig.executor.cancel(ZONE, SESSION, "turn-1", 5) == TurnAnswer("finished", "succeeded")


async def test_an_unknown_turn_does_not_run(rig: Rig) -> None:
    assert await rig.executor.cancel(ZONE, SESSION, "turn-0", 5) == TurnAnswer("not_running")


async def test_while_another_turn_of_the_session_runs_the_named_one_does_not(rig: Rig) -> None:
    await rig.run("turn-2", ExecutorTurn())
    assert await rig.executor.cancel(ZONE, SESSION, "turn-1", 5) == TurnAnswer("not_running")
    assert await rig.running("turn-2")


async def test_a_silent_executor_is_unavailable_and_its_turn_runs_on(rig: Rig) -> None:
    await rig.run("turn-1", ExecutorTurn(), silent=True)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="did not answer within"):
            await rig.executor.cancel(ZONE, SESSION, "turn-1", 0)
    assert await rig.running("turn-1")


async def test_an_executor_that_cannot_be_reached_is_unavailable(rig: Rig) -> None:
    with pytest.raises(Unavailable, match="'away' cannot be reached"):
        await rig.executor.cancel("away", SESSION, "turn-1", 1)


async def test_a_credential_that_is_not_accepted_is_refused(rig: Rig) -> None:
    with pytest.raises(Refused, match="'refused' refuses this worker's credential"):
        await rig.executor.cancel("refused", SESSION, "turn-1", 1)


async def test_a_zone_that_is_not_in_the_settings_is_refused(rig: Rig) -> None:
    for zone in ("elsewhere", "http://127.0.0.1:1"):
        with pytest.raises(Refused, match="not in the settings"):
            await rig.executor.cancel(zone, SESSION, "turn-1", 1)


async def test_many_cancels_run_at_once(rig: Rig) -> None:
    turns = [f"turn-{number}" for number in range(20)]
    for turn_id in turns:
        await rig.run(turn_id, ExecutorTurn(stops_after_seconds=LATE_SECONDS))
    before = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(rig.executor.cancel(ZONE, SESSION, turn_id, 5) for turn_id in turns * 2))
    assert answers == [TurnAnswer("cancelled")] * 40
    assert asyncio.get_running_loop().time() - before < 20 * LATE_SECONDS / 2


async def test_stop_tolerates_a_second_stop_and_stop_before_start(rig: Rig) -> None:
    await rig.executor.stop()
    await rig.executor.stop()
    await rig.executor.start()
    await rig.run("turn-1", ExecutorTurn())
    assert await rig.executor.cancel(ZONE, SESSION, "turn-1", 5) == TurnAnswer("cancelled")


async def test_the_double_lies_loses_answers_and_remembers_what_it_was_asked() -> None:
    executors = MemoryExecutors(SystemClock(), [ZONE])
    executors.run(ZONE, "turn-1", ExecutorTurn(says=[TurnAnswer("cancelled"), TurnAnswer("finished", "failed")]))
    assert await executors.cancel(ZONE, SESSION, "turn-1", 1) == TurnAnswer("cancelled")
    assert await executors.cancel(ZONE, SESSION, "turn-1", 1) == TurnAnswer("finished", "failed")
    assert executors.running(ZONE, "turn-1"), "it only said so"
    executors.faults[ZONE] = Fault.LOSES_ANSWERS
    with pytest.raises(Unavailable, match="the connection broke"):
        await executors.cancel(ZONE, SESSION, "turn-1", 1)
    assert not executors.running(ZONE, "turn-1"), "it was done, only the answer was lost"
    assert [(call.method, call.party, call.id, call.session_id) for call in executors.asked] == [
        ("cancel", ZONE, "turn-1", SESSION)
    ] * 3


# ------------------------------------------------------------------------------ the wire


@asynccontextmanager
async def canned(status: int, body: str) -> AsyncIterator[HttpExecutor]:
    """The adapter, and a server that says this whatever it is asked."""
    async with raw(says(answer(body, status))) as server:
        executor = HttpExecutor({ZONE: Zone(url=server.url)})
        await executor.start()
        try:
            yield executor
        finally:
            await executor.stop()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, "<h1>Not Found</h1>"),
        (404, "{}"),
        (404, '{"turn_id": "turn-1", "status": "cancelled"}'),
        (404, '{"turn_id": "turn-2", "status": "not_running"}'),
        (409, '{"error": "conflict"}'),
        (200, '{"turn_id": "turn-2", "status": "cancelled"}'),
        (200, '{"turn_id": "turn-1", "status": "vanished"}'),
        (200, '{"turn_id": "turn-1", "status": "finished", "outcome": "splendid"}'),
        (200, '{"status": "cancelled"}'),
        (200, '["turn-1", "cancelled"]'),
        (200, ""),
        (400, '{"turn_id": "turn-1", "status": "not_running"}'),
    ],
)
async def test_what_proves_nothing_about_the_named_turn_is_no_answer(status: int, body: str) -> None:
    async with canned(status, body) as executor:
        with pytest.raises(Unavailable, match=f"zone 'eu-1' answered.*HTTP {status}"):
            await executor.cancel(ZONE, SESSION, "turn-1", 1)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, '{"turn_id": "turn-1", "status": "not_running"}', TurnAnswer("not_running")),
        (409, '{"turn_id": "turn-1", "status": "not_running", "more": 1}', TurnAnswer("not_running")),
        (200, '{"turn_id": "turn-1", "status": "not_running"}', TurnAnswer("not_running")),
        (200, '{"turn_id": "turn-1", "status": "finished"}', TurnAnswer("finished")),
        (
            200,
            '{"turn_id": "turn-1", "status": "finished", "outcome": "cancelled"}',
            TurnAnswer("finished", "cancelled"),
        ),
    ],
)
async def test_what_is_said_of_the_named_turn_is_believed(status: int, body: str, expected: TurnAnswer) -> None:
    async with canned(status, body) as executor:
        assert await executor.cancel(ZONE, SESSION, "turn-1", 1) == expected


async def test_the_request_names_turn_session_and_time() -> None:
    async with raw(says(answer('{"turn_id": "turn-1", "status": "cancelled"}'))) as server:
        executor = HttpExecutor({ZONE: Zone(url=server.url)})
        with pytest.raises(Unavailable, match="not started"):
            await executor.cancel(ZONE, SESSION, "turn-1", 1.5)
        await executor.start()
        await executor.cancel(ZONE, SESSION, "turn-1", 1.5)
        await executor.stop()
    [request] = server.requests
    assert request.line == "POST /v1/turns/turn-1/cancel HTTP/1.1"
    assert json.loads(request.body) == {"session_id": SESSION, "timeout_seconds": 1.5}
