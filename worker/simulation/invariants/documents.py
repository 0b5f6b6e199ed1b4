"""I2, I3, I4 and I15: what every version of a document has to be, and a verdict beside the document that holds it."""

import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from math import inf
from typing import Any

from worker.simulation.invariants.evidence import CLOCK_SECONDS, Violation
from worker.simulation.invariants.reading import (
    DOCUMENT_FOLDERS,
    TERMINAL,
    Json,
    Reading,
    Result,
    Version,
    aggregate_key,
)
from worker.simulation.invariants.references import blobs_of_document, blobs_of_record

RANKS = {"created": 0, "starting": 1, "running": 2, "cancelling": 3} | dict.fromkeys(TERMINAL, 4)
"""Of a workflow and of a turn: only a higher one follows, skipping is legal."""
HARNESS_RANKS = {"active": 0, "archived": 1, "deleted": 2}


def i2_counters(reading: Reading) -> Iterator[Violation]:
    """`revision` +1 per write, `audit_seq` +1 per decided input; none missing, none twice.

    A writer from outside (F25) keeps to the same rules, but for the input: revision +1, and another write id.
    """
    for key, versions in reading.by_aggregate.items():
        for before, after in pairwise(versions):
            who = f"the write of {after.process} at {after.seconds:.3f} s"
            if after.body["revision"] != before.body["revision"] + 1:
                text = f"{who} makes revision {after.body['revision']} of revision {before.body['revision']}"
                yield Violation("I2", key, text)
            if after.body["write_id"] == before.body["write_id"]:
                yield Violation("I2", key, f"{who} has the write id of the one before")
            yield from _sequence(key, who, before, after)
        yield from _decided_once(reading, key)


def _sequence(key: str, who: str, before: Version, after: Version) -> Iterator[Violation]:
    """The audit records that a write adds to the outbox are those of the sequence numbers that it takes."""
    first, last = before.body["chain"]["audit_seq"], after.body["chain"]["audit_seq"]
    entries = [entry["audit_seq"] for entry in after.body["outbox"] if entry["topic"] == "audit"]
    added = [sequence for sequence in entries if sequence > first]
    if added != list(range(first + 1, last + 1)):
        yield Violation("I2", key, f"{who} goes from audit_seq {first} to {last}, with records {added}")
    if after.body["state"] != before.body["state"] and first == last:
        yield Violation("I2", key, f"{who} changes the state without a decided input")


def _decided_once(reading: Reading, key: str) -> Iterator[Violation]:
    """A command is decided again only after it has failed, in another record."""
    decided: dict[tuple[str, str], int] = {}
    records: set[tuple[int, int]] = set()
    for sequence, record in sorted(reading.chains.get(key, {}).items()):
        given = reading.part(record.body.get("input"))
        if given is not None and given["kind"] == "command":
            name, at = (given["id"], given["fingerprint"]), (given["at"]["partition"], given["at"]["offset"])
            if name in decided or at in records:
                earlier = decided.get(name, "earlier")
                yield Violation("I2", key, f"command {given['id']} is decided at {sequence}, and at {earlier}", at)
            decided[name] = sequence
            records.add(at)
        for event in reading.part(record.body["events"]):
            if event["kind"] == "failed":
                decided = {name: at for name, at in decided.items() if name[0] != event["entry"]["id"]}


# ------------------------------------------------------------------------------ I3


def i3_terminal(reading: Reading) -> Iterator[Violation]:
    """Terminal statuses absorb, and nothing else goes back; one terminal status event per workflow and turn."""
    for key, versions in reading.by_aggregate.items():
        for before, after in pairwise(versions):
            for subject, old, new in _changes(before.state, after.state):
                if not _may_follow(subject, old, new):
                    text = f"{subject} goes from {old} to {new}, by {after.process} at {after.seconds:.3f} s"
                    yield Violation("I3", key, text)
    for key, events in reading.status_events.items():
        ended: dict[str, Json] = {}
        for event in events:
            body = event.body
            subject = f"{body['subject']} {body['subject_id']}"
            if body["subject"] in ("workflow", "turn") and body["after"] in TERMINAL:
                first = ended.setdefault(subject, body)
                if first["version"] != body["version"]:
                    text = f"{subject} is {first['after']} at version {first['version']}, and {body['after']} again"
                    yield Violation("I3", key, text)


