"""Schedules and inputs that once broke a promise: each stood in a review, and stands here."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.audit import DecisionSettings
from schemas.cloudevents import headers
from schemas.documents import OrgState
from schemas.harness import Harness, HarnessEntry
from tests.contract.stack import ACTOR, JOB, Gate, Once, Stack, evaluation_id, message, workflow_key
from worker.errors import AssignmentLost, Unavailable
from worker.ports import Outgoing, Topic

CREATION = "00000009-1111-4111-8111-111111111111"
HARNESSES = [f"harness_{i:032x}" for i in range(2)]
STRUCTURED = (("content-type", b"application/cloudevents+json"),)
EVENT = {"specversion": "1.0", "id": "p1", "source": "t", "type": "workflow.update", "time": "2026-01-01T00:00:00Z"}
DATA = {"actor": ACTOR, "evaluation_id": evaluation_id(), "phase": "x"}


def binary(**data: Any) -> Outgoing:
    ce = headers(id="p1", type="workflow.update", time=datetime.now(UTC), subject="k", source="t")
    return Outgoing(Topic.COMMANDS, b"k", json.dumps({**DATA, **data}).encode(), ce)


def structured(**event: Any) -> Outgoing:
    return Outgoing(Topic.COMMANDS, b"k", json.dumps({**EVENT, **event}).encode(), STRUCTURED)


# ------------------------------------------------------------------------------------ any bytes


@pytest.mark.parametrize(
    "record",
    [
        binary(expires_at="9999-12-31T23:59:59-14:00"),
        structured(data=DATA, time="0001-01-01T00:00:00+14:00"),
        structured(data_base64="é"),
        structured(data=DATA, type="\ud800"),
        binary(job={**JOB, "labels": {"\ud800": 1}}),
        binary(job={**JOB, "labels": {"x": "\ud800"}}),
        binary(expected_version=10**4000),
    ],
    ids=["year 10000", "year 0", "no base64", "surrogate type", "surrogate name", "surrogate value", "large number"],
)
async def test_no_record_stops_the_worker(stack: Stack, record: Outgoing) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.stream.publish([record])
    await stack.send("workflow.update", "u2", phase="after")
    async with asyncio.timeout(5):
        while (await stack.workflow()).phase != "after":  # noqa: ASYNC110  # a store tells nobody
            await asyncio.sleep(0.01)
    codes = {v["code"] for v in await stack.results(1)}
    assert "internal_error" not in codes


async def test_a_record_over_the_limit_is_answered_where_its_headers_name_it(stack: Stack) -> None:
    await stack.engine.start()
    await stack.send("workflow.update", "big", phase="x" * (8 * 1024 * 1024))
    [verdict] = await stack.results(1)
    assert (verdict["command"]["id"], verdict["http_status"]) == ("big", 422)
    [letter] = await stack.all(Topic.DEAD_LETTERS)
    assert dict(letter.headers)["ce_dataref"].startswith(b"blobs/")


# ------------------------------------------------------------------------------------ bugs hurt nobody else


def harness_update(command_id: str, harness: str, **data: Any) -> Outgoing:
    actor = {**ACTOR, "permissions": ["harness:manage"], "org_id": "org-1"}
    body = {"actor": actor, "org_id": "org-1", "harness_id": harness, "changes": {"description": command_id}} | data
    ce = headers(id=command_id, type="harness.update", time=datetime.now(UTC), subject="org/org-1", source="t")
    return Outgoing(Topic.COMMANDS, b"org/org-1", json.dumps(body).encode(), ce)


async def create_org(stack: Stack) -> list[str]:
    """-> the keys of the bodies of its two harnesses."""
    now, entries, keys = datetime.now(UTC), {}, []
    for i, harness in enumerate(HARNESSES):
        body = Harness(id=harness, name=f"name-{i}", created_at=now, updated_at=now).model_dump_json().encode()
        sha256 = hashlib.sha256(body).hexdigest()
        keys.append(f"blobs/{sha256}")
        await stack.store.put(keys[-1], body)
        entries[harness] = HarnessEntry(name=f"name-{i}", body=sha256)
    document = {"state": OrgState(org_id="org-1", harnesses=entries).model_dump(mode="json")}
    await stack.store.create("orgs/org-1.json", json.dumps(document).encode())
    return keys


async def test_a_bug_in_one_command_is_nobody_elses(stack: Stack) -> None:
    [_, broken] = await create_org(stack)
    stack.hooks.before["load"] = Once(ZeroDivisionError("a bug"), part=broken, times=1_000)
    good, bad = HARNESSES
    updates = [harness_update("u1", good), harness_update("u2", good), harness_update("bad", bad)]
    await stack.stream.publish([*updates, harness_update("u3", good)])
    await stack.engine.start()
    codes = {v["command"]["id"]: v["code"] for v in await stack.results(4)}
    assert codes == {"u1": "updated", "u2": "updated", "bad": "internal_error", "u3": "updated"}


@pytest.mark.parametrize(
    ("first", "second", "codes"),
    [
        ({"name": "wanted"}, {"name": "wanted"}, ["name_taken", "updated"]),
        ({"parent_harness_id": HARNESSES[1]}, {"parent_harness_id": HARNESSES[0]}, ["invalid_parent", "updated"]),
        ({"parent_harness_id": HARNESSES[1]}, {"status": "archived"}, ["still_inherited", "updated"]),
        ({"status": "archived"}, {"parent_harness_id": HARNESSES[0]}, ["invalid_parent", "updated"]),
    ],
    ids=["a name", "a cycle", "a child, then its parent archived", "archived, then a child"],
)
async def test_two_harness_updates_that_race_are_decided_one_after_the_other(
    stack: Stack, first: dict[str, Any], second: dict[str, Any], codes: list[str]
) -> None:
    """Published at once, and fetched again by a second worker that takes over in the middle: one of them wins."""
    await create_org(stack)
    gate = Gate("orgs/")
    stack.hooks.before["replace"] = gate
    await stack.engine.start()
    one, other = HARNESSES
    await stack.stream.publish([harness_update("u1", one, changes=first), harness_update("u2", other, changes=second)])
    await gate.reached.wait()
    rival = stack.rival()
    await rival.engine.start()
    verdicts = await rival.results(2)
    gate.opened.set()
    await asyncio.sleep(0.2)
    assert sorted(v["code"] for v in verdicts) == codes
    assert len(await stack.all(Topic.RESULTS)) == 2
    await rival.engine.stop()


async def test_the_lane_of_a_buried_record_is_not_kept(stack: Stack) -> None:
    await stack.create()
    stack.hooks.before["load"] = Once(ZeroDivisionError("a bug"), part="workflows/", times=3)
    await stack.engine.start()
    await stack.send("workflow.update", "u1", phase="x")
    await stack.results(1)
    await asyncio.sleep(0.1)
    assert stack.engine.consumer.partitions[0].lanes == 0


async def test_a_bug_in_an_observation_leaves_a_marker_though_the_store_is_away_for_a_moment(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    stack.jobs.delay_seconds = 0.3
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await stack.reaches("cancelling")
    stack.hooks.before["replace"] = Once(ZeroDivisionError("a bug"), times=3)
    stack.hooks.before["put"] = Once(Unavailable("away"), part="unsettled/")
    codes = [v["code"] for v in await stack.results(2)]
    assert codes == ["internal_error", "resumed"]
    await stack.settles()


# ------------------------------------------------------------------------------------ documents


async def test_a_document_that_goes_while_its_cancel_runs_is_not_found(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    stack.jobs.delay_seconds = 0.3
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await stack.reaches("cancelling")
    await stack.store.delete([workflow_key()])
    [verdict] = await stack.results(1)
    assert verdict["code"] == "not_found"


async def test_a_late_read_by_another_lane_does_not_hide_what_was_written(stack: Stack) -> None:
    """Two lanes on one document: an evaluation's cancel that names a creation's workflow reads it, late."""
    await stack.create(1, purpose="custom_harness", harness_id=CREATION)
    metadata = {"harness_id": CREATION, "team_id": "team-1", "workflow_id": evaluation_id()}
    await stack.store.put(f"custom-harnesses/{CREATION}/metadata.json", json.dumps(metadata).encode())
    await stack.create(2)
    late = Gate(workflow_key(1))
    stack.hooks.after["load"] = late
    await stack.engine.start()
    await stack.send("evaluation.cancel", "e1", 1)
    await late.reached.wait()
    del stack.hooks.after["load"]
    written = Gate(workflow_key(1))
    stack.hooks.after["replace"] = written
    ce = headers(id="u1", type="workflow.update", time=datetime.now(UTC), subject="k", source="t")
    body = {"actor": ACTOR, "harness_id": CREATION, "status": "succeeded"}
    await stack.stream.publish([Outgoing(Topic.COMMANDS, b"k", json.dumps(body).encode(), ce)])
    await written.reached.wait()
    commits = Gate()
    stack.hooks.before["commit"] = commits
    await stack.send("workflow.update", "x1", 2, phase="x")
    await commits.reached.wait()
    written.opened.set()
    await asyncio.sleep(0.1)
    late.opened.set()
    await asyncio.sleep(0.1)
    commits.opened.set()
    await stack.results(3)
    changes = [json.loads(record.value or b"")["after"] for record in await stack.all(Topic.STATUS)]
    assert changes == ["succeeded"]


# ------------------------------------------------------------------------------------ cancels


@pytest.fixture
def hasty(tmp_path: Path) -> Stack:
    """Deadlines may be as short as a command asks."""
    return Stack(tmp_path, settings=DecisionSettings(deadline_seconds_min=0))


async def test_an_unconfirmed_cancel_is_resumed_under_its_own_id_whatever_it_expected_first(hasty: Stack) -> None:
    await hasty.store.start()
    hasty.jobs.away = True
    hasty.jobs.delay_seconds = 0.5  # the reconciler's resume is not done with it before the client asks again
    await hasty.create(jobs=[JOB])
    await hasty.engine.start()
    expires_at = (hasty.clock.now() + timedelta(seconds=1)).isoformat()
    cancel = message("evaluation.cancel", "c1", deadline_seconds=1, expires_at=expires_at, expected_version=0)
    await hasty.stream.publish([cancel])
    assert [v["code"] for v in await hasty.results(1)] == ["unconfirmed"]
    await asyncio.sleep(0.2)
    hasty.jobs.away = False
    await hasty.stream.publish([cancel])
    async with asyncio.timeout(5):
        while len(found := [v for v in await hasty.verdicts() if v["command"]["id"] == "c1"]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # the reconciler's own verdicts come in between
    assert found[1]["code"] == "cancelled"
    await hasty.engine.stop()


async def test_a_record_that_waits_for_a_command_that_fails_gets_its_bytes(hasty: Stack) -> None:
    await hasty.store.start()
    hasty.jobs.away = True
    await hasty.create(jobs=[JOB])
    await hasty.engine.start()
    cancel = message("evaluation.cancel", "c1", deadline_seconds=1)
    await hasty.stream.publish([cancel, cancel])
    await hasty.results(2)
    records = [record.value for record in await hasty.all(Topic.RESULTS) if b'"c1"' in (record.value or b"")]
    assert len(records) == 2
    assert len(set(records)) == 1
    await hasty.engine.stop()


@pytest.mark.parametrize("status", ["cancelling", "cancelled"])
async def test_a_job_reported_late_does_not_undo_what_the_cancel_asked_to_keep(stack: Stack, status: str) -> None:
    name = await stack.create(jobs=[JOB])
    await stack.store.put(f"teams/team-1/evaluations/{name}/partial/1", b"x")
    stack.jobs.delay_seconds = 0.5 if status == "cancelling" else 0
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1", cleanup=False, grace_period_seconds=300)
    await stack.reaches(status)
    labels = {"verdict-worker/evaluation-id": name}
    await stack.send("workflow.update", "u1", job={**JOB, "name": "job-2", "uid": "uid-2", "labels": labels})
    await stack.results(2)
    assert await stack.store.list(f"teams/team-1/evaluations/{name}/partial/") != []
    teardown = (await stack.workflow()).teardown
    assert teardown is not None
    assert teardown.grace_period_seconds == 300


async def test_a_dry_run_of_a_harness_update_says_what_would_happen(stack: Stack) -> None:
    await create_org(stack)
    await stack.engine.start()
    await stack.stream.publish([harness_update("d1", HARNESSES[0], dry_run=True)])
    [verdict] = await stack.results(1)
    assert (verdict["code"], verdict["dry_run"], "harness" in verdict) == ("updated", True, False)


async def test_many_lanes_that_seal_for_one_person_load_the_key_once(stack: Stack) -> None:
    for n in range(20):
        await stack.create(n)
    await stack.engine.start()
    await stack.stream.publish([message("workflow.update", f"u{n}", n, phase="x") for n in range(20)])
    await stack.results(20)
    assert [method for method, key in stack.hooks.calls if key.startswith("personal/")] == ["load", "create", "load"]


# ------------------------------------------------------------------------------------ the end


async def test_a_drain_ends_when_its_assignment_is_lost(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    gate = Gate()
    stack.hooks.before["commit"] = gate
    stack.hooks.after["commit"] = Once(AssignmentLost("outcome unknown"))
    await stack.send("workflow.update", "u1", phase="x")
    await gate.reached.wait()
    drain = asyncio.create_task(stack.engine.drain())
    await asyncio.sleep(0.05)
    gate.opened.set()
    async with asyncio.timeout(5):
        await drain
