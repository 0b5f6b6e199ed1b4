"""Who may write, and on what: resuming, fences, assignments and fresh reads (musts 2, 3, 5, 7 and 9)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from schemas.documents import Document
from tests.contract.stack import JOB, Gate, Once, Stack, message, workflow_key
from worker.adapters.sqlite import Database, SqliteLog
from worker.errors import AssignmentLost
from worker.ports import Assignment, Outgoing, Position, Topic


async def foreign_write(stack: Stack, **state: object) -> None:
    """Somebody else changes the document behind the worker's back."""
    document = await stack.document()
    changed = document.model_copy(update={"state": document.state.model_copy(update=state)})
    await stack.store.put(workflow_key(), changed.model_dump_json().encode())


# ------------------------------------------------------------------------------------ must 2: resuming


async def test_a_resumed_cancel_keeps_the_deadline_that_was_stored(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    stack.jobs.delay_seconds = 600
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1", deadline_seconds=1)
    await stack.reaches("cancelling")
    [before] = (await stack.workflow()).open
    await stack.crash()
    stack.clock.seconds = 11  # past the ten seconds that a deadline leaves at least
    await stack.engine.start()
    [verdict] = await stack.results(1, seconds=4)
    assert (verdict["code"], verdict["http_status"]) == ("unconfirmed", 504)
    assert verdict["decided_at"] == before.model_dump(mode="json")["decided_at"]
    assert (await stack.workflow()).status.value == "cancelling"


async def test_a_crash_forgets_nobody_who_had_joined_a_teardown(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    stack.jobs.delay_seconds = 600
    await stack.engine.start()
    await stack.stream.publish([message("evaluation.cancel", name) for name in ("c1", "c2", "c3")])
    async with asyncio.timeout(5):
        while len((await stack.workflow()).open) < 3:  # noqa: ASYNC110  # a store tells nobody
            await asyncio.sleep(0.005)
    await stack.crash()
    stack.jobs.delay_seconds = 0
    await stack.engine.start()
    verdicts = {v["command"]["id"]: v["code"] for v in await stack.results(3)}
    assert verdicts == dict.fromkeys(("c1", "c2", "c3"), "cancelled")
    assert len(await stack.all(Topic.RESULTS)) == 3


async def test_effects_of_a_revoked_partition_end(stack: Stack) -> None:
    """Else a worker that has lost a partition would go on beside its next owner (must 7)."""
    await stack.create(jobs=[JOB])
    stack.jobs.away = True
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await stack.reaches("cancelling")
    await asyncio.sleep(0.1)
    async with asyncio.timeout(1):
        await stack.engine.consumer.revoked(0)
    stack.jobs.away = False
    await asyncio.sleep(0.5)
    assert stack.jobs.deleted == {}


# ------------------------------------------------------------------------------------ must 3: compare-and-set


async def test_no_write_id_is_used_twice(stack: Stack) -> None:
    """An ETag is a hash of the bytes: without it, one could come back (A, B, A)."""
    await stack.create()
    ids: list[str] = []

    async def note(_: str) -> None:
        ids.append((await stack.document()).write_id)

    stack.hooks.after["replace"] = note
    await stack.engine.start()
    for i in range(3):
        await stack.send("workflow.update", f"u{i}", phase=f"step {i}")
        await stack.results(i + 1)
    assert len(ids) == 3
    assert len({*ids, ""}) == 4


@pytest.mark.parametrize("asked", ["before", "after"])
async def test_a_transaction_that_began_before_the_read_proves_nothing_about_it(stack: Stack, asked: str) -> None:
    """It commits, and its answer is late: meanwhile a rival takes over and refuses what the zombie then reads.

    The read is asked for before or after the transaction begins, and happens after it.
    """
    reply, read = Gate(), Gate(workflow_key())
    stack.hooks.after["commit"], stack.hooks.before["load"] = reply, read
    await stack.engine.start()
    sending = [
        (stack.send("evaluation.cancel", "c1"), read.reached),
        (stack.send("workflow.update", "u2", 2, phase="nobody knows it"), reply.reached),
    ]
    for send, reached in sending if asked == "before" else reversed(sending):
        await send
        await reached.wait()
    rival = stack.rival()
    await rival.engine.start()
    verdicts = await rival.results(2)
    assert [v["http_status"] for v in verdicts] == [404, 404]
    await rival.engine.stop()
    await stack.create(jobs=[JOB])
    read.opened.set()
    await asyncio.sleep(0.1)
    reply.opened.set()
    await asyncio.sleep(0.4)
    assert ((await stack.workflow()).status.value, stack.jobs.deleted) == ("running", {})
    assert len(await stack.all(Topic.RESULTS)) == 2


# ------------------------------------------------------------------------------------ must 5: assignments


async def test_a_new_assignment_knows_nothing_of_the_memory_of_the_old_one(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    for i in range(5):
        await stack.send("workflow.update", f"u{i}", phase=f"step {i}")
    await stack.results(5)
    stack.hooks.before["commit"] = Once(AssignmentLost("fenced"))
    await stack.send("workflow.update", "r1", 2, phase="nobody knows it")
    await stack.results(6)
    await foreign_write(stack, version=40)
    await stack.send("workflow.update", "u9", expected_version=40, phase="last")
    verdict = (await stack.results(7))[6]
    assert (verdict["code"], verdict["aggregate"]["version"]) == ("updated", 41)


async def test_a_commit_whose_reply_is_lost_is_not_published_again(stack: Stack) -> None:
    """Verdict and position are one transaction, and the next assignment begins with a fresh position."""
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.results(1)
    lost = Once(AssignmentLost("reply lost"))

    async def lose_the_reply(partition: str) -> None:
        if len(await stack.all(Topic.RESULTS)) == 2:
            await lost(partition)

    stack.hooks.after["commit"] = lose_the_reply
    await stack.send("workflow.update", "u1", phase="next")
    await stack.results(2)
    await stack.send("workflow.update", "u2", phase="last")
    verdicts = await stack.results(3)
    assert ([v["command"]["id"] for v in verdicts], lost.left) == (["u0", "u1", "u2"], 0)


class Nobody:
    """An owner that takes what it is given."""

    def __init__(self) -> None:
        self.assignments: list[Assignment] = []

    async def assigned(self, assignment: Assignment) -> None:
        self.assignments.append(assignment)

    async def revoked(self, partition: int) -> None: ...


class Unlocked(SqliteLog):
    """Without the lock, so that one worker can take over from another that is alive."""

    def _take_lock(self) -> None:
        self._lock = self._database.path.with_suffix(".nobody").open("a+")


async def test_a_position_is_read_after_the_old_producer_is_fenced(tmp_path: Path) -> None:
    """Whatever their order: a commit that got through stands in the position that the next owner reads."""
    old, new = (Database(tmp_path / "worker.db", partitions=1) for _ in range(2))
    zombie, rival, owner = Unlocked(old), Unlocked(new), Nobody()
    await zombie.start(owner)
    [assignment] = owner.assignments
    await rival.start(Nobody())
    for offset in range(1, 25):
        assignment = await zombie.renew(assignment)
        kept, taken = await asyncio.gather(
            zombie.commit(assignment, [Outgoing(Topic.RESULTS, b"k", b"v")], Position(offset)),
            rival.renew(assignment),
            return_exceptions=True,
        )
        assert isinstance(taken, Assignment)
        assert isinstance(kept, AssignmentLost) or taken.position == Position(offset)
    for log, database in ((zombie, old), (rival, new)):
        await log.stop()
        database.close()


# ------------------------------------------------------------------------------------ must 9: fresh reads


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_refusal_is_not_decided_on_what_was_read_before_the_command(stack: Stack, dry_run: bool) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u1", phase="warm")
    await stack.results(1)
    await foreign_write(stack, version=40)
    await stack.send("workflow.update", "u2", expected_version=40, phase="next", dry_run=dry_run)
    verdict = (await stack.results(2))[1]
    assert (verdict["code"], verdict["dry_run"], verdict["aggregate"]["version"]) == ("updated", dry_run, 41)


@pytest.mark.parametrize(
    "given",
    [
        {"expected_version": 7, "phase": "never"},
        {"status": "starting"},
        {"phase": "never", "dry_run": True},
        {"phase": "never", "dry_run": True, "expires_at": "2020-01-01T00:00:00Z"},
    ],
)
async def test_a_refusal_or_dry_run_leaves_the_document_as_it_was(stack: Stack, given: dict[str, Any]) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u1", phase="warm")
    await stack.results(1)
    before = await stack.store.load(workflow_key())
    await stack.send("workflow.update", "r1", **given)
    await stack.results(2)
    assert await stack.store.load(workflow_key()) == before


async def test_a_refusal_by_the_clock_moves_the_etag_and_nothing_else(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u1", phase="warm")
    await stack.results(1)
    before = await stack.document()
    await stack.send("workflow.update", "r1", phase="never", expires_at="2020-01-01T00:00:00Z")
    assert (await stack.results(2))[1]["code"] == "expired"
    after = await stack.document()
    assert (after.revision, after.state) == (before.revision + 1, before.state)
    assert after.write_id != before.write_id
    moved = {"revision": before.revision, "write_id": before.write_id, "outbox": before.outbox}
    assert after.model_copy(update=moved) == Document.model_validate(before)
