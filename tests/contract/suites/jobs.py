"""The contract of JobController: a class of tests that every implementation inherits, with a `world` of its own.

Knows the port only.  Where implementations may differ, the world says so, and the tests expect just that.
"""

import asyncio
from typing import Literal, Protocol

import pytest

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

    patience_seconds: float
    """How long it may take until what was stopped, or changed, is seen so."""

    async def polite(self, evaluation_id: str = ONE) -> JobIdentity:
        """A running Job with one pod that ends at SIGTERM."""

    async def stubborn(self) -> JobIdentity:
        """A running Job with one pod that ignores SIGTERM for longer than a test takes."""

    async def family(self) -> JobIdentity:
        """A running Job with four pods."""


def now() -> float:
    """Seconds on the loop's clock: a simulation has its own time."""
    return asyncio.get_running_loop().time()


async def clear(world: World) -> None:
    """Nothing of the test's two evaluations runs any more."""
    for evaluation_id in (ONE, OTHER):
        for job in await world.jobs.find(evaluation_id):
            await kill(world, job)


async def kill(world: World, job: JobIdentity) -> None:
    await world.jobs.delete(job)
    for pod in (await world.jobs.observe(job)).pods:
        await world.jobs.delete_pod(job, pod, 0)
    await gone(world, job)


async def gone(world: World, job: JobIdentity, timeout_seconds: float | None = None) -> bool:
    """Whether it is gone within the time."""
    until = now() + (world.patience_seconds if timeout_seconds is None else timeout_seconds)
    view = await world.jobs.observe(job)
    while not view.gone and (left := until - now()) > 0:
        view = await world.jobs.observe(job, since=view, timeout_seconds=left)
    return view.gone


class JobContract:
    """What every implementation keeps."""

    async def test_the_jobs_of_an_evaluation_are_found_and_no_others(self, world: World) -> None:
        mine = [await world.polite(ONE), await world.polite(ONE)]
        other = await world.polite(OTHER)
        assert {job.uid for job in await world.jobs.find(ONE)} == {job.uid for job in mine}
        assert await world.jobs.find(OTHER) == [other]
        assert await world.jobs.find("99999999-3333-4333-8333-333333333333") == []

    async def test_a_polite_job_goes_when_asked_and_asking_again_finds_nothing(self, world: World) -> None:
        job = await world.polite()
        view = await world.jobs.observe(job)
        assert (view.exists, len(view.pods), view.gone) == (True, 1, False)
        assert await world.jobs.delete(job) == Deletion.ACCEPTED
        assert await gone(world, job)
        assert await world.jobs.delete(job) == Deletion.GONE
        assert await world.jobs.delete_pod(job, view.pods[0], 1) == Deletion.GONE
        assert await world.jobs.find(ONE) == []

    @pytest.mark.parametrize("grace_period_seconds", [1, 0])
    async def test_a_pod_that_ignores_sigterm_goes_by_escalation(
        self, world: World, grace_period_seconds: Literal[0, 1]
    ) -> None:
        job = await world.stubborn()
        [pod] = (await world.jobs.observe(job)).pods
        assert [await world.jobs.delete(job) for _ in range(2)] == [Deletion.ACCEPTED] * 2
        assert not await gone(world, job, timeout_seconds=0.3)
        accepted = Deletion.ACCEPTED if grace_period_seconds else world.removed
        assert await world.jobs.delete_pod(job, pod, grace_period_seconds) == accepted
        assert await gone(world, job)
        assert await world.jobs.delete_pod(job, pod, grace_period_seconds) == Deletion.GONE

    async def test_every_pod_of_a_family_is_seen_and_stopped(self, world: World) -> None:
        job = await world.family()
        assert len({pod.uid for pod in (await world.jobs.observe(job)).pods}) == 4
        await world.jobs.delete(job)
        assert await gone(world, job)

    async def test_another_job_of_the_same_evaluation_is_not_touched(self, world: World) -> None:
        job, other = await world.polite(), await world.polite()
        before = await world.jobs.observe(other)
        await world.jobs.delete(job)
        assert await gone(world, job)
        assert await world.jobs.observe(other) == before

    async def test_a_job_of_that_name_with_another_uid_is_not_touched(self, world: World) -> None:
        job = await world.polite()
        before = await world.jobs.observe(job)
        never = JobIdentity(job.namespace, job.name, "a-uid-that-never-was")
        assert await world.jobs.delete(never) == (Deletion.NOT_OURS if world.names_are_reused else Deletion.GONE)
        assert await world.jobs.delete_pod(never, before.pods[0], 1) == Deletion.GONE
        assert (await world.jobs.observe(never)).gone
        await asyncio.sleep(0.1)
        assert await world.jobs.observe(job) == before

    async def test_a_pod_with_another_identity_is_not_touched(self, world: World) -> None:
        job = await world.polite()
        before = await world.jobs.observe(job)
        [pod] = before.pods
        assert await world.jobs.delete_pod(job, Pod(pod.name, pod.uid + "0"), 1) == Deletion.GONE
        await asyncio.sleep(0.1)
        assert await world.jobs.observe(job) == before

    async def test_an_observation_without_since_returns_at_once(self, world: World) -> None:
        job = await world.polite()
        began = now()
        assert not (await world.jobs.observe(job, timeout_seconds=30)).gone
        assert now() - began < 5

    async def test_an_observation_of_no_change_returns_after_the_time_out(self, world: World) -> None:
        job = await world.polite()
        view = await world.jobs.observe(job)
        began = now()
        assert await world.jobs.observe(job, since=view, timeout_seconds=0.3) == view
        assert 0.29 < now() - began < 5

    async def test_an_observation_returns_when_something_changes(self, world: World) -> None:
        job = await world.polite()
        view = await world.jobs.observe(job)
        began = now()
        watching = asyncio.create_task(world.jobs.observe(job, since=view, timeout_seconds=30))
        await asyncio.sleep(0.1)
        assert not watching.done()
        await world.jobs.delete(job)
        assert await watching != view
        assert now() - began < 5

    async def test_a_stale_observation_is_corrected_at_once(self, world: World) -> None:
        job = await world.polite()
        view = await world.jobs.observe(job)
        began = now()
        assert await world.jobs.observe(job, since=JobView(exists=False), timeout_seconds=30) == view
        assert now() - began < 5

    async def test_many_jobs_are_stopped_at_once(self, world: World) -> None:
        spared = await world.polite(OTHER)
        jobs = await asyncio.gather(*(world.polite() for _ in range(40)))
        assert await asyncio.gather(*(world.jobs.delete(job) for job in jobs)) == [Deletion.ACCEPTED] * 40
        assert all(await asyncio.gather(*(gone(world, job) for job in jobs)))
        assert not (await world.jobs.observe(spared)).gone

    async def test_a_second_stop_is_tolerated(self, world: World) -> None:
        await world.jobs.stop()
        await world.jobs.stop()
