"""The audit log of a whole story: decided again from its records alone, and nobody's person in it (must 10)."""

import hashlib
import json
from collections import Counter
from typing import Any

from schemas.audit import AuditRecord, Context, DecisionSettings, DocumentRead
from schemas.base import Blob
from schemas.commands import Personal
from schemas.documents import HarnessMetadata, OrgState, State, WorkflowState, digest
from schemas.harness import Harness, HarnessEntry
from tests.contract.stack import ACTOR, JOB, Stack, evaluation_id
from tests.unit.given import HARNESS, NOW
from worker.domain.decide import decide
from worker.domain.decision import Decision, Refused, Written
from worker.domain.evolve import evolve
from worker.ports import Topic
from worker.sealing import Sealer, personal_key

H = f"harness_{1:032x}"
ADA, BOB = Personal(subject="ada@test", reason="because"), Personal(subject="bob@test", reason="of him")


async def records(stack: Stack) -> list[AuditRecord]:
    """The log's records at their first occurrence, in the order of the log."""
    found = [AuditRecord.model_validate_json(record.value or b"") for record in await stack.all(Topic.AUDIT)]
    chain = {(r.aggregate.key, r.audit_seq): r for r in reversed(found) if r.kind != "refused"}
    return [r for r in found if r.kind == "refused" or chain.get((r.aggregate.key, r.audit_seq)) is r]


async def blob(stack: Stack, name: str) -> bytes:
    stored = await stack.store.load(f"blobs/{name}")
    assert stored is not None
    assert hashlib.sha256(stored.body).hexdigest() == name
    return stored.body


async def context_of(stack: Stack, record: AuditRecord) -> Context:
    """A decision's context, from its record and the blobs that it names."""
    recorded, documents = record.context, list[DocumentRead]()
    for read in recorded.documents:
        content = read.content
        if read.key.startswith("blobs/") and read.sha256:
            content = (await blob(stack, read.sha256)).decode()
        documents.append(read.model_copy(update={"content": content}))
    return Context(
        now=recorded.now,
        build=recorded.build,
        audit_seq=record.audit_seq,
        settings=DecisionSettings.model_validate_json(await blob(stack, recorded.settings_sha256)),
        documents=tuple(documents),
        settled=recorded.settled,
    )


async def verify(stack: Stack) -> dict[str, int]:
    """Decide every record again, on the states that its chain folds to; -> how many of each kind."""
    found = await records(stack)
    states: dict[str, State] = {}
    known: dict[str | None, State | None] = {None: None}
    for record in found:
        if record.kind == "refused":
            continue
        key = record.aggregate.key
        if record.kind == "adopted":
            assert not isinstance(record.found, Blob | None)
            states[key] = record.found
        else:
            assert digest(states[key]) == record.state_before_sha256
            decision = await decide_again(stack, record, states[key])
            assert isinstance(decision, Written)
            assert decision.events == record.events
            for event in record.events:
                states[key] = evolve(states[key], event)
        assert digest(states[key]) == record.state_after_sha256
        known[record.state_after_sha256] = states[key]
    for record in found:
        if record.kind == "refused":
            decision = await decide_again(stack, record, known[record.state_before_sha256])
            assert isinstance(decision, Refused)
            assert decision.verdict == record.verdict
    return dict(Counter(record.kind for record in found))


async def decide_again(stack: Stack, record: AuditRecord, state: State | None) -> Decision:
    assert not isinstance(record.input, Blob | None)
    return decide(state, record.input, await context_of(stack, record))


async def put_creation(stack: Stack) -> None:
    """A custom harness and its creation workflow, which has no task."""
    workflow = evaluation_id(9)
    metadata = HarnessMetadata(harness_id=HARNESS, team_id="team-1", workflow_id=workflow)
    await stack.store.create(f"custom-harnesses/{HARNESS}/metadata.json", metadata.model_dump_json().encode())
    state = WorkflowState.model_validate(
        {"workflow_id": workflow, "purpose": "custom_harness", "team_id": "team-1", "harness_id": HARNESS}
    )
    await stack.store.create(
        f"workflows/{workflow}.json", json.dumps({"state": state.model_dump(mode="json")}).encode()
    )


async def put_org(stack: Stack) -> None:
    """An org with one harness."""
    body = Harness(id=H, name="first", created_at=NOW, updated_at=NOW).model_dump_json().encode()
    sha256 = hashlib.sha256(body).hexdigest()
    state = OrgState(org_id="org-1", harnesses={H: HarnessEntry(name="first", body=sha256)})
    await stack.store.put(f"blobs/{sha256}", body)
    await stack.store.create("orgs/org-1.json", json.dumps({"state": state.model_dump(mode="json")}).encode())


