"""The checker's rules on what was told over time: status events in version order, audit records as a chain.

Standard library only; imports nothing of the product and no test code that knows it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.acceptance.evidence import Evidence, Record

TERMINAL = ("cancelled", "succeeded", "failed")
CHANGES = ("status_changed", "detail_changed", "session_status_changed", "harness_changed")
"""Events of which each makes a version; a replaced turn does where a user can see it."""
HIDDEN = ("reported_outcome", "gone")
"""What a user does not see of a turn."""


def no_status_leaves_a_terminal_one(evidence: Evidence) -> Iterator[str]:
    for subject, records in _first_occurrences(evidence, "status", _status_identity):
        events = [record.json() for record in records]
        for before, after in pairwise(events):
            if after["version"] <= before["version"]:
                yield f"{subject}: version {after['version']} was published after {before['version']}"
            if after["before"] != before["after"]:
                yield f"{subject}: {before['after']} became {after['before']} without an event"
        yield from (f"{subject}: {e['before']} became {e['after']}" for e in events if e["before"] in TERMINAL)
    yield from _changed_repetitions(evidence, "status", _status_identity)


def _status_identity(record: Record) -> tuple[str, int]:
    event = record.json()
    return f"{record.key} {event['subject']} {event['subject_id']}", event["version"]


def _audit_identity(record: Record) -> tuple[str, int] | None:
    sequence = record.json()["audit_seq"]
    return (record.key, sequence) if sequence else None


Identity = Callable[[Record], tuple[str, int] | None]


def _first_occurrences(evidence: Evidence, topic: str, identity: Identity) -> Iterator[tuple[str, list[Record]]]:
    seen: dict[str, dict[int, Record]] = defaultdict(dict)
    for record in evidence.topic(topic):
        if name := identity(record):
            seen[name[0]].setdefault(name[1], record)
    yield from ((name, list(records.values())) for name, records in seen.items())


def _changed_repetitions(evidence: Evidence, topic: str, identity: Identity) -> Iterator[str]:
    seen: dict[tuple[str, int], bytes] = {}
    for record in evidence.topic(topic):
        name = identity(record)
        if name and seen.setdefault(name, record.value) != record.value:
            yield f"{topic}: {name[0]} number {name[1]} was published again with other bytes"


def audit_chains_are_whole(evidence: Evidence) -> Iterator[str]:
    documents = evidence.documents()
    chains = dict(_first_occurrences(evidence, "audit", _audit_identity))
    for key, records in chains.items():
        audits = [record.json() for record in records]
        if [audit["audit_seq"] for audit in audits] != list(range(1, len(audits) + 1)):
            yield f"{key}: the chain's numbers are {[audit['audit_seq'] for audit in audits]}"
        for record, audit in zip(records, audits[1:], strict=False):
            if audit.get("previous_sha256") != hashlib.sha256(record.value).hexdigest():
                yield f"{key}: audit record {audit['audit_seq']} does not follow from the one before"
        for before, after in pairwise(audits):
            if after["kind"] == "decided" and after["state_before_sha256"] != before["state_after_sha256"]:
                yield f"{key}: audit record {after['audit_seq']} was decided on another state"
        head = documents[key]["chain"]
        if (head["audit_seq"], head["record_sha256"]) != (len(audits), hashlib.sha256(records[-1].value).hexdigest()):
            yield f"{key}: the document's chain ends at {head['audit_seq']}, the topic's at {len(audits)}"
    for key, document in documents.items():
        if key not in chains and document.get("revision", 0) and document["chain"]["audit_seq"]:
            yield f"{key}: decided, and no audit record was published"
    yield from _changed_repetitions(evidence, "audit", _audit_identity)


def versions_have_no_gap(evidence: Evidence) -> Iterator[str]:
    """Counted again from the audit records: each visible change makes one version, and each status event has its."""
    documents, announced = evidence.documents(), defaultdict(set)
    for record in evidence.topic("status"):
        event = record.json()
        announced[record.key].add((event["subject_id"], event["version"]))
    for key, records in _first_occurrences(evidence, "audit", _audit_identity):
        version, harnesses, wanted, turn = 0, Counter[str](), set(), dict[str, object]()
        for event in (event for record in records for event in record.json()["events"]):
            before, turn = turn, {k: v for k, v in event.get("turn", turn).items() if k not in HIDDEN}
            version += event["kind"] in CHANGES or turn != before
            if event["kind"] == "harness_changed":
                harnesses[event["harness_id"]] += 1
            elif event["kind"] == "status_changed":
                wanted.add((key.partition("/")[2], version))
        state = documents[key]["state"]
        if version != state["version"]:
            yield f"{key}: {version} changes, and the version is {state['version']}"
        for name, changes in harnesses.items():
            if state["harnesses"][name]["version"] != changes:
                yield f"{key}: {changes} changes of {name}, its version is {state['harnesses'][name]['version']}"
        if key.startswith("evaluation/") and wanted != announced[key]:
            yield f"{key}: status events do not match the changes: {sorted(wanted ^ announced[key])}"


def decided_once_in_log_order(evidence: Evidence) -> Iterator[str]:
    for key, records in _first_occurrences(evidence, "audit", _audit_identity):
        inputs = [record.json().get("input") or {} for record in records]
        offsets = [given["at"]["offset"] for given in inputs if given.get("kind") == "command"]
        yield from (f"{key}: record {b} was decided after {a}" for a, b in pairwise(offsets) if b <= a)
    refused = Counter(record.headers["ce_id"] for record in evidence.topic("audit") if not record.json()["audit_seq"])
    yield from (f"{name} was refused {count} times" for name, count in refused.items() if count > 1)
