"""From decisions to documents: counters, outbox and audit chain, without a store (musts 3, 4 and 10)."""

import hashlib
import json
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from schemas.base import Blob
from schemas.commands import Personal
from schemas.documents import Document, OrgState, SessionState, StateBase, WorkflowState, digest
from tests.unit.given import EVALUATION, JOB, NOW, SETTINGS, TASK, command, context, evaluation, metadata, seen
from worker.domain.decide import decide
from worker.domain.decision import AnyState, Written
from worker.ledger import Draught, Step, adopts, advance, blob_of, settings_blob

ADA = Personal(subject="ada@test", reason="because of budget")
SETTINGS_SHA256 = settings_blob(SETTINGS)[0].sha256


def write(document: Document, *given: Any, acknowledged: int = 0, write_id: str = "w1", **more: Any) -> Draught:
    """The draught after these commands, decided one after another in one write."""
    adopt, state, steps = adopts(document), document.state, list[Step]()
    for each in given:
        sequence = document.chain.audit_seq + adopt + len(steps) + 1
        at = context(1, audit_seq=sequence, **more)
        decision = decide(state, each, at)
        assert isinstance(decision, Written), decision
        steps.append(Step(each, at, decision, ADA))
        state = decision.state
    return advance(
        document,
        steps,
        write_id=write_id,
        settings_sha256=SETTINGS_SHA256,
        acknowledged=acknowledged,
        adopt=adopt,
    )


def update(n: int, **fields: Any) -> Any:
    return command("workflow.update", f"u{n}", n, **{"phase": f"step {n}", **fields})


def audits(document: Document) -> list[dict[str, Any]]:
    return [json.loads(entry.body) for entry in document.outbox if entry.topic == "audit"]


def test_each_write_raises_the_revision_by_one_and_carries_its_own_write_id() -> None:
    first = write(Document(state=evaluation()), update(1), update(2)).document
    second = write(first, update(3), write_id="w2").document
    assert [(d.revision, d.write_id) for d in (first, second)] == [(1, "w1"), (2, "w2")]


def test_each_decided_input_has_a_place_in_the_chain_with_the_hash_of_the_bytes_before() -> None:
    first = write(Document(state=evaluation()), update(1), update(2)).document
    second = write(first, update(3), acknowledged=2).document
    bodies = [entry.body for entry in (*first.outbox, second.outbox[-1])]
    assert [json.loads(body)["audit_seq"] for body in bodies] == [1, 2, 3, 4]
    for before, after in pairwise(bodies):
        assert json.loads(after)["previous_sha256"] == hashlib.sha256(before.encode()).hexdigest()
    assert second.chain.record_sha256 == hashlib.sha256(bodies[-1].encode()).hexdigest()
    assert (second.chain.audit_seq, second.chain.state_sha256) == (4, digest(second.state))


def test_the_outbox_keeps_in_order_what_is_not_known_to_be_published() -> None:
    first = write(Document(state=evaluation()), update(1), update(2, status="succeeded")).document
    second = write(first, update(3, status="failed"), acknowledged=2).document
    assert [(e.audit_seq, e.topic) for e in first.outbox] == [(1, "audit"), (2, "audit"), (3, "audit"), (3, "status")]
    assert [e.audit_seq for e in second.outbox] == [3, 3, 4]
    assert second.outbox[:2] == first.outbox[2:]


def test_a_status_event_speaks_of_the_version_that_it_leads_to() -> None:
    document = write(Document(state=evaluation("created")), update(1, status="running"), update(2, status="failed"))
    events = [json.loads(e.body) for e in document.document.outbox if e.topic == "status"]
    assert [(e["before"], e["after"]) for e in events] == [("created", "running"), ("running", "failed")]
    versions = [e["version"] for e in events]
    assert versions == sorted(set(versions))
    assert versions[-1] <= document.document.state.version


def test_a_state_that_is_not_the_chains_head_is_adopted_first() -> None:
    known = write(Document(state=evaluation()), update(1)).document
    foreign = known.model_copy(update={"state": known.state.model_copy(update={"phase": "foreign"})})
    assert (adopts(Document(state=evaluation())), adopts(known), adopts(foreign)) == (True, False, True)
    records = audits(write(foreign, update(2), acknowledged=2).document)
    assert [record["kind"] for record in records] == ["adopted", "decided"]
    assert records[0]["found"]["phase"] == "foreign"
    assert records[0]["state_before_sha256"] == digest(known.state)
    assert records[0]["state_after_sha256"] == records[1]["state_before_sha256"] == digest(foreign.state)


def test_an_audit_record_holds_what_the_decision_looked_at() -> None:
    read = {"key": "custom-harnesses/x/metadata.json"}
    settled = [{"partition": 3, "offset": 9}]
    given = update(1)
    draught = write(Document(state=evaluation()), given, documents=[read, metadata()], settled=settled)
    [_, record] = audits(draught.document)
    assert record["input"] == json.loads(given.model_dump_json(exclude_none=True))
    assert record["context"]["settings_sha256"] == SETTINGS_SHA256
    assert record["context"]["documents"] == [read, metadata()]
    assert record["context"]["settled"] == settled
    assert (record["context"]["build"], record["context"]["now"]) == ("test", "2026-01-31T12:00:01.000Z")