async def test_every_decision_is_made_again_from_its_record_alone(stack: Stack) -> None:
    few = DecisionSettings(memory_commands=1, deadline_seconds_max=77)
    await stack.engine.stop()
    stack.settings = few
    await stack.crash()
    await stack.create(jobs=[JOB])
    await put_creation(stack)
    await put_org(stack)
    await stack.engine.start()
    boss = {**ACTOR, "org_id": "org-1", "permissions": ["harness:manage"]}
    story: list[tuple[str, dict[str, Any]]] = [
        ("workflow.update", {"phase": "scoring"}),
        ("workflow.update", {"phase": "never", "expected_version": 9}),
        ("workflow.update", {"phase": "later"}),
        ("workflow.update", {"n": 7, "phase": "nobody knows it"}),
        ("evaluation.cancel", {"dry_run": True}),
        ("evaluation.cancel", {"deadline_seconds": 500}),
        ("workflow.update", {"status": "succeeded"}),
        ("custom_harness.cancel", {"harness_id": HARNESS, "team_id": "team-1"}),
        ("harness.update", {"org_id": "org-1", "harness_id": H, "changes": {"name": "second"}, "actor": boss}),
        ("harness.update", {"org_id": "org-1", "harness_id": H, "changes": {"tags": ["x"]}, "actor": boss}),
    ]
    for i, (kind, data) in enumerate(story):
        await stack.send(kind, f"x{i}", **data)
        await stack.results(i + 1)
    codes = {v["command"]["id"]: v["code"] for v in await stack.results(len(story))}
    assert [codes[f"x{i}"] for i in (0, 1, 5, 7, 8, 9)] == [
        "updated",
        "version_conflict",
        "cancelled",
        "cancelled",
        "updated",
        "updated",
    ]
    kinds = await verify(stack)
    assert (kinds["adopted"], kinds["refused"], kinds["decided"] >= 7) == (3, 3, True)


async def test_a_refusal_has_its_record_outside_of_the_chain_beside_its_verdict(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.send("workflow.update", "r1", phase="never", expected_version=9)
    await stack.send("workflow.update", "u1", phase="after")
    await stack.results(3)
    chain = [record for record in await records(stack) if record.kind != "refused"]
    assert [record.audit_seq for record in chain] == [1, 2, 3]
    [refused] = [record for record in await records(stack) if record.kind == "refused"]
    assert (refused.audit_seq, refused.previous_sha256, refused.state_after_sha256) == (0, None, None)
    assert refused.state_before_sha256 == chain[1].state_after_sha256


async def test_a_refusal_that_moves_the_etag_adopts_nothing(stack: Stack) -> None:
    """The state was found, and is the chain's head only once a record has said so."""
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "r1", phase="never", expires_at="2020-01-01T00:00:00Z")
    await stack.results(1)
    await stack.send("workflow.update", "u1", phase="next")
    assert [v["code"] for v in await stack.results(2)] == ["expired", "updated"]
    assert await verify(stack) == {"refused": 1, "adopted": 1, "decided": 1}


async def test_no_record_holds_personal_text_but_sealed(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    await stack.engine.start()
    await stack.send("evaluation.cancel", "r1", expected_version=9)
    await stack.send("evaluation.cancel", "d1", dry_run=True)
    await stack.send("evaluation.cancel", "c1")
    verdicts = await stack.results(3)
    assert {v["command"]["subject"] for v in verdicts} == {ACTOR["subject"]}
    for record in await stack.all(Topic.AUDIT):
        assert b"ada@" not in (record.value or b"")
        assert b"because" not in (record.value or b"")
    sealer = Sealer(stack.ports.store, stack.ports.ids)
    sealed = [record.personal for record in await records(stack) if record.personal]
    assert len(sealed) == 3
    assert {await sealer.unseal(each) for each in sealed} == {ADA}


# ------------------------------------------------------------------------------------ sealing


async def test_erasing_a_persons_key_erases_that_person_only(stack: Stack) -> None:
    sealer = Sealer(stack.ports.store, stack.ports.ids)
    ada, bob = await sealer.seal(ADA), await sealer.seal(BOB)
    assert (await sealer.unseal(ada), await sealer.unseal(bob)) == (ADA, BOB)
    await stack.store.delete([personal_key(ada.subject_sha256)])
    assert (await sealer.unseal(ada), await sealer.unseal(bob)) == (None, BOB)


async def test_a_key_is_made_once_and_nonces_are_not_repeated(stack: Stack) -> None:
    first, second = (Sealer(stack.ports.store, stack.ports.ids) for _ in range(2))
    sealed = [await sealer.seal(ADA) for sealer in (first, second, first)]
    assert len({each.nonce for each in sealed}) == 3
    assert await stack.store.list("personal/") == [personal_key(sealed[0].subject_sha256)]
    assert [await second.unseal(each) for each in sealed] == [ADA] * 3
