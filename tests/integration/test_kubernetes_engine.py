"""The engine, over its SQLite log and store, against a real cluster: from the command to the verdict.

What stops and what is gone is asked of the API server by a client of its own.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from kubernetes_asyncio.client import ApiClient

from schemas.audit import DecisionSettings
from tests.contract.stack import Stack, evaluation_id
from tests.integration.farms import Farms, above
from tests.integration.workload import LABEL, READ_JOBS, READ_PODS, STUBBORN, Workload, controller, kubeconfig_of, until
from tests.services.cluster import Cluster
from worker.ports import JobIdentity, Topic

EVALUATION = evaluation_id()
KEPT = f"teams/team-1/evaluations/{EVALUATION}/request.json"
PARTIAL = [f"teams/team-1/evaluations/{EVALUATION}/partial/{n}" for n in range(3)]
HOLD = "acme.test/hold"


@asynccontextmanager
async def worker(folder: Path, kubeconfig: Path, *namespaces: str) -> AsyncIterator[Stack]:
    """A worker that runs and may touch these namespaces."""
    settings = DecisionSettings(namespaces=namespaces, deadline_seconds_min=0)
    async with controller(kubeconfig, *namespaces) as jobs:
        stack = Stack(folder, cast(Any, jobs), settings)
        await stack.store.start()
        await stack.engine.start()
        try:
            yield stack
        finally:
            await stack.engine.stop()


@pytest.fixture
async def stack(tmp_path: Path, kubernetes: Cluster, namespace: str) -> AsyncIterator[Stack]:
    async with worker(tmp_path, kubernetes.kubeconfig, namespace) as running:
        yield running


@pytest.fixture
def workload(kubernetes_client: ApiClient, namespace: str) -> Workload:
    return Workload(kubernetes_client, namespace)


def reported(job: JobIdentity) -> dict[str, Any]:
    """A Job as documents and reports name it."""
    return {"namespace": job.namespace, "name": job.name, "uid": job.uid}


async def verdict_on(stack: Stack, command_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        async for record in stack.stream.read(Topic.RESULTS, {0: 0}, follow=True):
            verdict: dict[str, Any] = json.loads(record.value or b"")
            if verdict["command"]["id"] == command_id:
                return verdict
    raise AssertionError("unreachable: it is followed")


async def cancel(stack: Stack, command_id: str = "cancel", **data: Any) -> dict[str, Any]:
    """-> its verdict; the reconciler's own commands have others."""
    await stack.send("evaluation.cancel", command_id, **data)
    return await verdict_on(stack, command_id)


async def test_a_cancelled_evaluation_leaves_no_job_no_pod_and_no_partial_object_but_its_request(
    stack: Stack, workload: Workload
) -> None:
    job = await workload.job(EVALUATION, pods=2)
    another = await workload.job(evaluation_id(2))
    await stack.create(jobs=[reported(job)])
    for key in (KEPT, *PARTIAL):
        await stack.store.put(key, b"x")
    verdict = await cancel(stack)
    assert (verdict["outcome"], verdict["code"], verdict["http_status"]) == ("applied", "cancelled", 200)
    assert (verdict["receipt"]["evidence"], verdict["receipt"]["objects_removed"]) == ("stopped", 3)
    [resource] = verdict["receipt"]["resources"]
    assert (resource["identity"], len(resource["pods"]), resource["escalations"]) == (job.uid, 2, [])
    assert await stack.store.list(f"teams/team-1/evaluations/{EVALUATION}/") == [KEPT]
    assert await workload.jobs() == {another.name: another.uid}
    assert await workload.phases(another) == ["Running"]


async def test_a_job_that_nobody_reported_is_found_by_its_label(stack: Stack, workload: Workload) -> None:
    job = await workload.job(EVALUATION)
    await stack.create()
    verdict = await cancel(stack)
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    assert [each["identity"] for each in verdict["receipt"]["resources"]] == [job.uid]
    await until(workload.left, [])


async def test_a_job_that_ended_by_itself_is_stopped_and_the_evaluation_cancelled(
    stack: Stack, workload: Workload
) -> None:
    job = await workload.job(EVALUATION, "exit 0", ready=False)
    await until(lambda: workload.phases(job), ["Succeeded"])
    await stack.create(jobs=[reported(job)])
    verdict = await cancel(stack)
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    await until(workload.left, [])


async def test_a_job_of_that_name_with_another_uid_is_left_and_ours_is_gone(stack: Stack, workload: Workload) -> None:
    again = await workload.job(evaluation_id(2), name="nightly")
    await stack.create(jobs=[reported(again) | {"uid": "an-earlier-uid"}])
    verdict = await cancel(stack)
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    assert await workload.phases(again) == ["Running"]


async def test_a_job_and_a_namespace_that_are_gone_already_are_success(
    kubernetes: Cluster, workload: Workload, tmp_path: Path
) -> None:
    gone = JobIdentity(workload.namespace, "gone", "gone-uid")
    nowhere = JobIdentity("never-was", "gone", "another-uid")
    async with worker(tmp_path, kubernetes.kubeconfig, gone.namespace, nowhere.namespace) as stack:
        await stack.create(jobs=[reported(gone), reported(nowhere)])
        verdict = await cancel(stack)
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")


async def test_pods_that_ignore_sigterm_are_killed_and_removed_before_the_deadline(
    stack: Stack, workload: Workload
) -> None:
    job = await workload.job(EVALUATION, STUBBORN, grace_seconds=60)
    await stack.create(jobs=[reported(job)])
    verdict = await cancel(stack, grace_period_seconds=1, deadline_seconds=10)
    assert (verdict["code"], verdict["http_status"]) == ("cancelled", 200)
    [resource] = verdict["receipt"]["resources"]
    # The local node ignores the shortening on a pod that is terminating already: another one confirms the kill.
    assert [each["grace_period_seconds"] for each in resource["escalations"]] == [1, 0]
    assert resource["evidence"] == "forced"
    await until(workload.left, [])


