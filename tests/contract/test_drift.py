"""`drift` on the embedded stack: a document that differs from its history is named, and no other one is."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from schemas.status import Status
from tests.contract.drifted import BY_HAND, KEY, LABEL, Cluster, cancelled, edit, findings, kinds, look
from tests.contract.stack import ACTOR, JOB, Gate, Stack, evaluation_id, workflow_key
from worker.audit.drift import LOOK_FIRST
from worker.audit.erase import count, erase
from worker.audit.source import Log
from worker.audit.verify import Report as Verified
from worker.audit.verify import Verify
from worker.ports import Topic


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def stack(tmp_path: Path, cluster: Cluster) -> AsyncIterator[Stack]:
    async with cancelled(tmp_path, cluster) as stack:
        yield stack


async def verify(stack: Stack) -> Verified:
    return await Verify(Log(stack.stream, stack.store), (), "test").run()


async def test_nothing_drifts_in_an_ordinary_story(stack: Stack) -> None:
    await stack.create(2)
    await stack.create(3)
    await stack.send("workflow.update", "u1", 3, phase="warm")
    await stack.send("workflow.update", "r1", 3, phase="never", expected_version=9)
    await stack.send("workflow.update", "r2", 7, phase="of nobody")
    await stack.results(4)
    report = await look(stack)
    assert (report.findings, report.unreachable, report.documents) == ((), (), 3)


async def test_an_edited_document_is_named_and_nothing_is_asked_of_it(stack: Stack, cluster: Cluster) -> None:
    cluster.by_hand[evaluation_id()] = [BY_HAND]
    await edit(stack, status=Status.RUNNING)
    changed, running = await findings(stack)
    assert kinds([changed, running]) == [("document_changed", KEY), ("still_running", KEY)]
    assert "digest" in changed.detail
    assert (running.settled_by, changed.ask, running.ask) == (LOOK_FIRST, None, None)


async def test_a_field_that_no_decision_reads_is_covered_as_well(stack: Stack) -> None:
    await edit(stack, warnings=("made up",))
    assert kinds(await findings(stack)) == [("document_changed", KEY)]


async def test_a_deleted_document_is_named_and_what_still_runs_for_it(stack: Stack, cluster: Cluster) -> None:
    cluster.by_hand[evaluation_id()] = [BY_HAND]
    await stack.store.delete([workflow_key()])
    deleted, running = await findings(stack)
    assert kinds([deleted, running]) == [("document_deleted", KEY), ("still_running", KEY)]
    assert (deleted.what, deleted.ask, running.ask) == (workflow_key(), None, None)


async def test_an_older_document_that_came_back_is_named(stack: Stack) -> None:
    older = (await stack.document()).model_dump_json().encode()
    await stack.send("workflow.update", "late", job={**JOB, "uid": "uid-2", "labels": {LABEL: evaluation_id()}})
    await stack.results(2)
    assert await findings(stack) == []
    await stack.store.put(workflow_key(), older)
    [found] = await findings(stack)
    assert (found.kind, found.detail.endswith("an older document came back")) == ("document_changed", True)


async def test_a_document_with_another_chain_is_named(stack: Stack) -> None:
    document = await stack.document()
    chain = document.chain.model_copy(update={"record_sha256": "0" * 64})
    await stack.store.put(workflow_key(), document.model_copy(update={"chain": chain}).model_dump_json().encode())
    [found] = await findings(stack)
    assert (found.kind, found.detail.endswith("of its chain is not the log's")) == ("document_changed", True)


async def test_a_document_that_is_ahead_of_the_log_with_nothing_to_publish_is_named(stack: Stack) -> None:
    document = await stack.document()
    chain = document.chain.model_copy(update={"audit_seq": document.chain.audit_seq + 1})
    ahead = document.model_copy(update={"chain": chain, "outbox": ()})
    await stack.store.put(workflow_key(), ahead.model_dump_json().encode())
    [found] = await findings(stack)
    numbers = f"its chain is at number {chain.audit_seq}, the log at {chain.audit_seq - 1}"
    assert (found.kind, found.detail) == ("document_changed", numbers)


async def test_what_is_no_document_is_named_once(stack: Stack) -> None:
    await stack.store.put(workflow_key(), b"{}")
    [found] = await findings(stack)
    assert (found.kind, found.aggregate, found.what) == ("document_changed", None, workflow_key())


async def test_a_document_under_another_ones_key_is_named(stack: Stack) -> None:
    await edit(stack, workflow_id=evaluation_id(5))
    assert [found.kind for found in await findings(stack)] == ["document_changed", "document_without_history"]


async def test_a_document_past_its_first_version_has_a_history(stack: Stack) -> None:
    await stack.create(2, version=3)
    whole = (await stack.document()).model_dump_json()
    copied = json.loads(whole)["state"]["workflow_id"]
    await stack.store.create(workflow_key(4), whole.replace(copied, evaluation_id(4)).encode())
    found = await findings(stack)
    assert kinds(found) == [
        ("document_without_history", f"evaluation/{evaluation_id(2)}"),
        ("document_without_history", f"evaluation/{evaluation_id(4)}"),
    ]


async def test_a_document_whose_history_was_cut_off_is_no_drift(stack: Stack) -> None:
    cut = len(await stack.all(Topic.AUDIT))
    await stack.create(2)
    await stack.send("workflow.update", "u1", 2, phase="warm")
    await stack.results(2)
    await stack.engine.stop()
    with closing(sqlite3.connect(stack.path)) as database, database:
        database.execute("DELETE FROM records WHERE topic = 'audit' AND \"offset\" < ?", (cut,))
    await stack.crash()
    assert await findings(stack) == []
    await edit(stack, version=9)
    assert await findings(stack) == [], "nothing is left that could tell"
    await stack.store.delete([workflow_key(2)])
    assert kinds(await findings(stack)) == [("document_deleted", f"evaluation/{evaluation_id(2)}")]


async def test_a_decision_that_is_not_published_yet_is_no_drift(stack: Stack) -> None:
    await stack.create(2)
    gate = Gate()

    async def written(key: str) -> None:
        stack.hooks.before["commit"] = gate

    stack.hooks.after["replace"] = written
    await stack.send("workflow.update", "u2", 2, phase="warm")
    async with asyncio.timeout(5):
        await gate.reached.wait()
    report = await look(stack)
    assert (report.findings, report.records) == ((), len(await stack.all(Topic.AUDIT)))
    assert (await stack.document(2)).chain.audit_seq > 0
    gate.opened.set()
    await stack.results(2)


async def test_a_worker_that_goes_on_meanwhile_is_no_drift(stack: Stack) -> None:
    """The log was read, then document and log went on, and the outbox was trimmed: the second look knows."""
    await stack.create(2)

    async def goes_on(key: str) -> None:
        if key == "workflows/":
            stack.hooks.before.pop("list")
            for n in range(3):
                await stack.send("workflow.update", f"m{n}", 2, phase=f"step {n}")
                await stack.results(2 + n)

    stack.hooks.before["list"] = goes_on
    assert await findings(stack) == []
    document = await stack.document(2)
    assert document.chain.audit_seq > len({entry.audit_seq for entry in document.outbox})


async def test_a_person_is_erased_and_may_be_again(stack: Stack) -> None:
    before = await verify(stack)
    first = await erase(stack.store, str(ACTOR["subject"]))
    second = await erase(stack.store, str(ACTOR["subject"]))
    assert (first.had_key, second.had_key, second.subject_sha256 == first.subject_sha256) == (True, False, True)
    assert await count(stack.stream, first.subject_sha256) == 1
    assert await count(stack.stream, "0" * 64) == 0
    after = await verify(stack)
    assert (before.redacted, after.redacted > 0, before.wrong, after.wrong) == (0, True, (), ())
    assert await findings(stack) == []
