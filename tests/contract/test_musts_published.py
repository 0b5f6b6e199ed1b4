"""What is published, with what, and when: outboxes, verdicts, dead letters, blobs, order (musts 4 to 8)."""

import asyncio
import hashlib
import json
from typing import Any

import pytest

from schemas.base import INLINE_BYTES_MAX, Blob
from tests.contract.stack import JOB, Gate, Once, Stack, evaluation_id, message, workflow_key
from worker.errors import AssignmentLost, Conflict
from worker.ports import Outgoing, Topic

POISON = Outgoing(Topic.COMMANDS, b"k", b"\x00", (("ce_id", b"p1"),))


def jobs(count: int) -> list[dict[str, str]]:
    """Jobs of long names: each adds a kilobyte to the receipt."""
    return [{**JOB, "name": f"job-{i}-{'x' * 800}", "uid": f"uid-{i}"} for i in range(count)]


async def statuses(stack: Stack) -> list[str]:
    """Status events at their first occurrence."""
    events = [json.loads(record.value or b"") for record in await stack.all(Topic.STATUS)]
    return list({event["version"]: event["after"] for event in events}.values())


async def eventually(stack: Stack, topic: Topic, count: int) -> None:
    async with asyncio.timeout(5):
        while len(await stack.all(topic)) < count:  # noqa: ASYNC110  # a topic is read to its end
            await asyncio.sleep(0.01)


# ------------------------------------------------------------------------------------ must 4: outboxes


async def test_an_outbox_that_is_found_is_published_before_anything_new_is_decided(stack: Stack) -> None:
    """The writer died before its commit; the Job takes its time: `cancelling` must not wait for it."""
    await stack.create(jobs=[JOB])
    stack.jobs.delay_seconds = 600
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.results(1)
    stack.hooks.before["commit"] = Gate()
    await stack.send("evaluation.cancel", "c1")
    await stack.reaches("cancelling")
    await stack.crash()
    assert await statuses(stack) == []
    await stack.engine.start()
    await eventually(stack, Topic.STATUS, 1)
    assert await statuses(stack) == ["cancelling"]
    assert len(await stack.all(Topic.RESULTS)) == 1


