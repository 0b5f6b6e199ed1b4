"""What Kubernetes does, through its client library: each body holds over a real cluster and over the simulator's model.

The rows N1 to N6 of the facts, and the forms of lists, watches and errors that the adapter goes by.  Knows the API, not
who answers.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol

import pytest
from aiohttp import ClientConnectorError, ClientPayloadError, ClientTimeout
from kubernetes_asyncio.client import ApiException

from tests.contract.suites.jobs import ONE, OTHER
from worker.ports import JobIdentity

Object = dict[str, Any]
HOLD = "acme.test/hold"
LABEL = "verdict-worker/evaluation-id"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
METADATA = "application/json;as={};g=meta.k8s.io;v=v1, application/json"
PATIENCE_SECONDS = 30.0


class Rig(Protocol):
    """A cluster, a client of it that may do everything, and Jobs for tests to delete."""

    client: Any
    """As the adapter's `connect` gives it."""
    namespace: str

    async def job(
        self,
        evaluation_id: str = ONE,
        does: Literal["polite", "stubborn", "succeeds", "fails"] = "polite",
        *,
        pods: int = 1,
        grace_seconds: int = 30,
        ttl_seconds: int | None = None,
        finalizers: Sequence[str] = (),
    ) -> JobIdentity:
        """A Job; its pods run, unless they end by themselves."""

    async def farm(self, name: str) -> JobIdentity:
        """The Job that somebody's controller keeps for an object of its own: `acme.test/v1`, kind Farm."""

    async def release(self, job: JobIdentity) -> None:
        """Take its finalizers off."""

    async def unknown(self) -> Any:
        """A client whose token the cluster does not know."""

    async def go_away(self) -> None:
        """Nobody listens any more, and connections end."""

    async def come_back(self) -> None:
        """It answers again."""


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(
    ask: Callable[[], Awaitable[object]], wanted: object, timeout_seconds: float = PATIENCE_SECONDS
) -> None:
    """Ask until it is as wanted.  Raises AssertionError, with what it is instead."""
    end = now() + timeout_seconds
    while (said := await ask()) != wanted:
        assert now() < end, f"still {said!r}, not {wanted!r}"
        await asyncio.sleep(0.05)


async def call(rig: Rig, method: str, path: str, *, accept: str = "application/json", **more: Any) -> Object:
    """-> the object that is answered.  Raises ApiException."""
    found, _, _ = await rig.client.call_api(
        path,
        method,
        query_params=list(more.get("query", {}).items()),
        header_params={"Accept": accept, "Content-Type": "application/json"},
        body=more.get("body"),
        response_types_map={200: "object", 201: "object", 202: "object"},
        auth_settings=["BearerToken"],
        _request_timeout=ClientTimeout(total=10),
    )
    assert isinstance(found, dict)
    return found


def jobs(rig: Rig) -> str:
    return f"/apis/batch/v1/namespaces/{rig.namespace}/jobs"


def pods(rig: Rig) -> str:
    return f"/api/v1/namespaces/{rig.namespace}/pods"


def farms(rig: Rig) -> str:
    return f"/apis/acme.test/v1/namespaces/{rig.namespace}/farms"


async def delete(rig: Rig, path: str, **options: Any) -> Object:
    body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
    return await call(rig, "DELETE", path, body=body)


async def pods_of(rig: Rig, job: JobIdentity) -> list[Object]:
    found: list[Object] = (await call(rig, "GET", pods(rig), query={"labelSelector": f"{CONTROLLER_UID}={job.uid}"}))[
        "items"
    ]
    return found


async def names(rig: Rig, path: str, **query: str) -> list[str]:
    return sorted(each["metadata"]["name"] for each in (await call(rig, "GET", path, query=query))["items"])


def told(error: pytest.ExceptionInfo[ApiException]) -> tuple[int, str]:
    """Status, and the reason that the API server gives."""
    status = json.loads(error.value.body or "")
    assert status["kind"] == "Status"
    return int(error.value.status or 0), status["reason"]