def test_settings_are_named_by_everything_in_them() -> None:
    for name in type(SETTINGS).model_fields:
        value = getattr(SETTINGS, name)
        other = value + 1 if isinstance(value, int) else "other" if isinstance(value, str) else (*value, "other")
        assert settings_blob(SETTINGS.model_copy(update={name: other}))[0] != settings_blob(SETTINGS)[0], name


def test_personal_text_stands_in_the_verdict_and_nowhere_in_the_outbox() -> None:
    document = write(Document(state=evaluation()), update(1)).document
    [kept] = document.verdicts.values()
    assert isinstance(kept, str)
    verdict = json.loads(kept)
    assert (verdict["command"]["subject"], verdict["command"]["reason"]) == (ADA.subject, ADA.reason)
    assert all(ADA.subject not in entry.body and ADA.reason not in entry.body for entry in document.outbox)
    assert (document.personal, ADA.subject in document.state.model_dump_json()) == ({}, False)


def test_the_personal_fields_of_an_open_command_are_kept_until_it_is_answered() -> None:
    document = write(Document(state=evaluation("running", JOB)), command("evaluation.cancel")).document
    assert document.personal == {"c1": ADA}


def test_a_long_verdict_is_a_blob_that_the_draught_brings_along() -> None:
    draught = write(Document(state=evaluation()), update(1).model_copy(update={"correlation_id": "x" * 5000}))
    [kept] = draught.document.verdicts.values()
    assert isinstance(kept, Blob)
    assert blob_of(draught.blobs[kept.key]) == kept


# ------------------------------------------------------------------------------------ the state's digest

OPEN = {
    "id": "c1",
    "type": "evaluation.cancel",
    "fingerprint": "0" * 64,
    "time": NOW,
    "at": {"partition": 0, "offset": 1},
    "received_at": NOW,
    "decided_at": NOW,
    "deadline_at": NOW + timedelta(seconds=10),
    "status_before": "running",
}
FAILURE = {"id": "c0", "at": {"partition": 0, "offset": 0}, "code": "unconfirmed", "verdict_sha256": "1" * 64}
BASE: dict[str, Any] = {
    "version": 3,
    "open": [OPEN],
    "answered": [{**FAILURE, "fingerprint": "2" * 64, "time": NOW}],
    "failures": [FAILURE],
    "unconfirmed": [{"id": "c3", "fingerprint": "4" * 64}],
    "horizon": NOW,
    "unsettled": [{"audit_seq": 1, "why": "sweep", "due_at": NOW}],
}
HARNESS_ENTRY = {"name": "a", "body": "3" * 64}
FULL: list[AnyState] = [
    WorkflowState.model_validate(
        BASE
        | {"workflow_id": EVALUATION, "purpose": "custom_harness", "team_id": "team-1", "harness_id": EVALUATION}
        | {"status": "running", "phase": "p", "error_message": "e", "created_at": NOW, "started_at": NOW}
        | {"completed_at": NOW, "jobs": [JOB], "workflow_specific_fields": TASK, "earlier_tasks": [TASK]}
        | {"reported_outcome": {"status": "failed"}, "cleaned": True, "objects_removed": 2, "warnings": ["w"]}
        | {"teardown": {"mode": "force", "grace_period_seconds": 1, "cleanup": True, "begun_at": NOW}}
    ),
    SessionState.model_validate(
        BASE
        | {"session_id": "01arz3ndektsv4rrffq69g5fav.g", "tenant": "tenant-1", "status": "closed"}
        | {"turn": {"turn_id": "turn-1", "number": 1, "status": "running", "gone": seen("turn", "turn-1")}}
    ),
    OrgState.model_validate(
        BASE
        | {"org_id": "org-1", "default": "d", "models": ["m"], "capabilities": ["c"]}
        | {"harnesses": {"h": HARNESS_ENTRY}}
    ),
]
REQUIRED = {"workflow_id": "another", "team_id": "another", "session_id": "another", "org_id": "another"}
EVERY_FIELD = [(state, name) for state in FULL for name in type(state).model_fields if name != "kind"]


@pytest.mark.parametrize(("state", "name"), EVERY_FIELD, ids=[f"{s.kind}.{name}" for s, name in EVERY_FIELD])
def test_the_digest_of_a_state_covers_every_field(state: AnyState, name: str) -> None:
    field = type(state).model_fields[name]
    other = REQUIRED.get(name, field.get_default())
    assert getattr(state, name) != other, "the full state sets every field"
    assert digest(state.model_copy(update={name: other})) != digest(state)


def test_the_digest_covers_every_field_of_a_remembered_command() -> None:
    for state in FULL:
        [entry] = state.answered
        for name in type(entry).model_fields:
            changed = type(entry).model_validate(entry.model_dump() | {name: _other(getattr(entry, name))})
            assert digest(state.model_copy(update={"answered": (changed,)})) != digest(state), name


def test_the_digest_is_of_the_state_and_not_of_what_is_kept_beside_it() -> None:
    state: StateBase = FULL[0]
    assert isinstance(state, WorkflowState)
    document = Document(state=state)
    beside = Document(state=state, write_id="x", revision=7, verdicts={"0:0": "{}"}, personal={"c1": ADA})
    assert digest(document.state) == digest(beside.state) == digest(state)


def _other(value: Any) -> Any:
    match value:
        case str():
            return value[::-1] if value != value[::-1] else "4" * 64
        case _ if value == NOW:
            return NOW + timedelta(seconds=1)
        case _:
            return {"partition": 5, "offset": 5}
