"""The contract of JobController over processes and the double in memory, and what the double adds to it.

The integration tier has the contract over a real cluster.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from tests.contract.suites.jobs import ONE, JobContract, World, clear
from worker.adapters.memory_jobs import MemoryJobs
from worker.adapters.processes import ProcessController, launch
from worker.adapters.system import SystemClock
from worker.errors import OutcomeUnknown, Refused, Unavailable
from worker.ports import Deletion, JobController, JobIdentity, JobView


def program(pid: str) -> str:
    """The program that a process runs now."""
    return Path("/proc", pid, "comm").read_text().strip()


class Processes:
    """Real processes of this machine."""

    names_are_reused = False
    removed = Deletion.ACCEPTED
    patience_seconds = 5.0

    def __init__(self) -> None:
        self.jobs: JobController = ProcessController()

    async def polite(self, evaluation_id: str = ONE) -> JobIdentity:
        return launch(evaluation_id, ["sleep", "60"])

    async def stubborn(self) -> JobIdentity:
        job = launch(ONE, ["sh", "-c", "trap '' TERM; exec sleep 60"])
        await self._settled(job, ["sleep"])
        return job

    async def family(self) -> JobIdentity:
        job = launch(ONE, ["sh", "-c", "setsid sleep 60 & (sleep 60 & wait) & wait"])
        await self._settled(job, ["sh", "sh", "sleep", "sleep"])
        return job

    async def _settled(self, job: JobIdentity, names: list[str]) -> None:
        """Until these programs run, and nothing is between fork and exec."""
        async with asyncio.timeout(5):
            while True:
                pids = [pod.uid.split("/")[1] for pod in (await self.jobs.observe(job)).pods]
                if sorted(program(pid) for pid in pids) == names:
                    return
                await asyncio.sleep(0.01)


class Memory:
    """The double, on the system's clock."""

    names_are_reused = True
    removed = Deletion.REMOVED
    patience_seconds = 5.0

    def __init__(self) -> None:
        self.double = MemoryJobs(SystemClock())
        self.jobs: JobController = self.double

    async def polite(self, evaluation_id: str = ONE) -> JobIdentity:
        return self.double.add(evaluation_id, stop_seconds=0.05)

    async def stubborn(self) -> JobIdentity:
        return self.double.add(ONE, stop_seconds=math.inf)

    async def family(self) -> JobIdentity:
        return self.double.add(ONE, pods=4)


@asynccontextmanager
async def opened(world: World) -> AsyncIterator[World]:
    await world.jobs.start()
    yield world
    await clear(world)
    await world.jobs.stop()


