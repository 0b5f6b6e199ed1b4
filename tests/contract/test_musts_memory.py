"""What a document remembers until its verdicts are known to be read, and what is owed (musts 3, 4, 5 and 8)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.audit import DecisionSettings
from schemas.base import INLINE_BYTES_MAX
from tests.contract.stack import JOB, Gate, Jobs, Once, Stack, evaluation_id, message
from worker.errors import AssignmentLost, OutcomeUnknown, Refused, Unavailable
from worker.ports import Deletion, JobIdentity, Topic


class ForbiddenJobs(Jobs):
    """Jobs of a cluster that lets nobody delete them."""

    async def delete(self, job: JobIdentity) -> Deletion:
        raise Refused("jobs.batch is forbidden")


async def restart(stack: Stack, *, jobs: Jobs | None = None, settings: DecisionSettings | None = None) -> None:
    """Another worker on the same file, with these Jobs and settings."""
    stack.jobs, stack.settings = jobs or stack.jobs, settings or stack.settings
    await stack.crash()


async def verdicts_of(stack: Stack, command_id: str) -> list[bytes]:
    bodies = [record.value or b"" for record in await stack.all(Topic.RESULTS)]
    return [body for body in bodies if json.loads(body)["command"]["id"] == command_id]


# ------------------------------------------------------------------------------------ the memory


async def test_an_entry_stays_in_the_memory_until_its_verdict_is_known_to_be_committed(stack: Stack) -> None:
    """Though it is full: a crash before the commit brings the record again, and it must be known."""
    await restart(stack, settings=DecisionSettings(memory_commands=1))
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.results(1)
    stack.hooks.before["commit"] = Gate()
    for i in range(1, 5):
        await stack.send("workflow.update", f"u{i}", phase=f"step {i}")
        async with asyncio.timeout(5):
            while (await stack.document()).revision <= i:  # noqa: ASYNC110  # a store tells nobody
                await asyncio.sleep(0.005)
    await stack.crash()
    await stack.engine.start()
    verdicts = {v["command"]["id"]: v["code"] for v in await stack.results(5)}
    assert verdicts == {f"u{i}": "updated" for i in range(5)}


async def test_what_has_left_the_memory_is_never_applied_again(stack: Stack) -> None:
    await restart(stack, settings=DecisionSettings(memory_commands=2))
    await stack.create()
    await stack.engine.start()
    first = message("workflow.update", "u0", phase="step 0")
    await stack.stream.publish([first])
    await stack.results(1)
    for i in range(1, 6):
        await stack.send("workflow.update", f"u{i}", phase=f"step {i}")
        await stack.results(i + 1)
    assert len((await stack.workflow()).answered) <= 3
    assert len((await stack.document()).verdicts) <= 3
    await stack.stream.publish([first])
    assert (await stack.results(7))[6]["code"] == "too_old_to_tell"
    assert (await stack.workflow()).phase == "step 5"


async def test_a_failure_that_is_written_is_answered_with_the_same_bytes_after_a_crash(tmp_path: Path) -> None:
    stack = Stack(tmp_path, ForbiddenJobs())
    await stack.store.start()
    await stack.create(jobs=[JOB])
    gate = Gate()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.results(1)
    await stack.send("evaluation.cancel", "c1")
    stack.hooks.before["commit"] = gate
    async with asyncio.timeout(5):
        while not (await stack.workflow()).failures:  # noqa: ASYNC110  # a store tells nobody
            await asyncio.sleep(0.005)
    [kept] = [str(v) for v in (await stack.document()).verdicts.values() if "forbidden_by_cluster" in str(v)]
    await stack.crash()
    await stack.engine.start()
    await stack.results(2)
    assert await verdicts_of(stack, "c1") == [kept.encode()]
    records = [json.loads(record.value or b"") for record in await stack.all(Topic.AUDIT)]
    opened = {r["audit_seq"] for r in records for e in r.get("events", ()) if e.get("command", {}).get("id") == "c1"}
    assert len(opened) == 1
    await stack.engine.stop()


async def test_a_marker_is_there_before_the_verdict_that_owes_it(tmp_path: Path) -> None:
    """Though the reply to the write is lost: the step is known then, and is not repeated (contract, section 9)."""
    stack = Stack(tmp_path, ForbiddenJobs(), DecisionSettings())
    await stack.store.start()
    await stack.create(jobs=[JOB])
    markers: list[str] = []

    async def look(_: str) -> None:
        if (await stack.workflow()).failures and not markers:
            markers.extend(await stack.store.list("unsettled/"))
            raise OutcomeUnknown("reply lost")

    stack.hooks.after["replace"] = look
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    verdict = (await stack.results(1))[0]
    assert (verdict["command"]["id"], verdict["code"]) == ("c1", "forbidden_by_cluster")
    assert [marker.rpartition("/")[0] for marker in markers] == [f"unsettled/evaluation/{evaluation_id()}"]
    await stack.engine.stop()


# ------------------------------------------------------------------------------------ the end of an assignment


@pytest.mark.parametrize("error", [AssignmentLost("fenced"), Unavailable("away"), RuntimeError("a bug")])
async def test_whatever_ends_a_commit_each_record_has_one_verdict(stack: Stack, error: Exception) -> None:
    await stack.create()
    stack.hooks.before["commit"] = Once(error, times=2)
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="first")
    await stack.send("workflow.update", "u1", 2, phase="nobody knows it")
    await stack.results(2)
    await stack.send("workflow.update", "u2", phase="second")
    verdicts = await stack.results(3)
    assert sorted(v["command"]["id"] for v in verdicts) == ["u0", "u1", "u2"]
    assert (await stack.document()).state.version == 2


# ------------------------------------------------------------------------------------ sizes of refusals

LONG = "x" * (2 * INLINE_BYTES_MAX)
NAMES = [{**JOB, "name": f"job-{i}-{'x' * 800}", "uid": f"uid-{i}"} for i in range(120)]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("evaluation.cancel", {"dry_run": True}),
        ("workflow.update", {"job": {**JOB, "labels": {LONG: 1}}}),
        (f"workflow.{LONG}", {}),
    ],
    ids=["what a dry run would do", "the path of a wrong field", "an unknown type"],
)
async def test_no_verdict_stands_in_a_record_over_the_limit(stack: Stack, kind: str, data: dict[str, Any]) -> None:
    """Whatever a producer sends: a record that the topic does not take would block the partition for ever (must 8)."""
    await stack.create(jobs=NAMES)
    await stack.engine.start()
    await stack.send(kind, "r1", **data)
    await stack.send("workflow.update", "u1", phase="after")
    async with asyncio.timeout(5):
        while len(await stack.all(Topic.RESULTS)) < 2:  # noqa: ASYNC110  # a topic is read to its end
            await asyncio.sleep(0.01)
    assert max(len(record.value or b"") for record in await stack.all(Topic.RESULTS)) <= INLINE_BYTES_MAX
    for topic in (Topic.RESULTS, Topic.AUDIT, Topic.DEAD_LETTERS):
        for record in await stack.all(topic):
            assert sum(len(content) for _, content in record.headers) <= INLINE_BYTES_MAX // 2