async def test_a_verdict_whose_document_was_dropped_waits_for_the_reload_and_goes_with_its_outbox(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.results(1)
    commit, reload = Gate(), Gate(workflow_key())
    stack.hooks.before["commit"] = commit
    await stack.send("workflow.update", "r2", 2, phase="nobody knows it")
    await commit.reached.wait()
    await stack.send("workflow.update", "u1", status="succeeded")
    await stack.reaches("succeeded")
    stack.hooks.before["replace"], stack.hooks.before["load"] = Once(Conflict("a rival was there")), reload
    await stack.send("workflow.update", "u2", status="failed")
    await reload.reached.wait()
    commit.opened.set()
    await stack.results(2)
    await asyncio.sleep(0.15)
    published = [json.loads(record.value or b"")["command"]["id"] for record in await stack.all(Topic.RESULTS)]
    assert (published, await statuses(stack)) == (["u0", "r2"], [])
    reload.opened.set()
    await stack.results(4)
    assert await statuses(stack) == ["succeeded"]


async def test_nothing_leaves_the_outbox_before_the_transaction_that_holds_it_has_committed(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.results(1)
    gate = Gate()
    stack.hooks.before["commit"] = gate
    for i in range(1, 4):
        await stack.send("workflow.update", f"u{i}", phase=f"step {i}")
        async with asyncio.timeout(5):
            while (await stack.document()).revision <= i:  # noqa: ASYNC110  # a store tells nobody
                await asyncio.sleep(0.005)
    kept = [entry.audit_seq for entry in (await stack.document()).outbox]
    assert kept[-3:] == [3, 4, 5]
    assert len(await stack.all(Topic.AUDIT)) == 2
    gate.opened.set()
    await stack.results(4)


# ------------------------------------------------------------------------------------ must 6: order


async def test_a_key_whose_store_hangs_holds_no_other_key_up(stack: Stack) -> None:
    await stack.create(1)
    await stack.create(2)
    gate = Gate(workflow_key(1))
    stack.hooks.before["load"] = gate
    await stack.engine.start()
    await stack.send("workflow.update", "u1", 1, phase="slow")
    await gate.reached.wait()
    await stack.send("workflow.update", "u2", 2, phase="fast")
    [verdict] = await stack.results(1)
    assert verdict["command"]["id"] == "u2"
    gate.opened.set()
    assert [v["command"]["id"] for v in await stack.results(2)] == ["u2", "u1"]


async def test_a_write_waits_until_an_earlier_verdict_on_a_bug_is_committed(stack: Stack) -> None:
    """A crash in between would decide the command that met the bug again, after the one that came later."""
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.results(1)
    labels = {"verdict-worker/evaluation-id": evaluation_id(), "other": "x" * INLINE_BYTES_MAX}
    large = message("workflow.update", "b1", job={**JOB, "labels": labels})
    letter = Gate(f"blobs/{hashlib.sha256(large.value).hexdigest()}")
    stack.hooks.before["put"] = letter
    stack.hooks.before["replace"] = Once(ZeroDivisionError("a bug"), times=3)
    await stack.stream.publish([large, message("workflow.update", "u2", phase="after")])
    await letter.reached.wait()
    await asyncio.sleep(0.3)
    assert (await stack.workflow()).phase == "warm"
    letter.opened.set()
    verdicts = {v["command"]["id"]: v["code"] for v in await stack.results(3)}
    assert verdicts == {"u0": "updated", "b1": "internal_error", "u2": "updated"}


async def test_without_a_position_a_log_that_has_lost_its_start_stops_the_partition(stack: Stack) -> None:
    """Offset reset is `none`: nobody may take a log that lost commands for a new one."""
    names = ("u0", "u1")
    await stack.stream.publish([message("workflow.update", name, phase="x") for name in names])
    database = stack.store._database
    await database.write(lambda connection: connection.execute('DELETE FROM records WHERE "offset" = 0'))
    await stack.engine.start()
    await asyncio.sleep(0.1)
    assert list(stack.engine.unready()) == ["partition 0"]
    assert await stack.all(Topic.RESULTS) == []


# ------------------------------------------------------------------------------------ must 7: dead letters


async def test_a_dead_letter_its_verdict_and_the_position_are_one_transaction(stack: Stack) -> None:
    await stack.engine.start()
    gate = Gate()
    stack.hooks.before["commit"] = gate
    await stack.stream.publish([POISON])
    await gate.reached.wait()
    await asyncio.sleep(0.05)
    assert (await stack.all(Topic.DEAD_LETTERS), await stack.all(Topic.RESULTS)) == ([], [])
    await stack.crash()
    stack.hooks.before["commit"] = Once(AssignmentLost("fenced"))
    await stack.engine.start()
    [verdict] = await stack.results(1)
    await asyncio.sleep(0.05)
    assert (verdict["http_status"], len(await stack.all(Topic.DEAD_LETTERS))) == (422, 1)


# ------------------------------------------------------------------------------------ must 8: sizes


def blobs_named(value: Any) -> list[Blob]:
    """Every reference in a JSON value."""
    if isinstance(value, dict):
        if set(value) == {"sha256", "bytes"}:
            return [Blob.model_validate(value)]
        return [blob for each in value.values() for blob in blobs_named(each)]
    return [blob for each in value for blob in blobs_named(each)] if isinstance(value, list) else []


async def test_a_blob_is_in_the_store_before_the_document_that_names_it(stack: Stack) -> None:
    await stack.create(jobs=jobs(12))
    seen: list[tuple[int, bool]] = []

    async def check(key: str) -> None:
        stored = await stack.store.load(key)
        assert stored is not None
        for blob in blobs_named(json.loads(stored.body)["verdicts"]):
            body = await stack.store.load(blob.key)
            seen.append((blob.bytes, body is not None and len(body.body) == blob.bytes))

    stack.hooks.after["replace"] = check
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    [verdict] = await stack.results(1)
    assert len(verdict["receipt"]["resources"]) == 12
    assert seen
    assert all(size > 4096 and there for size, there in seen)


async def test_a_verdict_over_the_limit_travels_as_reference(stack: Stack) -> None:
    await stack.create(jobs=jobs(70))
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await eventually(stack, Topic.RESULTS, 1)
    [record] = await stack.all(Topic.RESULTS)
    reference = dict(record.headers)["ce_dataref"].decode()
    blob = Blob.model_validate_json(record.value or b"")
    stored = await stack.store.load(reference)
    assert stored is not None
    assert (reference, len(stored.body)) == (blob.key, blob.bytes)
    assert blob.bytes > INLINE_BYTES_MAX
    assert json.loads(stored.body)["aggregate"]["id"] == evaluation_id()


async def test_the_blob_of_a_dead_letter_is_in_the_store_before_the_transaction_that_names_it(stack: Stack) -> None:
    gate = Gate("blobs/")
    await stack.engine.start()
    stack.hooks.before["put"] = gate
    large = Outgoing(Topic.COMMANDS, b"k", b"\x00" * (INLINE_BYTES_MAX + 1), (("ce_id", b"p1"),))
    await stack.stream.publish([large, message("workflow.update", "u1", phase="nobody knows it")])
    await gate.reached.wait()
    [verdict] = await stack.results(1)
    assert verdict["command"]["id"] == "u1"
    assert await stack.all(Topic.DEAD_LETTERS) == []
    gate.opened.set()
    await stack.results(2)
    assert len(await stack.all(Topic.DEAD_LETTERS)) == 1


@pytest.mark.parametrize("size", [1024 * 1024, 8 * 1024 * 1024 + 1])
async def test_a_record_over_the_limit_is_a_dead_letter_by_reference_and_blocks_nothing(
    stack: Stack, size: int
) -> None:
    await stack.create()
    await stack.engine.start()
    large = Outgoing(Topic.COMMANDS, b"k", b"\x00" * size, (("ce_id", b"p1"),))
    await stack.stream.publish([large, message("workflow.update", "u1", phase="after")])
    await eventually(stack, Topic.DEAD_LETTERS, 1)
    [letter] = await stack.all(Topic.DEAD_LETTERS)
    assert Blob.model_validate_json(letter.value or b"").bytes == size
    assert any(v["command"]["id"] == "u1" for v in await stack.results(2))