async def test_what_the_cluster_forbids_is_a_502_with_its_reason_and_is_resumed_once_it_is_allowed(
    kubernetes: Cluster, workload: Workload, tmp_path: Path
) -> None:
    job = await workload.job(EVALUATION)
    path = kubeconfig_of(await workload.account("weak", READ_JOBS, READ_PODS), kubernetes.kubeconfig, tmp_path / "weak")
    async with worker(tmp_path, path, workload.namespace) as stack:
        await stack.create(jobs=[reported(job)])
        verdict = await cancel(stack)
        assert (verdict["outcome"], verdict["code"], verdict["http_status"]) == ("failed", "forbidden_by_cluster", 502)
        assert f'jobs.batch "{job.name}" is forbidden' in verdict["message"]
        assert (await stack.workflow()).status.value == "cancelling"
        assert await workload.phases(job) == ["Running"]
        rules = [rule | {"verbs": ["list", "watch", "delete"]} for rule in (READ_JOBS, READ_PODS)]
        strong = await workload.account("strong", *rules)
        await asyncio.to_thread(kubeconfig_of, strong, kubernetes.kubeconfig, path)
        await stack.crash()
        await stack.engine.start()
        assert (await cancel(stack, "again"))["code"] == "cancelled"
    await until(workload.left, [])


async def test_a_finalizer_holds_the_job_and_the_cancel_is_unconfirmed_until_it_is_taken_off(
    stack: Stack, workload: Workload
) -> None:
    job = await workload.job(EVALUATION, metadata={"finalizers": [HOLD]})
    await stack.create(jobs=[reported(job)])
    verdict = await cancel(stack, deadline_seconds=6)
    assert (verdict["outcome"], verdict["code"], verdict["http_status"]) == ("failed", "unconfirmed", 504)
    assert verdict["receipt"]["resources"][0]["detail"] == f"held by {HOLD}"
    assert (await stack.workflow()).status.value == "cancelling"
    await workload.release(job)
    assert (await cancel(stack, "again"))["code"] == "cancelled"


async def test_a_job_reported_after_the_cancel_is_torn_down_as_well(stack: Stack, workload: Workload) -> None:
    await stack.create()
    assert (await cancel(stack))["code"] == "cancelled"
    late = await workload.job(EVALUATION)
    job = reported(late) | {"labels": {LABEL: EVALUATION}}
    await stack.send("workflow.update", "late", status="running", job=job)
    verdict = await verdict_on(stack, "late")
    assert (verdict["http_status"], verdict["receipt"]["evidence"]) == (200, "stopped")
    assert (await stack.workflow()).status.value == "cancelled"
    await until(workload.left, [])


@pytest.mark.parametrize("named", [True, False])
async def test_a_job_that_its_owner_makes_again_stays_away(
    stack: Stack, kubernetes_client: ApiClient, namespace: str, named: bool
) -> None:
    farms = Farms(kubernetes_client, namespace, EVALUATION)
    await farms.define()
    owner = await farms.create("one")
    await farms.work()
    [(name, uid)] = (await farms.workload.jobs()).items()
    job = JobIdentity(namespace, name, uid)
    async with farms.controlled():
        await stack.create(jobs=[reported(job) | ({"owner": owner} if named else {})])
        verdict = await cancel(stack)
        assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
        await asyncio.sleep(0.5)  # the controller looks five times
        await until(farms.workload.left, [])
        assert await farms.wanted() == []


async def test_an_owner_that_nobody_named_and_that_makes_nothing_again_is_left_alone(
    stack: Stack, kubernetes_client: ApiClient, namespace: str
) -> None:
    """Only the document's word, or a Job that came back, is a reason to delete what is above it (facts, N4)."""
    farms = Farms(kubernetes_client, namespace, EVALUATION)
    await farms.define()
    await farms.create("one")
    await farms.work()
    [(name, uid)] = (await farms.workload.jobs()).items()
    await stack.create(jobs=[reported(JobIdentity(namespace, name, uid))])
    verdict = await cancel(stack)
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    assert [farm["metadata"]["name"] for farm in await farms.wanted()] == ["one"]


async def test_an_owner_that_has_jobs_of_another_evaluation_as_well_is_left_alone(
    stack: Stack, kubernetes_client: ApiClient, namespace: str
) -> None:
    farms = Farms(kubernetes_client, namespace, EVALUATION)
    await farms.define()
    await farms.create("shared")
    await farms.work()
    [farm] = await farms.wanted()
    another = await farms.workload.job(evaluation_id(2), metadata={"ownerReferences": [above(farm)]})
    await stack.create()
    verdict = await cancel(stack)
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    assert await farms.workload.jobs() == {another.name: another.uid}
    assert await farms.workload.phases(another) == ["Running"]


@pytest.mark.parametrize("fault", ["killed", "paused"])
async def test_an_api_server_that_is_away_is_waited_out(
    stack: Stack, kubernetes: Cluster, workload: Workload, fault: str
) -> None:
    jobs = [await workload.job(EVALUATION, ready=False) for _ in range(4)]
    for job in jobs:
        await until(partial(workload.phases, job), ["Running"])
    await stack.create(jobs=[reported(job) for job in jobs])
    await kubernetes.ctl("down" if fault == "killed" else "pause", "apiserver")
    await stack.send("evaluation.cancel", "cancel")
    await asyncio.sleep(2)
    await kubernetes.ctl("start" if fault == "killed" else "resume", "apiserver")
    verdict = await verdict_on(stack, "cancel")
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    await until(workload.left, [])
