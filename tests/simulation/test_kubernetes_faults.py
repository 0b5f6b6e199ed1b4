"""Faults of the simulated cluster, each where it strikes, through the real adapter; and what is true below the API."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any

import pytest

from tests.contract.suites.jobs import ONE, OTHER
from tests.simulation.test_kubernetes_model import LABEL, NAMESPACE, controller, only, running
from worker.errors import Unavailable, WorkerError
from worker.ports import Deletion, JobIdentity, JobView
from worker.simulation.faults import Plan
from worker.simulation.kubernetes import Cluster, JobWish
from worker.simulation.loop import run
from worker.simulation.process import Process
from worker.simulation.world import World

GONE = JobView(exists=False)


class Try:
    """A controller over a model under a plan."""

    def __init__(self, plan: Plan) -> None:
        self.world = World("1", plan)
        self.cluster = Cluster(self.world, NAMESPACE, LABEL)
        self.jobs = controller(self.cluster)

    def struck(self, fault: str) -> int:
        return self.world.faults.counts[fault]

    async def job(self, **wish: Any) -> JobIdentity:
        return await running(self.cluster, self.cluster.create_job(ONE, JobWish(**wish)))

    async def delete(self, job: JobIdentity) -> Deletion:
        """As a worker does: again and again, until it is answered."""
        while True:
            try:
                return await self.jobs.delete(job)
            except Unavailable as error:
                await asyncio.sleep(error.retry_after_seconds or 0.2)

    async def gone_within(self, job: JobIdentity, seconds: float) -> bool:
        view, end = await self.jobs.observe(job), self.world.now + seconds
        while not view.gone and self.world.now < end:
            view = await self.jobs.observe(job, since=view, timeout_seconds=end - self.world.now)
        return view.gone


@pytest.fixture
async def tried() -> AsyncIterator[Callable[..., Awaitable[Try]]]:
    begun: list[Try] = []

    async def begin(**rates: float) -> Try:
        begun.append(Try(only(**rates)))
        await begun[-1].jobs.start()
        return begun[-1]

    yield begin
    for each in begun:
        await each.jobs.stop()


Begin = Callable[..., Awaitable[Try]]


async def test_f26_a_delete_whose_reply_is_lost_was_carried_out(tried: Begin) -> None:
    one = await tried(F26=1.0)
    job = await one.job()
    with pytest.raises(Unavailable):
        await one.jobs.delete(job)
    assert one.cluster.jobs[job.uid].terminating
    assert await one.gone_within(job, 30)
    assert await one.jobs.delete(job) == Deletion.GONE
    assert one.struck("F26") == 1


async def test_f27_a_name_that_is_anothers_by_now_is_left_alone(tried: Begin) -> None:
    one = await tried(F27=1.0)
    job = await one.job(stubborn=True, grace_seconds=5)
    assert await one.jobs.delete(job) == Deletion.ACCEPTED, "the pods that ours has left"
    [other] = [each for each in one.cluster.jobs.values() if each.uid != job.uid]
    assert (other.name, other.exists) == (job.name, True)
    assert await one.gone_within(job, 30)
    assert other.running
    assert not other.terminating
    assert {delete.job_uid for delete in one.cluster.deletes} <= {job.uid}
    assert one.struck("F27") == 1


async def test_f28_too_many_requests_says_when_to_come_back(tried: Begin) -> None:
    one = await tried(F28=1.0)
    job = one.cluster.create_job(ONE, JobWish())
    with pytest.raises(Unavailable) as error:
        await one.jobs.delete(job)
    assert error.value.retry_after_seconds in range(1, 6)
    assert one.cluster.deletes == []
    assert one.struck("F28") == 1


async def test_f29_a_rotated_token_is_loaded_again(tried: Begin) -> None:
    one = await tried(F29=0.2)
    for _ in range(20):
        job = await one.job()
        try:
            assert await one.delete(job) == Deletion.ACCEPTED
        except WorkerError as error:  # the fresh one was rotated as well
            assert "credentials" in str(error)  # noqa: PT017  # either may be
    assert one.struck("F29") > 2


async def test_f30_a_finalizer_of_somebody_elses_holds_a_job_for_a_while(tried: Begin) -> None:
    one = await tried(F30=1.0)
    job = await one.job()
    await one.jobs.delete(job)
    assert not await one.gone_within(job, 15)
    view = await one.jobs.observe(job)
    assert (view.exists, view.pods, view.held_by) == (True, (), ("acme.test/hold",))
    assert await one.gone_within(job, 300)
    again = await one.job()
    await one.jobs.delete(again)
    one.cluster.calm()
    assert await one.gone_within(again, 15)
    assert one.struck("F30") == 2


async def test_f31_a_pod_that_ignores_sigterm_ends_a_second_after_its_grace(tried: Begin) -> None:
    one = await tried(F31=1.0)
    job = await one.job(grace_seconds=10)
    await one.jobs.delete(job)
    await asyncio.sleep(10)
    assert one.cluster.running() == [job.uid]
    await asyncio.sleep(2)
    assert one.cluster.running() == []
    assert await one.gone_within(job, 5)
    assert one.struck("F31") == 1


async def test_f32_a_job_that_the_ttl_controller_took_first_is_gone(tried: Begin) -> None:
    one = await tried(F32=1.0)
    job = await one.job(pods=2)
    assert await one.jobs.delete(job) == Deletion.GONE
    assert await one.jobs.observe(job) == GONE
    assert one.cluster.running() == []
    assert one.struck("F32") == 1


async def test_f33_a_job_whose_owner_nobody_has_named_comes_back_and_is_found_with_its_owner(tried: Begin) -> None:
    one = await tried(F33=1.0)
    jobs = [one.cluster.create_job(ONE) for _ in range(8)]
    untold = [job for job in jobs if job.owner is None]
    assert 0 < len(untold) < 8
    for job in jobs:
        await one.delete(job)
    found = await one.jobs.find(ONE)
    for _ in range(60):
        await asyncio.sleep(2)
        found = await one.jobs.find(ONE)
        if one.struck("F33") == len(untold) == len(found):
            break
    assert len(found) == len(untold)
    assert all(job.owner for job in found)
    for job in found:
        await one.delete(job)
    assert all([await one.gone_within(job, 120) for job in found])
    await asyncio.sleep(10)
    assert await one.jobs.find(ONE) == []


async def test_f34_an_api_server_that_is_away_is_an_outage_and_watches_stand_again(tried: Begin) -> None:
    one = await tried()
    job = await one.job()
    view = await one.jobs.observe(job)
    watching = asyncio.create_task(one.jobs.observe(job, since=view, timeout_seconds=60))
    await asyncio.sleep(1)
    one.cluster.service.away = True
    with pytest.raises(Unavailable):
        await one.jobs.delete(job)
    with pytest.raises(Unavailable):
        await watching
    assert one.struck("F34") >= 2
    one.cluster.service.away = False
    assert await one.delete(job) == Deletion.ACCEPTED
    assert await one.gone_within(job, 60)


async def test_f35_a_job_that_appears_after_its_evaluation_was_looked_for_counts_once_it_is_deleted(
    tried: Begin,
) -> None:
    one = await tried()
    assert await one.jobs.find(ONE) == []
    late, other = await one.job(), one.cluster.create_job(OTHER, JobWish())
    assert await one.jobs.find(ONE) == [late]
    assert one.struck("F35") == 0
    await one.jobs.delete(late)
    await one.jobs.delete(other)
    assert one.struck("F35") == 1


# ------------------------------------------------------------------------------ what is true, and for whom


async def test_a_pod_removed_without_proof_runs_on_for_a_while(tried: Begin) -> None:
    one = await tried()
    job = await one.job(stubborn=True, grace_seconds=60)
    await one.jobs.delete(job)
    [pod] = (await one.jobs.observe(job)).pods
    assert await one.jobs.delete_pod(job, pod, 0) == Deletion.REMOVED
    assert await one.gone_within(job, 10)
    assert one.cluster.running() == [job.uid]
    await asyncio.sleep(20)
    assert one.cluster.running() == []


async def test_a_node_may_not_shorten_the_grace_of_a_pod_that_is_terminating(tried: Begin) -> None:
    one = await tried()
    for shortens, gone in ((True, True), (False, False)):
        job = await one.job(stubborn=True, grace_seconds=60, node_shortens=shortens)
        await one.jobs.delete(job)
        await asyncio.sleep(1)
        [pod] = (await one.jobs.observe(job)).pods
        assert await one.jobs.delete_pod(job, pod, 1) == Deletion.ACCEPTED
        assert await one.gone_within(job, 10) == gone


async def test_what_a_client_was_given_does_not_change_afterwards(tried: Begin) -> None:
    one = await tried()
    job = await one.job()
    [before] = (await one.jobs.observe(job)).pods
    await one.jobs.delete(job)
    await asyncio.sleep(5)
    assert not before.terminating


def hashes(seed: str) -> list[str]:
    async def main() -> str:
        world = World(seed, Plan())
        cluster = Cluster(world, NAMESPACE, LABEL)

        async def work(process: Process) -> None:
            jobs = controller(cluster)
            await jobs.start()
            while True:
                job = cluster.create_job(process.name)
                try:
                    await jobs.delete(job)
                    view = await jobs.observe(job)
                    await jobs.observe(job, since=view, timeout_seconds=5)
                    for found in await jobs.find(process.name):
                        await jobs.delete(found)
                except WorkerError:
                    await asyncio.sleep(0.1)

        for name in ("a", "b", "c"):
            world.start(name, work, lambda _: None)
        await asyncio.sleep(60)
        return world.trace_hash

    return [run(main(), Random(seed)) for _ in range(2)]


def test_the_same_seed_gives_the_same_trace() -> None:
    first, again = hashes("1")
    assert first == again
    assert hashes("2")[0] != first
