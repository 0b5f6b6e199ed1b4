"""The Kubernetes adapter and the objects above a Job: found by discovery, vouched for, deleted first."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.contract.scripted_cluster import (
    EVALUATION,
    JOB,
    Api,
    Handler,
    a_job,
    always,
    controller,
    listed,
    only_of_this_evaluation,
    refusal,
    scripted,
)
from worker.adapters.kubernetes import KubernetesController
from worker.errors import Refused, Unavailable
from worker.ports import Deletion, JobIdentity

OWNED = JobIdentity("runs", "job-1", "job-uid", "acme.test/v1/Farm/farm-1/farm-uid")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with scripted(tmp_path) as api:
        yield api


@pytest.fixture
async def jobs(api: Api) -> AsyncIterator[KubernetesController]:
    async with controller(api) as jobs:
        yield jobs


def discovered(*versions: str, above: dict[str, Any] | None = None) -> Handler:
    """What the API says of itself, and the Farm `between`, which is owned by `above`."""
    served = [{"groupVersion": f"acme.test/{version}"} for version in versions or ("v1",)]
    group = {"name": "acme.test", "versions": served, "preferredVersion": served[-1]}
    kinds = [("farms/status", "Farm"), ("farms", "Farm"), ("herds", "Herd")]
    resources = [{"name": name, "kind": kind, "namespaced": kind == "Farm"} for name, kind in kinds]

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/apis":
            return web.json_response({"kind": "APIGroupList", "groups": [group]})
        if request.path.endswith("/farms/between") and above:
            return web.json_response({"metadata": {"uid": "between-uid", "ownerReferences": [above]}})
        if request.path.removeprefix("/apis/") in [version["groupVersion"] for version in served]:
            return web.json_response({"kind": "APIResourceList", "resources": resources})
        return web.Response(status=404, text="404 page not found")

    return handler


async def test_the_owner_is_deleted_first_by_uid_where_its_kind_lives(api: Api, jobs: KubernetesController) -> None:
    owner = {"apiVersion": "acme.test/v1", "kind": "Farm", "name": "farm-1", "uid": "farm-uid", "controller": True}
    api.jobs, api.others = only_of_this_evaluation(a_job(owner=owner)), discovered()
    api.deletes = always(lambda: web.json_response({"kind": "Farm"}))
    assert [job.owner for job in await jobs.find(EVALUATION)] == [OWNED.owner] * 2
    assert await jobs.delete(OWNED) == Deletion.ACCEPTED
    assert [(each.path, each.body["preconditions"]) for each in api.asked if each.method == "DELETE"] == [
        ("/apis/acme.test/v1/namespaces/runs/farms/farm-1", {"uid": "farm-uid"}),
        ("/apis/batch/v1/namespaces/runs/jobs/job-1", {"uid": "job-uid"}),
    ]
    above = JobIdentity("runs", "job-1", "job-uid", "acme.test/v1/Herd/herd-1/farm-uid")
    await jobs.delete(above)
    assert api.asked[-2].path == "/apis/acme.test/v1/herds/herd-1"
    assert api.count("GET", "/acme.test/v1") == 2


async def test_a_controller_that_the_document_does_not_name_is_given_time_to_make_its_job_again(
    api: Api, jobs: KubernetesController
) -> None:
    owner = {"apiVersion": "acme.test/v1", "kind": "Farm", "name": "farm-1", "uid": "farm-uid", "controller": True}
    deleted = a_job(owner=owner)
    deleted["metadata"]["labels"] = {"verdict-worker/evaluation-id": EVALUATION}
    api.deletes = always(lambda: web.json_response(deleted))
    await jobs.delete(JOB)
    assert api.count("DELETE") == 1
    looking = asyncio.create_task(jobs.find(EVALUATION))
    await asyncio.sleep(0.5)
    api.jobs = only_of_this_evaluation(a_job(uid="again", owner=owner))
    assert [(job.uid, job.owner) for job in await looking] == [("again", OWNED.owner)] * 2
    began = time.monotonic()
    await jobs.find(EVALUATION)
    assert time.monotonic() - began < 1


async def test_a_controller_that_nobody_named_is_passed_over_where_it_has_jobs_of_others_as_well(
    api: Api, jobs: KubernetesController
) -> None:
    farm = {"apiVersion": "acme.test/v1", "kind": "Farm", "name": "farm-1", "uid": "farm-uid"}
    api.jobs = always(lambda: listed(a_job(owner=farm | {"controller": True})))
    assert [job.owner for job in await jobs.find(EVALUATION)] == [None, None]
    label = "verdict-worker/evaluation-id"
    assert api.count("GET", "/runs/jobs", labelSelector=f"{label},{label}!={EVALUATION}") == 1


async def test_an_owner_further_up_is_found_through_those_between(api: Api, jobs: KubernetesController) -> None:
    between = {"apiVersion": "acme.test/v1", "kind": "Farm", "name": "between", "uid": "between-uid"}
    above = {"apiVersion": "acme.test/v1", "kind": "Farm", "name": "farm-1", "uid": "farm-uid"}

    api.jobs, api.others = always(lambda: listed(a_job(owner=between))), discovered(above=above)
    assert await jobs.delete(OWNED) == Deletion.GONE
    assert api.count("DELETE", "/farms/farm-1") == 1


async def test_an_owner_that_the_job_does_not_have_is_left_alone(api: Api, jobs: KubernetesController) -> None:
    api.jobs, api.others = always(lambda: listed(a_job())), discovered()
    with pytest.raises(Refused, match=r"Farm farm-1 .* does not own Job runs/job-1"):
        await jobs.delete(OWNED)
    assert api.count("DELETE") == 0


@pytest.mark.parametrize(
    "owner", ["farm-1", "v1/Pod//uid", "a/b/v1/K/n/u", "v1/Pod/../uid", "../v1/K/n/u", "v1/../n/u"]
)
async def test_an_owner_of_no_possible_name_is_refused_before_anything_is_asked(
    api: Api, jobs: KubernetesController, owner: str
) -> None:
    with pytest.raises(Refused):
        await jobs.delete(JobIdentity("runs", "job-1", "job-uid", owner))
    assert api.asked == []


async def test_an_owner_is_found_under_the_version_that_is_served(api: Api, jobs: KubernetesController) -> None:
    api.others = discovered("v2", "v3")
    await jobs.delete(OWNED)
    assert api.count("DELETE", "/apis/acme.test/v3/namespaces/runs/farms/farm-1") == 1


@pytest.mark.parametrize("owner", ["gone.test/v1/Farm/farm-1/farm-uid", "acme.test/v1/Barn/barn-1/barn-uid"])
async def test_an_owner_of_a_kind_that_the_cluster_has_no_more_is_gone(
    api: Api, jobs: KubernetesController, owner: str
) -> None:
    api.others = discovered()
    assert await jobs.delete(JobIdentity("runs", "job-1", "job-uid", owner)) == Deletion.GONE
    assert [each.path for each in api.asked if each.method == "DELETE"] == ["/apis/batch/v1/namespaces/runs/jobs/job-1"]


async def test_a_discovery_that_is_none_is_no_proof_that_a_kind_is_gone(api: Api, jobs: KubernetesController) -> None:
    for answer in (lambda: web.Response(status=404), lambda: refusal(404, "NotFound"), lambda: web.json_response({})):
        api.others = always(answer)
        with pytest.raises(Unavailable):
            await jobs.delete(OWNED)
    assert api.count("DELETE") == 0
