"""The rules N1, N2, N3 and N6 over a real cluster, and what else it does to Jobs while they are stopped."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from kubernetes_asyncio.client import ApiClient

from tests.contract.suites.jobs import ONE, OTHER
from tests.integration.workload import POLITE, STUBBORN, Workload, controller, until
from tests.services.cluster import Cluster
from worker.adapters.kubernetes import KubernetesController
from worker.ports import Deletion, JobIdentity, JobView

PATIENCE_SECONDS = 20.0
HOLD = "acme.test/hold"
UNHELD = [{"op": "remove", "path": "/metadata/finalizers"}]


@pytest.fixture
async def jobs(kubernetes: Cluster, namespace: str) -> AsyncIterator[KubernetesController]:
    async with controller(kubernetes.kubeconfig, namespace) as found:
        yield found


@pytest.fixture
def workload(kubernetes_client: ApiClient, namespace: str) -> Workload:
    return Workload(kubernetes_client, namespace)


async def seen(
    jobs: KubernetesController, job: JobIdentity, wanted: JobView, timeout_seconds: float = PATIENCE_SECONDS
) -> None:
    """Observe until this view is seen.  Raises AssertionError, with the view that is seen instead."""
    until_time = time.monotonic() + timeout_seconds
    view = await jobs.observe(job)
    while view != wanted and (left := until_time - time.monotonic()) > 0:
        view = await jobs.observe(job, since=view, timeout_seconds=left)
    assert view == wanted


GONE = JobView(exists=False)


async def test_n1_a_deleted_job_takes_its_pods_along(jobs: KubernetesController, workload: Workload) -> None:
    job = await workload.job(ONE, pods=2)
    assert await jobs.delete(job) == Deletion.ACCEPTED
    await until(workload.left, [])
    assert await jobs.observe(job) == GONE


async def test_n2_a_job_made_again_under_the_same_name_is_left_alone(
    jobs: KubernetesController, workload: Workload
) -> None:
    job = await workload.job(ONE, name="nightly")
    await jobs.delete(job)
    await seen(jobs, job, GONE)
    again = await workload.job(OTHER, name="nightly")
    assert await jobs.delete(job) == Deletion.NOT_OURS
    assert await jobs.observe(job) == GONE
    assert await workload.jobs() == {"nightly": again.uid}
    assert await workload.phases(again) == ["Running"]


async def test_n2_a_delete_that_is_repeated_finds_it_gone(jobs: KubernetesController, workload: Workload) -> None:
    job = await workload.job(ONE)
    await jobs.delete(job)
    await seen(jobs, job, GONE)
    assert await jobs.delete(job) == Deletion.GONE


async def test_n3_a_job_is_not_gone_before_its_pods(jobs: KubernetesController, workload: Workload) -> None:
    job = await workload.job(ONE, STUBBORN, grace_seconds=60)
    [before] = (await jobs.observe(job)).pods
    await workload.delete(job, "Background")
    await until(workload.jobs, {})
    view = await jobs.observe(job)
    assert (view.exists, [pod.uid for pod in view.pods], view.gone) == (False, [before.uid], False)
    assert await jobs.delete(job) == Deletion.ACCEPTED
    assert await jobs.delete_pod(job, before, 0) == Deletion.REMOVED
    await seen(jobs, job, GONE)


async def test_n3_pods_that_a_job_left_behind_are_asked_to_stop(jobs: KubernetesController, workload: Workload) -> None:
    job = await workload.job(ONE, pods=2)
    await workload.delete(job, "Orphan")
    await until(workload.jobs, {})
    assert [pod.terminating for pod in (await jobs.observe(job)).pods] == [False, False]
    assert await jobs.delete(job) == Deletion.ACCEPTED
    await seen(jobs, job, GONE)
    await until(workload.left, [])


async def test_n6_a_pod_is_killed_one_second_after_it_is_asked_for(
    jobs: KubernetesController, workload: Workload
) -> None:
    job = await workload.job(ONE, STUBBORN, grace_seconds=60)
    [pod] = (await jobs.observe(job)).pods
    began = time.monotonic()
    assert await jobs.delete_pod(job, pod, 1) == Deletion.ACCEPTED
    await until(lambda: workload.phases(job), [])
    assert 1 <= time.monotonic() - began < 15


async def test_n6_a_pod_that_is_terminating_for_long_is_removed_by_grace_0(
    jobs: KubernetesController, workload: Workload
) -> None:
    job = await workload.job(ONE, STUBBORN, grace_seconds=60)
    await jobs.delete(job)
    await until(lambda: workload.phases(job), ["Running"])
    [pod] = (await jobs.observe(job)).pods
    assert pod.terminating
    assert await jobs.delete_pod(job, pod, 0) == Deletion.REMOVED
    await seen(jobs, job, GONE)
    assert await jobs.delete_pod(job, pod, 0) == Deletion.GONE


async def test_a_suspended_job_has_no_pods_and_goes_like_any_other(
    jobs: KubernetesController, workload: Workload
) -> None:
    never, later = await workload.job(ONE, suspend=True, ready=False), await workload.job(ONE)
    await workload.suspend(later)
    for job in (never, later):
        await seen(jobs, job, JobView(exists=True))
        assert await jobs.delete(job) == Deletion.ACCEPTED
        await seen(jobs, job, GONE)
    await until(workload.left, [])


@pytest.mark.parametrize(("status", "outcome"), [(0, "completed"), (1, "failed")])
async def test_a_job_that_has_ended_by_itself_tells_how_until_it_is_deleted(
    jobs: KubernetesController, workload: Workload, status: int, outcome: Literal["completed", "failed"]
) -> None:
    job = await workload.job(ONE, f"exit {status}", ready=False)
    await seen(jobs, job, JobView(exists=True, outcome=outcome))
    assert len(await workload.pods(job)) == 1, "its pod lingers, and runs no more"
    assert await jobs.delete(job) == Deletion.ACCEPTED
    await seen(jobs, job, GONE)
    await until(workload.left, [])


async def test_a_job_that_the_ttl_controller_took_first_is_gone(jobs: KubernetesController, workload: Workload) -> None:
    job = await workload.job(ONE, "exit 0", ready=False, ttlSecondsAfterFinished=0)
    await seen(jobs, job, GONE)
    assert await jobs.delete(job) == Deletion.GONE


async def test_a_finalizer_holds_a_job_until_it_is_taken_off(jobs: KubernetesController, workload: Workload) -> None:
    job = await workload.job(ONE, metadata={"finalizers": [HOLD]})
    assert (await jobs.observe(job)).held_by == ()
    await jobs.delete(job)
    held = JobView(exists=True, held_by=(HOLD,))
    await seen(jobs, job, held)
    assert await jobs.delete(job) == Deletion.ACCEPTED
    watching = asyncio.create_task(jobs.observe(job, since=held, timeout_seconds=20))
    await workload.release(job)
    assert await watching == GONE


async def test_a_dead_pod_whose_object_is_held_runs_no_more(jobs: KubernetesController, workload: Workload) -> None:
    job = await workload.job(ONE, POLITE, pod_metadata={"finalizers": [HOLD]})
    await jobs.delete(job)
    await seen(jobs, job, JobView(exists=True, held_by=(HOLD,)))
    [pod] = await workload.pods(job)
    await workload.core.patch_namespaced_pod(pod.metadata.name, workload.namespace, UNHELD)
    await seen(jobs, job, GONE)


async def test_a_namespace_that_never_was_holds_nothing(kubernetes: Cluster) -> None:
    async with controller(kubernetes.kubeconfig, "never-was") as jobs:
        job = JobIdentity("never-was", "job", "uid")
        assert await jobs.find(ONE) == []
        assert await jobs.delete(job) == Deletion.GONE
        assert await jobs.observe(job) == GONE