def _changes(before: Json, after: Json) -> Iterator[tuple[str, Any, Any]]:
    """(subject, status before, after) of whatever is in both."""
    yield "version", before["version"], after["version"]
    match after["kind"]:
        case "workflow":
            yield "workflow", before["status"], after["status"]
        case "session":
            yield "session", before["status"], after["status"]
            old, new = before["turn"], after["turn"]
            if old is not None:
                yield "turn number", old["number"], new["number"] if new else 0
                if new and new["number"] == old["number"]:
                    yield "turn id", old["turn_id"], new["turn_id"]
                    yield "turn", old["status"], new["status"]
        case _:
            for harness_id, entry in before["harnesses"].items():
                now = after["harnesses"].get(harness_id)
                yield f"harness {harness_id}", entry["status"], now["status"] if now else None


def _may_follow(subject: str, old: Any, new: Any) -> bool:
    if old == new:
        return True
    match subject:
        case "workflow" | "turn":
            return RANKS[new] > RANKS[old]
        case "version" | "turn number":
            return bool(new > old)
        case "turn id":
            return False
        case "session":
            return bool(old == "open")
        case _:
            return new is not None and HARNESS_RANKS[new] > HARNESS_RANKS[old]


# ------------------------------------------------------------------------------ I4


def i4_verdicts_stored(reading: Reading) -> Iterator[Violation]:
    """A 2xx verdict equals what the store holds: its bytes stand in the write that decided it, and are true of it."""
    stored = _stored(reading)
    for at, results in reading.results.items():
        for result in results:
            if not result.applied:
                continue
            first = (result.verdict["command"]["at"]["partition"], result.verdict["command"]["at"]["offset"])
            found = stored.get((result.key, first))
            if found is None:
                yield Violation("I4", result.key, f"a verdict {result.verdict['code']} that no document holds", at)
                continue
            kept, before, after = found
            if kept != result.value:
                yield Violation("I4", result.key, "the document holds other bytes than the verdict", at)
            if text := _untrue(reading, result, before.state, after.state):
                yield Violation("I4", result.key, text, at)


def i4_verdicts_published(reading: Reading) -> Iterator[Violation]:
    """A verdict that a document holds is the one that its record got: what was refused is never applied as well.

    A failure may be answered as another record of the same command was, which had been decided anew meanwhile.
    """
    for (key, at), (kept, _, after) in _stored(reading).items():
        for result in reading.results.get(at, ()):
            if result.value != kept and not (result.failed and json.loads(kept)["outcome"] == "failed"):
                text = f"the record got {result.verdict['code']}, and the document another verdict"
                yield Violation("I4", key, f"{text}, by {after.process} at {after.seconds:.3f} s", at)


def _stored(reading: Reading) -> dict[tuple[str, tuple[int, int]], tuple[bytes, Version, Version]]:
    """By aggregate and coordinates: a verdict's bytes where they first stand, the version before, that version."""
    found: dict[tuple[str, tuple[int, int]], tuple[bytes, Version, Version]] = {}
    for key, versions in reading.by_aggregate.items():
        for before, after in pairwise(versions):
            for name, kept in after.body["verdicts"].items():
                if name in before.body["verdicts"]:
                    continue
                partition, _, offset = name.partition(":")
                at = (int(partition), int(offset))
                value = kept.encode() if isinstance(kept, str) else reading.evidence.objects[f"blobs/{kept['sha256']}"]
                found.setdefault((key, at), (value, before, after))
    return found


