"""schemas/AUDIT.md is true: a verifier written from it alone agrees with the real engine, and finds tampering."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.audit import AuditRecord
from schemas.checkpoints import SignedCheckpoint
from tests.contract.auditor import Auditor, Value, problems_of_line
from tests.contract.stack import ACTOR, JOB, Stack, evaluation_id, workflow_key
from tests.contract.test_musts_audit import put_creation, put_org
from tests.unit.given import HARNESS
from worker.audit.erase import erase
from worker.ports import Record, Topic
from worker.runtime.checkpointer import Checkpointer
from worker.signing import UNSIGNED

PAGE = (Path(__file__).parents[2] / "schemas" / "AUDIT.md").read_text()
PUBLISHED = Path(__file__).parents[2] / "schemas" / "published"
H = f"harness_{1:032x}"
BOSS = {**ACTOR, "org_id": "org-1", "permissions": ["harness:manage"]}
STORY: list[tuple[str, dict[str, Any]]] = [
    ("workflow.update", {"phase": 'of "all" \\ kinds\n\x01 ü'}),
    ("workflow.update", {"phase": "never", "expected_version": 9}),
    ("evaluation.cancel", {"dry_run": True}),
    ("evaluation.cancel", {}),
    ("workflow.update", {"status": "succeeded"}),
    ("custom_harness.cancel", {"harness_id": HARNESS, "team_id": "team-1"}),
    ("harness.update", {"org_id": "org-1", "harness_id": H, "changes": {"name": "second"}, "actor": BOSS}),
    ("harness.update", {"org_id": "org-1", "harness_id": H, "changes": {"system_prompt": "x" * 99_000}, "actor": BOSS}),
]


@pytest.fixture
async def told(stack: Stack) -> Stack:
    """The story is over and sealed."""
    await stack.create(jobs=[JOB])
    await put_creation(stack)
    await put_org(stack)
    await stack.engine.start()
    for i, (kind, data) in enumerate(STORY):
        await stack.send(kind, f"x{i}", **data)
        await stack.results(i + 1)
    await Checkpointer(stack.stream, stack.clock, lambda: {0: 1}, UNSIGNED).once()
    return stack


async def log(stack: Stack) -> list[Value]:
    return [value(record) for record in await stack.all(Topic.AUDIT)]


async def line(stack: Stack) -> list[bytes]:
    """Payloads of the checkpoints."""
    found = await stack.all(Topic.CHECKPOINTS)
    return [SignedCheckpoint.model_validate_json(record.value or b"").payload.encode() for record in found]


def value(record: Record) -> Value:
    key, name = (record.key or b"").decode(), dict(record.headers)["ce_id"].decode()
    return Value(record.partition, record.offset, key, name, record.value or b"")


async def auditor(stack: Stack) -> Auditor:
    objects = {key: stored.body for key in await stack.store.list("blobs/") if (stored := await stack.store.load(key))}
    schemas = {path.name: json.loads(path.read_text()) for path in PUBLISHED.glob("*.schema.json")}
    return Auditor(schemas, objects.get)


async def test_the_page_verifies_what_the_engine_writes(told: Stack) -> None:
    reader, records = await auditor(told), await log(told)
    assert reader.verify(records) == []
    kinds = {json.loads(record.value)["kind"] for record in records}
    assert kinds == {"adopted", "decided", "refused"}
    assert any(b'"input":{"sha256"' in record.value for record in records), "one is by reference"
    places = {"evaluation": workflow_key(), "custom-harness": workflow_key(9), "org": "orgs/org-1.json"}
    for key in reader.heads:
        stored = await told.store.load(places[key.partition("/")[0]])
        assert stored is not None
        assert reader.document(key, stored.body) == []
    sealed = await line(told)
    assert problems_of_line(sealed, records) == []
    assert json.loads(sealed[-1])["end_offset"] == records[-1].offset + 1
    assert problems_of_line(sealed, records[:-1]) == ["root at checkpoint 1"], "a tail that was cut"


Tampering = Callable[[list[Value]], list[Value]]


def altered(at: int, old: bytes, new: bytes) -> Tampering:
    def tamper(records: list[Value]) -> list[Value]:
        assert old in records[at].value
        return [*records[:at], records[at]._replace(value=records[at].value.replace(old, new, 1)), *records[at + 1 :]]

    return tamper


TAMPERED: list[tuple[Tampering, str]] = [
    (altered(1, b'"phase":"of', b'"phase":"if'), "chain at 0:"),
    (altered(0, b'"status":"running"', b'"status":"created"'), "found at 0:0"),
    (altered(2, b"version_conflict", b"version_convict"), ""),
    (lambda records: [*records[:1], *records[2:]], "audit_seq at 0:"),
    (lambda records: [records[1], records[0], *records[2:]], "audit_seq at 0:1"),
    (lambda records: [*records, records[1]._replace(value=records[1].value + b" ")], "repetition at 0:1"),
]
"""What is done to the log, and what the chains say of it; empty: a refusal, which only checkpoints cover."""


async def test_the_page_finds_what_was_tampered(told: Stack) -> None:
    records, sealed = await log(told), await line(told)
    for tamper, rule in TAMPERED:
        problems = (await auditor(told)).verify(tamper(records))
        assert any(rule in problem for problem in problems) if rule else problems == [], problems
        assert problems_of_line(sealed, tamper(records)) == ["root at checkpoint 1"]


async def test_identical_repetitions_mean_nothing(told: Stack) -> None:
    reader, records = await auditor(told), await log(told)
    assert reader.verify(records) == []
    before = reader.repeated
    again = await auditor(told)
    assert again.verify([*records, *records]) == []
    assert again.repeated == before + len(records)


async def test_a_missing_reference_and_an_edited_document_show(told: Stack) -> None:
    reader, records = await auditor(told), await log(told)
    [named] = [json.loads(r.value)["input"]["sha256"] for r in records if b'"input":{"sha256"' in r.value]
    await told.store.delete([f"blobs/{named}"])
    assert any(problem.startswith("reference at") for problem in (await auditor(told)).verify(records))
    assert reader.verify(records) == []
    stored = await told.store.load(workflow_key())
    assert stored is not None
    edited = stored.body.replace(b'"team_id":"team-1"', b'"team_id":"team-2"')
    assert reader.document(f"evaluation/{evaluation_id()}", edited) == [f"state at evaluation/{evaluation_id()}"]


async def test_personal_fields_are_sealed_as_the_page_says_and_can_be_erased(told: Stack) -> None:
    sealed = [json.loads(record.value).get("personal") for record in await log(told)]
    sealed = [each for each in sealed if each]
    assert sealed
    subject = hashlib.sha256(str(ACTOR["subject"]).encode()).hexdigest()
    key = await told.store.load(f"personal/{subject}")
    assert key is not None
    for each in sealed:
        assert each["subject_sha256"] == subject
        nonce, ciphertext = base64.b64decode(each["nonce"]), base64.b64decode(each["ciphertext"])
        plain = json.loads(AESGCM(key.body).decrypt(nonce, ciphertext, subject.encode()))
        assert plain == {"subject": ACTOR["subject"], "reason": "because"}
    await erase(told.store, str(ACTOR["subject"]))
    assert await told.store.load(f"personal/{subject}") is None
    assert (await auditor(told)).verify(await log(told)) == []


async def test_a_fingerprint_is_what_the_page_says(told: Stack) -> None:
    found = [json.loads(record.value).get("input") for record in await log(told)]
    prints = {each["id"]: each["fingerprint"] for each in found if each and each.get("kind") == "command"}
    for record in await told.all(Topic.COMMANDS):
        headers = {name: text.decode() for name, text in record.headers}
        data = json.loads(record.value or b"")
        subject = data.pop("actor")["subject"]
        whole = [headers["ce_type"], (record.key or b"").decode(), subject, data]
        if headers["ce_type"].startswith("evaluation."):
            text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
            assert hashlib.sha256(text.encode()).hexdigest() == prints[headers["ce_id"]]


async def test_the_page_names_every_field_and_header(told: Stack) -> None:
    assert rows("field") == list(AuditRecord.model_fields)
    for record in await told.all(Topic.AUDIT):
        assert [name for name, _ in record.headers] == rows("header")


def rows(first: str) -> list[str]:
    """The first column of the table that begins so."""
    table = PAGE.partition(f"| {first} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `([\w-]+)` \|", table, flags=re.MULTILINE)
