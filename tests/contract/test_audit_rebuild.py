"""`rebuild` and `state --at` over what the real engine wrote: documents come out of the log as they live."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from schemas.commands import Aggregate
from schemas.documents import Document, WorkflowState
from tests.contract.stack import JOB, Stack, evaluation_id, workflow_key
from tests.contract.test_audit_verify import edited, log_of, place
from tests.contract.test_audit_verify import stack as stack
from tests.contract.test_audit_verify import written as written
from tests.unit.given import HARNESS
from worker.adapters.sqlite import Database, SqliteStore, SqliteStream
from worker.adapters.system import SystemIds
from worker.audit.history import Placed, history, point, state_at
from worker.audit.rebuild import Rebuild, Rebuilt
from worker.audit.source import Log
from worker.ports import DocumentStore, Outgoing, Topic
from worker.sealing import personal_key

KEYS = [workflow_key(), workflow_key(9), "orgs/org-1.json"]
OF = Aggregate(type="evaluation", id=evaluation_id())


@pytest.fixture
async def empty(tmp_path: Path) -> SqliteStore:
    store = SqliteStore(Database(tmp_path / "rebuilt.db", partitions=1))
    await store.start()
    return store


async def rebuild(stack: Stack, into: DocumentStore | None = None, **more: Any) -> Rebuilt:
    return await Rebuild(stack.stream, stack.store, into, SystemIds()).run(**more)


async def document(store: DocumentStore, key: str) -> Document:
    stored = await store.load(key)
    assert stored is not None
    return Document.model_validate_json(stored.body)


async def test_documents_come_out_of_the_log_as_they_live(stack: Stack, empty: SqliteStore) -> None:
    rebuilt = await rebuild(stack, empty)
    assert (rebuilt.documents, rebuilt.equal, rebuilt.written, rebuilt.unlike, rebuilt.wrong) == (3, 3, 3, (), ())
    for key in KEYS:
        live, made = await document(stack.store, key), await document(empty, key)
        assert made.state.model_dump_json() == live.state.model_dump_json()
        assert (made.chain, made.verdicts, made.personal) == (live.chain, live.verdicts, live.personal)
    blobs = [name for name in await stack.store.list("blobs/") if await empty.load(name)]
    assert len(blobs) >= 1
    assert await empty.load(f"custom-harnesses/{HARNESS}/metadata.json") is not None


async def test_small_parts_make_the_same_documents(stack: Stack, empty: SqliteStore) -> None:
    rebuilt = await rebuild(stack, empty, part_records=3)
    assert (rebuilt.equal, rebuilt.written) == (3, 3)


async def test_a_worker_goes_on_from_what_was_rebuilt(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    other = Stack(folder)
    await other.store.start()
    assert (await rebuild(stack, other.store)).written == 3
    await other.engine.start()
    await other.send("evaluation.cancel", "x9")
    [verdict] = await other.results(1)
    await other.engine.stop()
    assert verdict["code"] == "already_terminal"


async def test_only_what_is_missing_is_written(stack: Stack) -> None:
    lives = await stack.store.load(KEYS[0])
    await stack.store.delete([KEYS[1], KEYS[2]])
    rebuilt = await rebuild(stack, stack.store)
    assert (rebuilt.equal, rebuilt.written, rebuilt.kept) == (1, 2, 1)
    assert [(each.how, each.key) for each in rebuilt.unlike] == [("missing", KEYS[1]), ("missing", KEYS[2])]
    assert await stack.store.load(KEYS[0]) == lives
    assert (await rebuild(stack)).equal == 3


async def test_a_document_that_was_edited_is_named(stack: Stack) -> None:
    stored = await stack.store.load(KEYS[0])
    assert stored is not None
    live = Document.model_validate_json(stored.body)
    edit = live.model_copy(update={"state": live.state.model_copy(update={"version": 99})})
    await stack.store.replace(KEYS[0], edit.model_dump_json().encode(), stored.version)
    rebuilt = await rebuild(stack)
    assert [(each.how, each.key) for each in rebuilt.unlike] == [("state", KEYS[0])]


async def test_a_person_who_was_erased_is_no_hindrance(stack: Stack, empty: SqliteStore) -> None:
    await stack.store.delete([personal_key(hashlib.sha256(b"ada@test").hexdigest())])
    assert (await rebuild(stack, empty)).equal == 3
    assert "ada@test" not in (await document(empty, KEYS[0])).model_dump_json()


async def test_a_record_that_does_not_come_out_again_breaks_its_chain_and_no_other(
    stack: Stack, empty: SqliteStore, tmp_path: Path
) -> None:
    log = await log_of(stack)
    at = place(log, "evaluation", 3)
    log[at] = edited(log[at], personal=None)
    stream = SqliteStream(Database(tmp_path / "forged.db", partitions=1))
    await stream.publish([Outgoing(Topic.AUDIT, record.key or b"", record.value or b"") for record in log])
    rebuilt = await Rebuild(stream, stack.store, empty, SystemIds()).run()
    await stream.stop()
    assert (rebuilt.documents, rebuilt.written) == (2, 2)
    assert (rebuilt.wrong[0].where, rebuilt.wrong[0].rule) == (f"0:{at}", "record")


async def placed(stack: Stack) -> list[Placed]:
    found = [each async for each in history(Log(stack.stream, stack.store), OF)]
    return [each for each in found if each.told.record.kind != "refused"]


async def test_the_state_of_each_time_coordinate_and_version_is_told(stack: Stack) -> None:
    source, records = Log(stack.stream, stack.store), await placed(stack)
    assert [each.told.record.audit_seq for each in records] == list(range(1, len(records) + 1))
    for each in records:
        assert (await state_at(source, OF, point(each.where))) == each
    last = records[-1]
    assert last.state == await stack.workflow()
    assert await state_at(source, OF, point("2999-01-01T00:00:00Z")) == last
    assert await state_at(source, OF, point("2001-01-01T00:00:00Z")) is None
    first = await state_at(source, OF, point("0"))
    assert first is not None
    assert isinstance(first.state, WorkflowState)
    assert (first.state.version, first.state.jobs[0].name) == (0, JOB["name"])


@pytest.mark.parametrize("text", ["yesterday", "1:", "-1", "2026-01-01"])
async def test_what_is_no_point_in_time_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="no RFC 3339 time, no PARTITION:OFFSET and no version"):
        point(text)