class TestProcesses(JobContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        async with opened(Processes()) as world:
            yield world


class TestMemory(JobContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        async with opened(Memory()) as world:
            yield world


# ------------------------------------------------------------------------------ what the double adds


class Leaping:
    """A clock whose sleeps take no time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 31, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


@pytest.fixture
def double() -> MemoryJobs:
    return MemoryJobs(Leaping())


async def ended_after(double: MemoryJobs, job: JobIdentity, timeout_seconds: float = 100) -> float | None:
    """Seconds of the clock until it is gone; None where it is not within the time."""
    began, view = double.clock.monotonic(), await double.observe(job)
    while not view.gone:
        if double.clock.monotonic() - began >= timeout_seconds:
            return None
        view = await double.observe(job, since=view, timeout_seconds=1)
    return double.clock.monotonic() - began


async def test_a_pod_ends_on_the_clock_it_was_given(double: MemoryJobs) -> None:
    job = double.add(ONE, stop_seconds=7)
    await double.delete(job)
    assert await ended_after(double, job) == pytest.approx(7, abs=0.1)


async def test_a_pod_that_ignores_sigterm_is_killed_after_its_own_grace_period(double: MemoryJobs) -> None:
    job = double.add(ONE, stop_seconds=math.inf, grace_seconds=20)
    await double.delete(job)
    assert (await double.observe(job)).pods[0].terminating
    assert await ended_after(double, job) == pytest.approx(20, abs=0.1)


async def test_on_a_node_that_is_away_only_grace_0_removes_a_pod(double: MemoryJobs) -> None:
    job = double.add(ONE, node_away=True)
    [pod] = (await double.observe(job)).pods
    await double.delete(job)
    await double.delete_pod(job, pod, 1)
    assert await ended_after(double, job) is None
    await double.delete_pod(job, pod, 0)
    assert await ended_after(double, job) == 0


async def test_a_finalizer_holds_a_job_whose_pods_are_gone(double: MemoryJobs) -> None:
    job = double.add(ONE, held_by=["test/finalizer"])
    await double.delete(job)
    assert await ended_after(double, job) is None
    assert await double.observe(job) == JobView(exists=True, held_by=("test/finalizer",))
    double.release(job)
    assert (await double.observe(job)).gone


async def test_a_job_that_appears_late_is_not_there_before(double: MemoryJobs) -> None:
    job = double.add(ONE, appears_after_seconds=10)
    assert await double.find(ONE) == []
    assert await double.delete(job) == Deletion.GONE
    await double.clock.sleep(10)
    assert await double.find(ONE) == [job]
    assert await double.delete(job) == Deletion.ACCEPTED


async def test_an_owner_makes_its_job_again_under_the_same_name_and_another_uid(double: MemoryJobs) -> None:
    job = double.add(ONE, owner="batch/v1/CronJob/nightly/owner-uid")
    await double.delete(JobIdentity(job.namespace, job.name, job.uid))
    assert (await double.observe(job)).gone
    [again] = await double.find(ONE)
    assert again.name == job.name
    assert again.uid != job.uid
    assert await double.delete(job) == Deletion.NOT_OURS
    assert await double.find(ONE) == [again]


async def test_an_owner_that_is_named_in_the_delete_makes_nothing_again(double: MemoryJobs) -> None:
    job = double.add(ONE, owner="batch/v1/CronJob/nightly/owner-uid")
    await double.delete(job)
    assert await double.find(ONE) == []
    assert await double.delete(job) == Deletion.GONE


@pytest.mark.parametrize("outcome", ["completed", "failed"])
async def test_a_job_that_ended_by_itself_shows_its_outcome_until_it_is_deleted(
    double: MemoryJobs, outcome: Literal["completed", "failed"]
) -> None:
    ended, ending = double.add(ONE, outcome=outcome), double.add(ONE)
    double.finish(ending, outcome)
    for job in (ended, ending):
        assert await double.observe(job) == JobView(exists=True, outcome=outcome)
        assert await double.delete(job) == Deletion.ACCEPTED
        assert (await double.observe(job)).gone


async def test_what_is_forbidden_is_refused_and_changes_nothing(double: MemoryJobs) -> None:
    job = double.add(ONE)
    double.forbidden = frozenset({"delete"})
    with pytest.raises(Refused, match="delete is forbidden"):
        await double.delete(job)
    assert len((await double.observe(job)).pods) == 1


async def test_a_cluster_that_is_away_answers_nothing_and_does_nothing(double: MemoryJobs) -> None:
    job = double.add(ONE)
    [pod] = (await double.observe(job)).pods
    double.away = True
    for call in (double.delete(job), double.observe(job), double.find(ONE), double.delete_pod(job, pod, 0)):
        with pytest.raises(Unavailable):
            await call
    double.away = False
    assert double.remaining() == [job]


async def test_a_lost_reply_is_of_something_that_was_done(double: MemoryJobs) -> None:
    job = double.add(ONE)
    double.loses_replies = True
    with pytest.raises(OutcomeUnknown):
        await double.delete(job)
    double.loses_replies = False
    assert await double.delete(job) == Deletion.GONE


async def test_what_was_asked_is_on_record(double: MemoryJobs) -> None:
    job = double.add(ONE, stop_seconds=math.inf)
    [pod] = (await double.observe(job)).pods
    double.away = True
    with pytest.raises(Unavailable):
        await double.delete(job)
    double.away = False
    await double.delete_pod(job, pod, 1)
    assert [(a.verb, a.what, a.pod_uid, a.grace_period_seconds) for a in double.asked] == [
        ("observe", job, None, None),
        ("delete", job, None, None),
        ("delete_pod", job, pod.uid, 1),
    ]