class KubernetesFacts:
    """Needs a fixture `rig`."""

    # ------------------------------------------------------------------------------ N1

    async def test_n1_a_job_deleted_without_a_policy_leaves_its_pods_running(self, rig: Rig) -> None:
        job = await rig.job()
        await delete(rig, f"{jobs(rig)}/{job.name}")
        await until(lambda: names(rig, jobs(rig)), [])
        [left] = await pods_of(rig, job)
        assert left["status"]["phase"] == "Running"
        assert "deletionTimestamp" not in left["metadata"]
        assert not left["metadata"].get("ownerReferences")

    async def test_n1_a_policy_in_the_query_is_ignored_once_there_is_a_body(self, rig: Rig) -> None:
        job = await rig.job()
        query = {"propagationPolicy": "Foreground"}
        await call(rig, "DELETE", f"{jobs(rig)}/{job.name}", query=query, body={"kind": "DeleteOptions"})
        await until(lambda: names(rig, jobs(rig)), [])
        assert len(await pods_of(rig, job)) == 1

    async def test_n1_in_the_foreground_the_job_goes_after_its_pods(self, rig: Rig) -> None:
        job = await rig.job(pods=2)
        answer = await delete(rig, f"{jobs(rig)}/{job.name}", propagationPolicy="Foreground")
        assert (answer["kind"], answer["metadata"]["uid"]) == ("Job", job.uid)
        assert "foregroundDeletion" in answer["metadata"]["finalizers"]
        assert "deletionTimestamp" in answer["metadata"]
        await until(lambda: names(rig, jobs(rig)), [])
        assert await pods_of(rig, job) == []

    # ------------------------------------------------------------------------------ N2

    async def test_n2_another_uid_is_a_conflict_and_changes_nothing(self, rig: Rig) -> None:
        job = await rig.job()
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": "another"}}
        with pytest.raises(ApiException) as error:
            await delete(rig, f"{jobs(rig)}/{job.name}", **options)
        assert told(error) == (409, "Conflict")
        found = await call(rig, "GET", f"{jobs(rig)}/{job.name}")
        assert "deletionTimestamp" not in found["metadata"]

    async def test_n2_what_is_gone_is_not_found_by_a_second_delete_either(self, rig: Rig) -> None:
        job = await rig.job()
        options = {"propagationPolicy": "Background", "preconditions": {"uid": job.uid}}
        answer = await delete(rig, f"{jobs(rig)}/{job.name}", **options)
        assert (answer["kind"], answer["status"]) == ("Status", "Success")
        for path in (f"{jobs(rig)}/{job.name}", f"{jobs(rig)}/never", f"{pods(rig)}/never"):
            with pytest.raises(ApiException) as error:
                await delete(rig, path, **options)
            assert told(error) == (404, "NotFound")

    async def test_n2_a_delete_of_what_is_going_is_accepted_again(self, rig: Rig) -> None:
        job = await rig.job(does="stubborn", grace_seconds=5)
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": job.uid}}
        first = await delete(rig, f"{jobs(rig)}/{job.name}", **options)
        again = await delete(rig, f"{jobs(rig)}/{job.name}", **options)
        assert again["metadata"]["deletionTimestamp"] == first["metadata"]["deletionTimestamp"]

    # ------------------------------------------------------------------------------ N3

    async def test_n3_a_job_that_is_gone_has_pods_that_are_not(self, rig: Rig) -> None:
        job = await rig.job(does="stubborn", grace_seconds=3)
        await delete(rig, f"{jobs(rig)}/{job.name}", propagationPolicy="Background")
        assert await names(rig, jobs(rig)) == []
        [pod] = await pods_of(rig, job)
        assert pod["status"]["phase"] == "Running"
        await until(lambda: names(rig, pods(rig)), [])

    # ------------------------------------------------------------------------------ N4

    async def test_n4_a_job_deleted_under_its_owner_is_made_again_with_another_uid(self, rig: Rig) -> None:
        job = await rig.farm("one")
        found = await call(rig, "GET", f"{jobs(rig)}/{job.name}")
        [reference] = found["metadata"]["ownerReferences"]
        assert (reference["apiVersion"], reference["kind"], reference["name"]) == ("acme.test/v1", "Farm", "one")
        assert reference["controller"] is True
        await delete(rig, f"{jobs(rig)}/{job.name}", propagationPolicy="Background")

        async def made_again() -> bool:
            there = (await call(rig, "GET", jobs(rig)))["items"]
            return [each["metadata"]["name"] for each in there] == [job.name] and (
                there[0]["metadata"]["uid"] != job.uid
            )

        await until(made_again, True)

    async def test_n4_an_owner_deleted_in_the_foreground_takes_job_and_pods_along(self, rig: Rig) -> None:
        job = await rig.farm("one")
        await delete(rig, f"{farms(rig)}/one", propagationPolicy="Foreground")
        for path in (farms(rig), jobs(rig), pods(rig)):
            await until(lambda path=path: names(rig, path), [])  # type: ignore[misc]  # each path now
        await asyncio.sleep(2)
        assert await names(rig, jobs(rig)) == []
        with pytest.raises(ApiException) as error:
            await call(rig, "GET", f"{jobs(rig)}/{job.name}")
        assert told(error) == (404, "NotFound")

    # ------------------------------------------------------------------------------ N5

    async def test_n5_a_token_that_is_not_known_is_401(self, rig: Rig) -> None:
        rig.client = await rig.unknown()
        with pytest.raises(ApiException) as error:
            await call(rig, "GET", jobs(rig))
        assert told(error) == (401, "Unauthorized")

    # ------------------------------------------------------------------------------ N6

    async def test_n6_a_grace_for_the_job_does_not_reach_its_pods(self, rig: Rig) -> None:
        job = await rig.job(does="stubborn", grace_seconds=5)
        began = now()
        await delete(rig, f"{jobs(rig)}/{job.name}", propagationPolicy="Foreground", gracePeriodSeconds=1)
        await until(lambda: names(rig, pods(rig)), [])
        assert now() - began > 4.5

    async def test_n6_a_pod_that_ignores_sigterm_is_killed_after_the_grace_that_it_is_given(self, rig: Rig) -> None:
        job = await rig.job(does="stubborn", grace_seconds=60)
        [pod] = await pods_of(rig, job)
        began = now()
        options = {"gracePeriodSeconds": 1, "preconditions": {"uid": pod["metadata"]["uid"]}}
        answer = await delete(rig, f"{pods(rig)}/{pod['metadata']['name']}", **options)
        assert answer["metadata"]["deletionGracePeriodSeconds"] == 1
        assert "deletionTimestamp" in answer["metadata"]
        await until(lambda: pods_of(rig, job), [])
        assert 1 <= now() - began < 20

    async def test_n6_grace_0_removes_a_pod_although_it_may_run(self, rig: Rig) -> None:
        job = await rig.job(does="stubborn", grace_seconds=60)
        [pod] = await pods_of(rig, job)
        await delete(rig, f"{jobs(rig)}/{job.name}", propagationPolicy="Foreground")
        began = now()
        await delete(rig, f"{pods(rig)}/{pod['metadata']['name']}", gracePeriodSeconds=0)
        await until(lambda: pods_of(rig, job), [])
        assert now() - began < 10

    # ------------------------------------------------------------------------------ Jobs that end, and are held

    @pytest.mark.parametrize(
        ("does", "condition", "phase"), [("succeeds", "Complete", "Succeeded"), ("fails", "Failed", "Failed")]
    )
    async def test_a_job_that_has_ended_says_how_and_keeps_its_pod(
        self, rig: Rig, does: Literal["succeeds", "fails"], condition: str, phase: str
    ) -> None:
        job = await rig.job(does=does)

        async def says_so() -> bool:
            found = await call(rig, "GET", f"{jobs(rig)}/{job.name}")
            conditions = found["status"].get("conditions") or ()
            return any(each["type"] == condition and each["status"] == "True" for each in conditions)

        await until(says_so, True)
        [pod] = await pods_of(rig, job)
        assert pod["status"]["phase"] == phase
        assert all("terminated" in each["state"] for each in pod["status"]["containerStatuses"])

    async def test_a_job_whose_time_to_live_is_over_is_gone(self, rig: Rig) -> None:
        job = await rig.job(does="succeeds", ttl_seconds=0)
        await until(lambda: names(rig, jobs(rig)), [])
        await until(lambda: pods_of(rig, job), [])

    async def test_a_finalizer_holds_what_was_deleted(self, rig: Rig) -> None:
        job = await rig.job(finalizers=[HOLD])
        await delete(rig, f"{jobs(rig)}/{job.name}", propagationPolicy="Foreground")
        await until(lambda: pods_of(rig, job), [])

        async def held_by() -> list[str]:
            found = await call(rig, "GET", f"{jobs(rig)}/{job.name}")
            assert "deletionTimestamp" in found["metadata"]
            return list(found["metadata"]["finalizers"])

        await until(held_by, [HOLD])
        await rig.release(job)
        await until(lambda: names(rig, jobs(rig)), [])

    # ------------------------------------------------------------------------------ lists

    async def test_a_list_holds_what_its_selectors_match(self, rig: Rig) -> None:
        one, other = await rig.job(ONE), await rig.job(OTHER)
        assert await names(rig, jobs(rig), labelSelector=f"{LABEL}={ONE}") == [one.name]
        assert await names(rig, jobs(rig), labelSelector=LABEL) == sorted([one.name, other.name])
        assert await names(rig, jobs(rig), labelSelector=f"{LABEL}=nobody") == []
        assert await names(rig, jobs(rig), fieldSelector=f"metadata.name={other.name}") == [other.name]
        assert len(await names(rig, pods(rig), labelSelector=CONTROLLER_UID)) == 2
        whole = await call(rig, "GET", jobs(rig))
        assert (whole["kind"], whole["apiVersion"]) == ("JobList", "batch/v1")

    async def test_a_long_list_comes_in_pages_of_one_moment(self, rig: Rig) -> None:
        made = sorted([(await rig.job(does="succeeds")).name for _ in range(3)])
        found: list[str] = []
        query = {"limit": "2"}
        while True:
            page = await call(rig, "GET", jobs(rig), query=query)
            found += [each["metadata"]["name"] for each in page["items"]]
            if not page["metadata"].get("continue"):
                break
            query["continue"] = page["metadata"]["continue"]
            await delete(rig, f"{jobs(rig)}/{made[2]}", propagationPolicy="Background")
        assert found == made

    async def test_metadata_alone_is_listed_where_it_is_asked_for(self, rig: Rig) -> None:
        job = await rig.job()
        found = await call(rig, "GET", jobs(rig), accept=METADATA.format("PartialObjectMetadataList"))
        assert found["kind"] == "PartialObjectMetadataList"
        [item] = found["items"]
        assert (item["kind"], item["metadata"]["uid"]) == ("PartialObjectMetadata", job.uid)
        assert "status" not in item

    async def test_a_namespace_that_never_was_has_no_jobs(self, rig: Rig) -> None:
        assert (await call(rig, "GET", "/apis/batch/v1/namespaces/never-was/jobs"))["items"] == []
        with pytest.raises(ApiException) as error:
            await call(rig, "GET", "/api/v1/namespaces/never-was")
        assert told(error) == (404, "NotFound")
        found = await call(rig, "GET", f"/api/v1/namespaces/{rig.namespace}")
        assert found["status"]["phase"] == "Active"

    async def test_kinds_are_found_by_discovery(self, rig: Rig) -> None:
        await rig.farm("one")
        groups = await call(rig, "GET", "/apis")
        assert groups["kind"] == "APIGroupList"
        [group] = [each for each in groups["groups"] if each["name"] == "acme.test"]
        assert group["preferredVersion"]["groupVersion"] == "acme.test/v1"
        for path, kind, plural in (
            ("/apis/acme.test/v1", "Farm", "farms"),
            ("/apis/batch/v1", "Job", "jobs"),
            ("/api/v1", "Pod", "pods"),
        ):
            resources = (await call(rig, "GET", path))["resources"]
            [found] = [each for each in resources if each["kind"] == kind and "/" not in each["name"]]
            assert (found["name"], found["namespaced"]) == (plural, True)

    # ------------------------------------------------------------------------------ watches

    async def test_a_watch_tells_what_changes_after_a_version_until_its_time_is_over(self, rig: Rig) -> None:
        version = (await call(rig, "GET", jobs(rig)))["metadata"]["resourceVersion"]
        job = await rig.job()
        async with await watch(rig, version, timeout_seconds=3) as response:
            await delete(rig, f"{jobs(rig)}/{job.name}", propagationPolicy="Background")
            events = [json.loads(line) async for line in response.content]
        assert [event["type"] for event in events if event["type"] != "MODIFIED"] == ["ADDED", "DELETED"]
        assert {(event["object"]["kind"], event["object"]["metadata"]["uid"]) for event in events} == {
            ("PartialObjectMetadata", job.uid)
        }

    async def test_an_api_server_that_goes_away_ends_watches_and_refuses_connections(self, rig: Rig) -> None:
        version = (await call(rig, "GET", jobs(rig)))["metadata"]["resourceVersion"]
        async with await watch(rig, version, timeout_seconds=60) as response:
            await rig.go_away()
            with pytest.raises(ClientPayloadError):
                [line async for line in response.content]
        with pytest.raises(ClientConnectorError):
            await call(rig, "GET", jobs(rig))

    async def test_an_api_server_that_was_away_has_forgotten_what_was_before(self, rig: Rig) -> None:
        """A watch from back then is told so, as is one from a version that is too old by now."""
        await rig.job()
        await rig.go_away()
        await rig.come_back()
        async with await watch(rig, "1", timeout_seconds=3) as response:
            [event] = [json.loads(line) async for line in response.content]
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def watch(rig: Rig, version: str, timeout_seconds: int) -> Any:
    """A watch on Jobs; entered, its `content` are lines."""
    query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(timeout_seconds)}
    return await rig.client.call_api(
        jobs(rig),
        "GET",
        query_params=list(query.items()),
        header_params={"Accept": METADATA.format("PartialObjectMetadata")},
        auth_settings=["BearerToken"],
        _preload_content=False,
        _request_timeout=ClientTimeout(total=70),
    )