def _untrue(reading: Reading, result: Result, before: Json, after: Json) -> str | None:
    """What a verdict says of version and status, beside the documents around its decision."""
    about = result.verdict["aggregate"]
    if about["type"] == "harness":
        before, after = (state["harnesses"].get(about["id"]) for state in (before, after))
        if not before or not after:
            return "a verdict on a harness that the directory does not hold"
        if about["version"] == after["version"] and (text := _other_harness(reading, result, after)):
            return text
    if not before["version"] <= about["version"] <= after["version"]:
        return f"a verdict at version {about['version']}, decided from {before['version']} to {after['version']}"
    held = after if about["version"] == after["version"] else before if about["version"] == before["version"] else None
    if held is not None and about["status_after"] not in _words(held):
        return f"a verdict says {about['status_after']}, the document {' or '.join(_words(held))}"
    return None


def _words(held: Json) -> list[str]:
    """What a verdict may call the status: of a session with a turn, the turn's, or (where it was closed) its own."""
    turn = held.get("turn")
    return [held["status"], turn["status"]] if turn else [held["status"]]


def _other_harness(reading: Reading, result: Result, entry: Json) -> str | None:
    harness = result.verdict.get("harness")
    body = reading.evidence.objects[f"blobs/{entry['body']}"]
    if hashlib.sha256(body).hexdigest() != entry["body"]:
        return f"the blob {entry['body']} holds other bytes"
    if _without_nulls(reading.part(harness)) != _without_nulls(reading.part({"sha256": entry["body"], "bytes": 0})):
        return "the verdict carries another harness than the directory names"
    return None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def i4_blobs(reading: Reading) -> Iterator[Violation]:
    """A blob is in the store before a document or record names it (design, must 8)."""
    stored = dict.fromkeys(reading.evidence.objects_before, (0.0, -1))
    for place, write in enumerate(reading.evidence.writes):
        if write.key.startswith("blobs/") and write.body is not None:
            stored.setdefault(write.key, (write.seconds, place))
    for place, write in enumerate(reading.evidence.writes):
        if write.key.startswith(DOCUMENT_FOLDERS) and write.body is not None:
            document: Json = json.loads(write.body)
            for blob in blobs_of_document(document):
                if stored.get(blob, (inf, inf))[1] > place:
                    text = (
                        f"the document names {blob}, which is not stored, by {write.process} at {write.seconds:.3f} s"
                    )
                    yield Violation("I4", aggregate_key(document["state"]), text)
    for topic, records in reading.evidence.topics.items():
        for record in (record for partition in records for record in partition):
            for blob in blobs_of_record(topic, record):
                if stored.get(blob, (inf, inf))[0] > record.seconds + CLOCK_SECONDS:
                    text = f"a record of {topic} names {blob}, which is not stored, at {record.seconds:.3f} s"
                    yield Violation("I4", (record.key or b"").decode("utf-8", "replace"), text)


# ------------------------------------------------------------------------------ I15


def i15_directories(reading: Reading) -> Iterator[Violation]:
    """Two harnesses of one org never hold one name; no cycle of parents."""
    for key, versions in reading.by_aggregate.items():
        if not key.startswith("org/"):
            continue
        for version in versions:
            harnesses = version.state["harnesses"]
            when = f"by {version.process} at {version.seconds:.3f} s"
            names: dict[str, str] = {}
            for harness_id, entry in harnesses.items():
                if entry["status"] != "deleted" and names.setdefault(entry["name"], harness_id) != harness_id:
                    other = names[entry["name"]]
                    yield Violation("I15", key, f"{harness_id} and {other} hold the name {entry['name']}, {when}")
                if _in_cycle(harnesses, harness_id):
                    yield Violation("I15", key, f"{harness_id} is among its own parents, {when}")


def _in_cycle(harnesses: Json, harness_id: str) -> bool:
    seen: list[str] = []
    parent = harnesses[harness_id]["parent"]
    while parent is not None and parent not in seen:
        if parent == harness_id:
            return True
        seen.append(parent)
        parent = harnesses.get(parent, {}).get("parent")
    return False
