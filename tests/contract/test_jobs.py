"""The contract of JobController over every implementation, and what the double in memory adds to it.

Another implementation is one more `World`: it makes real things to stop and says where it may differ.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

import pytest

from worker.adapters.memory_jobs import MemoryJobs
from worker.adapters.processes import ProcessController, launch
from worker.adapters.system import SystemClock
from worker.errors import OutcomeUnknown, Refused, Unavailable
from worker.ports import Deletion, JobController, JobIdentity, JobView, Pod

ONE = "99999999-1111-4111-8111-111111111111"
OTHER = "99999999-2222-4222-8222-222222222222"


class World(Protocol):
    """One implementation, and things for it to stop."""

    jobs: JobController
    names_are_reused: bool
    """Whether a name may belong to another uid later."""
    removed: Deletion
    """What grace 0 answers: whether a pod can be removed from view without proof that it ended."""

    async def polite(self, evaluation_id: str = ONE) -> JobIdentity:
        """A running Job with one pod that ends at SIGTERM."""

    async def stubborn(self) -> JobIdentity:
        """A running Job with one pod that ignores SIGTERM for longer than a test takes."""

    async def family(self) -> JobIdentity:
        """A running Job with four pods."""


def program(pid: str) -> str:
    """The program that a process runs now."""
    return Path("/proc", pid, "comm").read_text().strip()


class Processes:
    """Real processes of this machine."""

    names_are_reused = False
    removed = Deletion.ACCEPTED

    def __init__(self) -> None:
        self.jobs = ProcessController()

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

    def __init__(self) -> None:
        self.jobs = self.double = MemoryJobs(SystemClock())

    async def polite(self, evaluation_id: str = ONE) -> JobIdentity:
        return self.double.add(evaluation_id, stop_seconds=0.05)

    async def stubborn(self) -> JobIdentity:
        return self.double.add(ONE, stop_seconds=math.inf)

    async def family(self) -> JobIdentity:
        return self.double.add(ONE, pods=4)


@pytest.fixture(params=[Processes, Memory])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world: World = request.param()
    await world.jobs.start()
    yield world
    for evaluation_id in (ONE, OTHER):
        for job in await world.jobs.find(evaluation_id):
            await kill(world, job)
    await world.jobs.stop()


async def kill(world: World, job: JobIdentity) -> None:
    await world.jobs.delete(job)
    for pod in (await world.jobs.observe(job)).pods:
        await world.jobs.delete_pod(job, pod, 0)
    await gone(world, job)


async def gone(world: World, job: JobIdentity, timeout_seconds: float = 5) -> bool:
    """Whether it is gone within the time."""
    until = time.monotonic() + timeout_seconds
    view = await world.jobs.observe(job)
    while not view.gone and (left := until - time.monotonic()) > 0:
        view = await world.jobs.observe(job, since=view, timeout_seconds=left)
    return view.gone


async def test_the_jobs_of_an_evaluation_are_found_and_no_others(world: World) -> None:
    mine = [await world.polite(ONE), await world.polite(ONE)]
    other = await world.polite(OTHER)
    assert {job.uid for job in await world.jobs.find(ONE)} == {job.uid for job in mine}
    assert await world.jobs.find(OTHER) == [other]
    assert await world.jobs.find("99999999-3333-4333-8333-333333333333") == []


async def test_a_polite_job_goes_when_asked_and_asking_again_finds_nothing(world: World) -> None:
    job = await world.polite()
    view = await world.jobs.observe(job)
    assert (view.exists, len(view.pods), view.gone) == (True, 1, False)
    assert await world.jobs.delete(job) == Deletion.ACCEPTED
    assert await gone(world, job)
    assert await world.jobs.delete(job) == Deletion.GONE
    assert await world.jobs.delete_pod(job, view.pods[0], 1) == Deletion.GONE
    assert await world.jobs.find(ONE) == []


@pytest.mark.parametrize("grace_period_seconds", [1, 0])
async def test_a_pod_that_ignores_sigterm_goes_by_escalation(world: World, grace_period_seconds: Literal[0, 1]) -> None:
    job = await world.stubborn()
    [pod] = (await world.jobs.observe(job)).pods
    assert [await world.jobs.delete(job) for _ in range(2)] == [Deletion.ACCEPTED] * 2
    assert not await gone(world, job, timeout_seconds=0.3)
    accepted = Deletion.ACCEPTED if grace_period_seconds else world.removed
    assert await world.jobs.delete_pod(job, pod, grace_period_seconds) == accepted
    assert await gone(world, job)
    assert await world.jobs.delete_pod(job, pod, grace_period_seconds) == Deletion.GONE


async def test_every_pod_of_a_family_is_seen_and_stopped(world: World) -> None:
    job = await world.family()
    assert len({pod.uid for pod in (await world.jobs.observe(job)).pods}) == 4
    await world.jobs.delete(job)
    assert await gone(world, job)


async def test_another_job_of_the_same_evaluation_is_not_touched(world: World) -> None:
    job, other = await world.polite(), await world.polite()
    before = await world.jobs.observe(other)
    await world.jobs.delete(job)
    assert await gone(world, job)
    assert await world.jobs.observe(other) == before


async def test_a_job_of_that_name_with_another_uid_is_not_touched(world: World) -> None:
    job = await world.polite()
    before = await world.jobs.observe(job)
    never = JobIdentity(job.namespace, job.name, "a-uid-that-never-was")
    assert await world.jobs.delete(never) == (Deletion.NOT_OURS if world.names_are_reused else Deletion.GONE)
    assert await world.jobs.delete_pod(never, before.pods[0], 1) == Deletion.GONE
    assert (await world.jobs.observe(never)).gone
    await asyncio.sleep(0.1)
    assert await world.jobs.observe(job) == before


async def test_a_pod_with_another_identity_is_not_touched(world: World) -> None:
    job = await world.polite()
    before = await world.jobs.observe(job)
    [pod] = before.pods
    assert await world.jobs.delete_pod(job, Pod(pod.name, pod.uid + "0"), 1) == Deletion.GONE
    await asyncio.sleep(0.1)
    assert await world.jobs.observe(job) == before


async def test_an_observation_without_since_returns_at_once(world: World) -> None:
    job = await world.polite()
    began = time.monotonic()
    assert not (await world.jobs.observe(job, timeout_seconds=30)).gone
    assert time.monotonic() - began < 5


async def test_an_observation_of_no_change_returns_after_the_time_out(world: World) -> None:
    job = await world.polite()
    view = await world.jobs.observe(job)
    began = time.monotonic()
    assert await world.jobs.observe(job, since=view, timeout_seconds=0.3) == view
    assert 0.29 < time.monotonic() - began < 5


async def test_an_observation_returns_when_something_changes(world: World) -> None:
    job = await world.polite()
    view = await world.jobs.observe(job)
    began = time.monotonic()
    watching = asyncio.create_task(world.jobs.observe(job, since=view, timeout_seconds=30))
    await asyncio.sleep(0.1)
    assert not watching.done()
    await world.jobs.delete(job)
    assert await watching != view
    assert time.monotonic() - began < 5


async def test_a_stale_observation_is_corrected_at_once(world: World) -> None:
    job = await world.polite()
    view = await world.jobs.observe(job)
    began = time.monotonic()
    assert await world.jobs.observe(job, since=JobView(exists=False), timeout_seconds=30) == view
    assert time.monotonic() - began < 5


async def test_many_jobs_are_stopped_at_once(world: World) -> None:
    spared = await world.polite(OTHER)
    jobs = [await world.polite() for _ in range(40)]
    assert await asyncio.gather(*(world.jobs.delete(job) for job in jobs)) == [Deletion.ACCEPTED] * 40
    assert all(await asyncio.gather(*(gone(world, job) for job in jobs)))
    assert not (await world.jobs.observe(spared)).gone


async def test_a_second_stop_is_tolerated(world: World) -> None:
    await world.jobs.stop()
    await world.jobs.stop()


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
