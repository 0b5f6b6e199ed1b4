"""The checker of the chaos on real servers: a small history that keeps every promise, and each promise broken.

The history is made by hand from the contract: two evaluations, one cancelled (its command stands there three times,
once in another partition), one that others tried to cancel.  No servers, nothing of the product.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import chaos
from tests.chaos.checker import BYSTANDERS, LABEL, NAMESPACE, RULES, check
from tests.chaos.evidence import Evidence, Record

DOOMED, KEPT = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
NOTHING_UNFINISHED = "1:AAA"
FOLDER = "teams/team-1/evaluations"


def written(content: Any) -> bytes:
    return json.dumps(content).encode()


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def command(partition: int, offset: int, id: str, type: str, name: str, **data: Any) -> Record:
    actor = {"subject": "ada", "team_ids": ["team-1"], "permissions": ["agent:write", "workflow:report"]}
    headers = {"ce_id": id, "ce_type": type, "ce_time": "2026-01-01T00:00:00Z"}
    whole = {"actor": actor, "evaluation_id": name, **data}
    return Record(partition, offset, f"evaluation/{name}", written(whole), headers)


def verdict(about: Record, code: str, http_status: int, **aggregate: Any) -> bytes:
    at = {"partition": about.partition, "offset": about.offset}
    asked = {"id": about.headers["ce_id"], "at": at}
    told = {"type": "evaluation", **aggregate} if aggregate else None
    return written({"code": code, "http_status": http_status, "message": "", "command": asked, "aggregate": told})


def result(offset: int, about: Record, value: bytes) -> Record:
    where = {"verdict-partition": str(about.partition), "verdict-offset": str(about.offset)}
    return Record(about.partition, offset, about.key, value, where)


def status_event(offset: int, version: int, before: str, after: str) -> Record:
    event = {"subject": "workflow", "subject_id": DOOMED, "version": version, "before": before, "after": after}
    return Record(0, offset, f"evaluation/{DOOMED}", written(event), {})


def status_changed(before: str, after: str) -> dict[str, str]:
    return {"kind": "status_changed", "before": before, "after": after}


def audit(offset: int, name: str, before: Record | None, given: Any, *events: dict[str, Any]) -> Record:
    """One more link of a chain; states are named for what came last."""
    link = {"kind": "decided", "audit_seq": 1, "input": given, "events": events}
    link |= {"state_before_sha256": f"{name}-0", "state_after_sha256": f"{name}-1"}
    if before is not None:
        number = before.json()["audit_seq"]
        link |= {"audit_seq": number + 1, "previous_sha256": sha256(before.value)}
        link |= {"state_before_sha256": f"{name}-{number}", "state_after_sha256": f"{name}-{number + 1}"}
    return Record(0, offset, f"evaluation/{name}", written(link), {"ce_id": f"audit-{offset}"})


def document(name: str, status: str, last: Record, answered: Record, body: bytes, **state: Any) -> bytes:
    at = {"partition": answered.partition, "offset": answered.offset}
    whole: dict[str, Any] = {
        "workflow_id": name,
        "team_id": "team-1",
        "status": status,
        "open": [],
        "unsettled": [],
        "warnings": [],
    }
    whole |= {"answered": [{"id": answered.headers["ce_id"], "at": at}], **state}
    chain = {"audit_seq": last.json()["audit_seq"], "record_sha256": sha256(last.value)}
    kept = {f"{answered.partition}:{answered.offset}": body.decode()}
    return written({"state": whole, "verdicts": kept, "outbox": [], "revision": 3, "chain": chain})


def job(namespace: str, name: str, labelled: str) -> dict[str, Any]:
    about = {"namespace": namespace, "name": name, "uid": f"uid-{name}", "labels": {LABEL: labelled}}
    return {"metadata": about}


def pod(name: str) -> dict[str, Any]:
    owner = {"kind": "Job", "name": name, "uid": f"uid-{name}"}
    about = {"name": f"{name}-x", "uid": f"pod-{name}", "ownerReferences": [owner]}
    return {"metadata": about, "status": {"phase": "Running"}}


@pytest.fixture
def good() -> Evidence:
    """A history that keeps every promise."""
    cancels = [command(p, o, "cancel", "evaluation.cancel", DOOMED) for p, o in ((0, 0), (0, 1), (1, 0))]
    update = command(0, 2, "update", "workflow.update", KEPT, phase="one")
    mute = {"subject": "bob", "team_ids": ["team-1"], "permissions": []}
    forbidden = command(0, 3, "forbidden", "evaluation.cancel", KEPT, actor=mute)
    gone = verdict(cancels[0], "cancelled", 200, version=2, status_before="running", status_after="cancelled")
    done = verdict(update, "updated", 200, version=1, status_before="running", status_after="running")
    cause = {"kind": "command", "id": "cancel", "at": {"partition": 0, "offset": 0}}
    intent = audit(0, DOOMED, None, cause, status_changed("running", "cancelling"))
    outcome = audit(1, DOOMED, intent, {"kind": "observed"}, status_changed("cancelling", "cancelled"))
    report = {"kind": "command", "id": "update", "at": {"partition": 0, "offset": 2}}
    reported = audit(2, KEPT, None, report, {"kind": "detail_changed"})
    refused = Record(
        0, 3, forbidden.key, written({"kind": "refused", "audit_seq": 0, "events": []}), {"ce_id": "forbidden"}
    )
    kept_job, decoy = job(NAMESPACE, "kept", KEPT), job("next-door", "decoy", DOOMED)
    stood_by = [
        {"namespace": each["metadata"]["namespace"], "name": name, "uid": f"uid-{name}", "pods": [f"pod-{name}"]}
        for name, each in (("kept", kept_job), ("decoy", decoy))
    ]
    return Evidence(
        topics={
            "commands": [*cancels[:2], update, forbidden, cancels[2]],
            "results": [
                result(0, cancels[0], gone),
                result(1, cancels[1], gone),
                result(2, update, done),
                result(3, forbidden, verdict(forbidden, "permission_denied", 403)),
                result(0, cancels[2], gone),
            ],
            "status": [status_event(0, 1, "running", "cancelling"), status_event(1, 2, "cancelling", "cancelled")],
            "audit": [intent, outcome, reported, refused],
            "dead-letters": [],
        },
        objects={
            f"workflows/{DOOMED}.json": document(
                *(DOOMED, "cancelled", outcome, cancels[0], gone), version=2, jobs=[{"uid": "uid-done"}], cleaned=True
            ),
            f"workflows/{KEPT}.json": document(
                *(KEPT, "running", reported, update, done), version=1, jobs=[{"uid": "uid-kept"}], cleaned=False
            ),
            f"{FOLDER}/{DOOMED}/request.json": b"{}",
            f"{FOLDER}/{KEPT}/request.json": b"{}",
            f"{FOLDER}/{KEPT}/partial/0": b"x",
            BYSTANDERS: written(stood_by),
        },
        positions={0: (4, NOTHING_UNFINISHED), 1: (1, NOTHING_UNFINISHED)},
        ends={("commands", 0): 4, ("commands", 1): 1},
        processes=[],
        jobs=[kept_job, decoy],
        pods=[pod("kept"), pod("decoy")],
    )


def test_a_history_that_keeps_every_promise_gives_no_finding(good: Evidence) -> None:
    assert check(good) == []


# ------------------------------------------------------------------------------------------------ damage

Damage = Callable[[Evidence], object]


def drop(topic: str, index: int) -> Damage:
    return lambda evidence: evidence.topic(topic).pop(index)


def repeat(topic: str, index: int, **changes: Any) -> Damage:
    """A record stands there once more, at the end, perhaps with other fields."""

    def plant(evidence: Evidence) -> None:
        record = evidence.topic(topic)[index]
        value = written(record.json() | changes) if changes else record.value
        evidence.topic(topic).append(replace(record, offset=99, value=value))

    return plant


def alter(topic: str, index: int, **changes: Any) -> Damage:
    def plant(evidence: Evidence) -> None:
        record = evidence.topic(topic)[index]
        evidence.topic(topic)[index] = replace(record, value=written(record.json() | changes))

    return plant


def state(name: str, **changes: Any) -> Damage:
    def plant(evidence: Evidence) -> None:
        key = f"workflows/{name}.json"
        whole = json.loads(evidence.objects[key])
        whole["state"] |= changes
        evidence.objects[key] = written(whole)

    return plant


def letter(evidence: Evidence) -> None:
    about = {"dead-letter-partition": "0", "dead-letter-offset": "2"}
    evidence.topic("dead-letters").append(Record(0, 0, f"evaluation/{KEPT}", b"x", about))


def mark(what: str, index: int) -> Damage:
    """A Job or a pod is being deleted."""
    return lambda evidence: getattr(evidence, what)[index]["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z")


ONE, SAME, AGREE = "one verdict per record", "same bytes for a remembered id", "verdicts and documents agree"
TERMINAL, CHAIN, ONCE = "terminal is terminal", "audit chains are whole", "decided once, in log order"
ALIVE, TOUCHED = "nothing cancelled is alive", "nothing else was touched"
DATA, MEMORY, OPEN = "partial data gone, requests kept", "memory holds what was published", "nothing is left open"
DAMAGE: dict[str, tuple[str, Damage]] = {
    "a verdict is lost": (ONE, drop("results", 0)),
    "a verdict is there twice": (ONE, repeat("results", 0)),
    "a refusal is there twice": (ONE, repeat("results", 3)),
    "all is lost": (ONE, lambda evidence: evidence.topics.clear()),
    "a repeated verdict has other bytes": (SAME, alter("results", 1, message="another")),
    "a verdict in another partition has other bytes": (SAME, alter("results", 4, message="another")),
    "a refusal has another record's place": (
        SAME,
        alter("results", 3, command={"id": "forbidden", "at": {"partition": 0, "offset": 2}}),
    ),
    "a remembered command is refused": (SAME, alter("results", 1, http_status=400)),
    "a document disagrees": (AGREE, state(DOOMED, status="running")),
    "a document lost its last versions": (AGREE, state(DOOMED, version=0)),
    "a command failed": ("no failure", alter("results", 0, http_status=504)),
    "a refusal was none": ("refusals are refused", alter("results", 3, http_status=200)),
    "a dead letter": ("no dead letters", letter),
    "a terminal status is left": (TERMINAL, repeat("status", 1, before="cancelled", after="running", version=3)),
    "a terminal status is left, by the audit": (
        "terminal is terminal, by the audit",
        alter("audit", 1, events=[status_changed("cancelled", "running")]),
    ),
    "a version is skipped": ("versions have no gap", state(DOOMED, version=3)),
    "a status event is missing": ("versions have no gap", drop("status", 1)),
    "a status event is out of order": (TERMINAL, repeat("status", 1, version=0)),
    "a status event is repeated otherwise": (TERMINAL, repeat("status", 1, before="running")),
    "a link of a chain is lost": (CHAIN, drop("audit", 0)),
    "a link of a chain is altered": (CHAIN, alter("audit", 0, input=None)),
    "the end of a chain is lost": (CHAIN, drop("audit", 1)),
    "a record is decided twice": (ONCE, repeat("audit", 0, audit_seq=3)),
    "a refusal is decided twice": (ONCE, repeat("audit", 3)),
    "a document forgot": (MEMORY, state(DOOMED, answered=[])),
    "a command is left open": (OPEN, state(KEPT, open=[{"id": "left"}])),
    "a position has an unfinished one": ("positions at the end", lambda e: e.positions.update({0: (4, "1:AAEA")})),
    "a position is behind": ("positions at the end", lambda e: e.positions.update({0: (3, NOTHING_UNFINISHED)})),
    "a cancelled Job is alive": (ALIVE, lambda e: e.jobs.append(job(NAMESPACE, "done", "unlabelled"))),
    "a cancelled Job that nobody recorded is alive": (ALIVE, lambda e: e.jobs.append(job(NAMESPACE, "new", DOOMED))),
    "a cancelled pod is alive": (ALIVE, lambda e: e.pods.append(pod("done"))),
    "a pod is alive whose Job was never recorded": (ALIVE, lambda e: e.pods.append(pod("orphan"))),
    "a bystander's Job is gone": (TOUCHED, lambda e: e.jobs.pop(1)),
    "a bystander's Job is being deleted": (TOUCHED, mark("jobs", 0)),
    "a bystander's pod is another": (TOUCHED, lambda e: e.pods[1]["metadata"].update(uid="another")),
    "a bystander's pod is being deleted": (TOUCHED, mark("pods", 0)),
    "nobody stood by": (TOUCHED, lambda e: e.objects.pop(BYSTANDERS)),
    "a request is gone": (DATA, lambda e: e.objects.pop(f"{FOLDER}/{DOOMED}/request.json")),
    "partial data is left": (DATA, lambda e: e.objects.update({f"{FOLDER}/{DOOMED}/partial/7": b"x"})),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(good: Evidence, name: str) -> None:
    rule, plant = DAMAGE[name]
    plant(good)
    assert list(RULES[rule](good))


def test_every_rule_has_its_damage() -> None:
    assert {rule for rule, _ in DAMAGE.values()} == set(RULES)


def test_checker_and_gatherer_know_nothing_of_the_product() -> None:
    here = Path(next(iter(chaos.__path__)))
    acceptance = here.parent / "acceptance"
    judges = [here / f"{name}.py" for name in ("checker", "evidence")]
    judges += [acceptance / f"{name}.py" for name in ("checker", "documents", "evidence", "histories")]
    allowed = {f"tests.{path.parent.name}.{path.stem}" for path in judges} | {"tests.acceptance"}
    for path, clients in [
        *((path, set[str]()) for path in judges),
        (here / "gather.py", {"aiokafka", "botocore", "confluent_kafka"}),
    ]:
        for module in imported(path):
            first = module.partition(".")[0]
            assert module in allowed or first in sys.stdlib_module_names or first in clients, f"{path.name}: {module}"


def imported(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.append(str(node.module))
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found
