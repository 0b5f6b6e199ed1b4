"""The Kubernetes adapter: what it asks of an API server, and what each answer means."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.contract.scripted_cluster import (
    EVALUATION,
    JOB,
    POD,
    Api,
    a_job,
    a_pod,
    always,
    controller,
    listed,
    refusal,
    scripted,
)
from worker.adapters.kubernetes import KubernetesController
from worker.errors import Refused, Unavailable
from worker.ports import Deletion, JobIdentity

FORBIDDEN = "jobs.batch is forbidden: User ada cannot list resource jobs"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with scripted(tmp_path) as api:
        yield api


@pytest.fixture
async def jobs(api: Api) -> AsyncIterator[KubernetesController]:
    async with controller(api) as jobs:
        yield jobs


# ------------------------------------------------------------------------------ what is asked


async def test_policy_and_uid_stand_in_the_body_of_a_delete_and_nothing_in_its_query(
    api: Api, jobs: KubernetesController
) -> None:
    api.deletes, api.pods = always(lambda: web.json_response({"kind": "Job"})), always(lambda: listed(a_pod()))
    assert await jobs.delete(JOB) == Deletion.ACCEPTED
    assert await jobs.delete_pod(JOB, POD, 1) == Deletion.ACCEPTED
    assert await jobs.delete_pod(JOB, POD, 0) == Deletion.REMOVED
    options = {"apiVersion": "v1", "kind": "DeleteOptions"}
    of_pod = options | {"preconditions": {"uid": "pod-uid"}}
    assert [(each.path, each.query, each.body) for each in api.asked if each.method == "DELETE"] == [
        (
            "/apis/batch/v1/namespaces/runs/jobs/job-1",
            {},
            options | {"preconditions": {"uid": "job-uid"}, "propagationPolicy": "Foreground"},
        ),
        ("/api/v1/namespaces/runs/pods/job-1-x", {}, of_pod | {"gracePeriodSeconds": 1}),
        ("/api/v1/namespaces/runs/pods/job-1-x", {}, of_pod | {"gracePeriodSeconds": 0}),
    ]


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a?b", "a%2fb", "a,metadata.namespace=b", "-a", "a\n"])
async def test_a_name_that_no_object_can_have_is_refused_before_anything_is_asked(
    api: Api, jobs: KubernetesController, name: str
) -> None:
    """A document is as whoever wrote it left it, and `..` in a path would lead to something else."""
    named, within = JobIdentity("runs", name, "uid"), JobIdentity(name, "job", "uid")
    for job in (named, within):
        with pytest.raises(Refused):
            await jobs.delete(job)
        with pytest.raises(Refused):
            await jobs.observe(job)
    with pytest.raises(Refused):
        await jobs.delete_pod(within, POD, 1)
    assert api.asked == []


async def test_a_job_is_read_before_its_pods(api: Api, jobs: KubernetesController) -> None:
    await jobs.observe(JOB)
    assert [each.path.rpartition("/")[2] for each in api.asked] == ["jobs", "pods"]
    assert api.asked[1].query["labelSelector"] == "batch.kubernetes.io/controller-uid=job-uid"


async def test_all_pages_of_all_namespaces_are_found(api: Api, jobs: KubernetesController) -> None:
    async def pages(request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == f"verdict-worker/evaluation-id={EVALUATION}"
        page = request.query.get("continue", "1")
        return listed(
            a_job(uid=f"{request.path.split('/')[5]}-{page}"),
            following="" if page == "3" else f"{page}2"[1:] if page == "1" else "3",
        )

    api.jobs = pages
    found = await jobs.find(EVALUATION)
    assert [job.uid for job in found] == ["runs-1", "runs-2", "runs-3", "more-1", "more-2", "more-3"]


async def test_a_uid_that_no_cluster_gives_is_gone_and_its_pods_are_not_asked_for(
    api: Api, jobs: KubernetesController
) -> None:
    strange = JobIdentity("runs", "job-1", "not/a,uid")
    assert (await jobs.observe(strange)).gone
    assert await jobs.delete(strange) == Deletion.GONE
    assert api.count("GET", "/pods") == 0


# ------------------------------------------------------------------------------ what was answered


async def test_what_was_asked_for_in_retry_after_is_passed_on(api: Api, jobs: KubernetesController) -> None:
    api.deletes = always(lambda: refusal(429, "TooManyRequests", **{"Retry-After": "7"}))
    with pytest.raises(Unavailable, match="429: TooManyRequests") as caught:
        await jobs.delete(JOB)
    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize("status", [400, 410, 422, 500, 503, 504])
async def test_any_other_status_is_an_outage(api: Api, jobs: KubernetesController, status: int) -> None:
    api.jobs = api.deletes = always(lambda: refusal(status, "Whatever"))
    for call in (jobs.find(EVALUATION), jobs.delete(JOB), jobs.observe(JOB)):
        with pytest.raises(Unavailable, match=f"HTTP {status}: Whatever"):
            await call


@pytest.mark.parametrize("status", [404, 409])
async def test_a_proxys_not_found_or_conflict_proves_nothing(api: Api, jobs: KubernetesController, status: int) -> None:
    api.jobs = api.deletes = always(lambda: web.Response(status=status, text="<h1>no such page</h1>"))
    for call in (jobs.find(EVALUATION), jobs.delete(JOB), jobs.observe(JOB)):
        with pytest.raises(Unavailable):
            await call


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"kind": "Status"}', '{"kind": "JobList", "items": []}', "<p>hello", "\xff"]
)
async def test_an_answer_that_is_no_list_is_no_empty_list(api: Api, jobs: KubernetesController, body: str) -> None:
    api.jobs = always(lambda: web.Response(body=body.encode("latin-1"), content_type="application/json"))
    with pytest.raises(Unavailable):
        await jobs.find(EVALUATION)


async def test_what_the_cluster_forbids_is_refused_with_its_reason(api: Api, jobs: KubernetesController) -> None:
    api.jobs = api.deletes = always(lambda: refusal(403, "Forbidden", FORBIDDEN))
    api.others = always(lambda: web.json_response({"kind": "Namespace", "status": {"phase": "Active"}}))
    for call in (jobs.find(EVALUATION), jobs.delete(JOB), jobs.observe(JOB)):
        with pytest.raises(Refused, match=FORBIDDEN):
            await call
    api.others = always(lambda: refusal(403, "Forbidden", "namespaces are forbidden, too"))
    with pytest.raises(Refused, match=FORBIDDEN):
        await jobs.delete(JOB)


async def test_a_namespace_that_took_the_workers_role_with_it_is_gone(api: Api, jobs: KubernetesController) -> None:
    api.jobs = api.pods = api.deletes = always(lambda: refusal(403, "Forbidden", FORBIDDEN))
    assert await jobs.find(EVALUATION) == []
    assert await jobs.delete(JOB) == Deletion.GONE
    assert (await jobs.observe(JOB)).gone
    api.others = always(lambda: web.json_response({"kind": "Namespace", "status": {"phase": "Terminating"}}))
    for call in (jobs.find(EVALUATION), jobs.delete(JOB), jobs.observe(JOB)):
        with pytest.raises(Unavailable, match="is being deleted"):
            await call


async def test_a_conflict_on_the_same_job_does_not_mean_that_it_is_anothers(
    api: Api, jobs: KubernetesController
) -> None:
    api.deletes, api.jobs = always(lambda: refusal(409, "Conflict")), always(lambda: listed(a_job()))
    with pytest.raises(Unavailable, match="still the same Job"):
        await jobs.delete(JOB)
    api.jobs = always(lambda: listed(a_job(uid="another")))
    assert await jobs.delete(JOB) == Deletion.NOT_OURS


@pytest.mark.parametrize(("status", "reason"), [(404, "NotFound"), (409, "Conflict")])
async def test_pods_that_a_job_left_behind_are_asked_to_stop_with_their_own_grace(
    api: Api, jobs: KubernetesController, status: int, reason: str
) -> None:
    async def delete(request: web.Request) -> web.Response:
        return refusal(status, reason) if "/jobs/" in request.path else web.json_response({"kind": "Pod"})

    api.deletes, api.pods = delete, always(lambda: listed(a_pod()))
    assert await jobs.delete(JOB) == Deletion.ACCEPTED
    assert api.asked[-1].path == "/api/v1/namespaces/runs/pods/job-1-x"
    assert api.asked[-1].body == {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "pod-uid"}}
    api.pods = always(lambda: listed(a_pod("Succeeded")))
    assert await jobs.delete(JOB) == (Deletion.GONE if status == 404 else Deletion.NOT_OURS)


# ------------------------------------------------------------------------------ connections


async def test_a_connection_cut_before_the_answer_is_an_outage_and_the_delete_is_not_sent_again(
    api: Api, jobs: KubernetesController
) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    api.deletes = cut
    await jobs.observe(JOB)  # so that a connection is there to be reused
    with pytest.raises(Unavailable, match="cannot be reached"):
        await jobs.delete(JOB)
    assert api.count("DELETE") == 1


async def test_a_connection_cut_in_the_middle_of_an_answer_is_an_outage(api: Api, jobs: KubernetesController) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"kind": "JobList", "metadata": {}, "items": [')
        assert request.transport is not None
        request.transport.close()
        return response

    api.jobs = cut
    with pytest.raises(Unavailable, match="cannot be reached"):
        await jobs.find(EVALUATION)


async def test_a_silent_server_is_an_outage_after_the_time_out(api: Api) -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    api.jobs = silent
    async with controller(api, request_timeout_seconds=0.2) as jobs:
        with pytest.raises(Unavailable, match="did not answer in time"):
            await jobs.find(EVALUATION)
