"""N4 over a real cluster: a controller that makes its Job again as long as its own resource is there."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from kubernetes_asyncio.client import ApiClient

from tests.contract.suites.jobs import ONE
from tests.integration.farms import GROUP, KIND, VERSION, Farms
from tests.integration.workload import controller, until
from tests.services.cluster import Cluster
from worker.adapters.kubernetes import KubernetesController
from worker.errors import Refused
from worker.ports import Deletion, JobIdentity


@pytest.fixture
async def jobs(kubernetes: Cluster, namespace: str) -> AsyncIterator[KubernetesController]:
    async with controller(kubernetes.kubeconfig, namespace) as found:
        yield found


@pytest.fixture
async def farms(kubernetes_client: ApiClient, namespace: str) -> AsyncIterator[Farms]:
    farms = Farms(kubernetes_client, namespace)
    await farms.define()
    async with farms.controlled():
        yield farms


async def found(jobs: KubernetesController, count: int) -> list[JobIdentity]:
    async def number() -> int:
        return len(await jobs.find(ONE))

    await until(number, count)
    return list(await jobs.find(ONE))


async def test_n4_a_job_deleted_under_its_owner_comes_back_and_is_found_with_its_owner(
    jobs: KubernetesController, farms: Farms
) -> None:
    owner = await farms.create("one")
    [job] = await found(jobs, 1)
    assert await jobs.delete(JobIdentity(job.namespace, job.name, job.uid)) == Deletion.ACCEPTED

    async def made() -> int:
        return farms.made

    await until(made, 2)
    [again] = await found(jobs, 1)
    assert (again.name, again.owner) == (job.name, owner)
    assert again.uid != job.uid
    assert await jobs.delete(JobIdentity(job.namespace, job.name, job.uid)) == Deletion.NOT_OURS


async def test_n4_with_its_owner_it_stays_away(jobs: KubernetesController, farms: Farms) -> None:
    owner = await farms.create("one")
    [job] = await found(jobs, 1)
    assert job.owner == owner
    assert await jobs.delete(job) == Deletion.ACCEPTED
    await until(farms.workload.left, [])
    await asyncio.sleep(0.5)  # the controller looks five times
    assert (farms.made, await farms.wanted()) == (1, [])


async def test_an_owner_made_again_under_the_same_name_is_left_alone(jobs: KubernetesController, farms: Farms) -> None:
    await farms.create("one")
    [job] = await found(jobs, 1)
    earlier = JobIdentity(job.namespace, job.name, "an-earlier-uid", f"{GROUP}/{VERSION}/{KIND}/one/an-earlier-uid")
    assert await jobs.delete(earlier) == Deletion.NOT_OURS
    assert [farm["metadata"]["name"] for farm in await farms.wanted()] == ["one"]
    assert await found(jobs, 1) == [job]


async def test_somebody_elses_object_is_not_deleted_as_an_owner(jobs: KubernetesController, farms: Farms) -> None:
    mine, theirs = await farms.create("mine"), await farms.create("theirs")
    two = {job.owner: job for job in await found(jobs, 2)}
    wrong = JobIdentity(two[mine].namespace, two[mine].name, two[mine].uid, theirs)
    with pytest.raises(Refused, match=r"Farm theirs .* does not own Job"):
        await jobs.delete(wrong)
    assert len(await farms.wanted()) == 2


async def test_an_owner_of_a_kind_that_is_not_there_is_gone(jobs: KubernetesController, farms: Farms) -> None:
    never = JobIdentity(farms.workload.namespace, "job", "uid", "gone.test/v1/Field/field/field-uid")
    assert await jobs.delete(never) == Deletion.GONE
