"""I6, I10 and I14: what the audit and status topics tell, in which order, and whether it is the whole story."""

import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from math import inf

from worker.simulation.invariants.evidence import Violation
from worker.simulation.invariants.reading import Audited, Json, Reading, Version


def i6_log_order(reading: Reading) -> Iterator[Violation]:
    """Decisions of an aggregate follow the order of its records in a partition, refusals among them.

    Where a refusal was decided is told by the hash of the state that it was decided on.  A record that repeats a
    command which was decided before has no place of its own: it waits for that one's verdict, and where that is a
    failure, which nobody remembers beyond its own record, a takeover in between decides it anew (contract, section 2).
    """
    for key, chain in reading.chains.items():
        decided: dict[int, list[tuple[int, int]]] = {}
        ids: dict[str, None] = {}
        for sequence in sorted(chain):
            given = reading.part(chain[sequence].body.get("input"))
            if given is None or given["kind"] != "command":
                continue
            if given["id"] in ids:
                continue
            ids[given["id"]] = None
            partition, offset = given["at"]["partition"], given["at"]["offset"]
            before = decided.setdefault(partition, [])
            if before and before[-1][1] > offset:
                text = f"decided at {sequence}, after the later record {partition}:{before[-1][1]}"
                yield Violation("I6", key, text, (partition, offset))
            before.append((sequence, offset))
        for record in reading.audit[key]:
            if record.body["kind"] == "refused" and reading.part(record.body["input"])["id"] not in ids:
                yield from _refused_in_order(reading, key, record.body, chain, decided)


def _refused_in_order(
    reading: Reading, key: str, refusal: Json, chain: dict[int, Audited], decided: dict[int, list[tuple[int, int]]]
) -> Iterator[Violation]:
    given = reading.part(refusal["input"])
    partition, offset = given["at"]["partition"], given["at"]["offset"]
    decided_on = refusal.get("state_before_sha256")
    if decided_on is None:
        return  # there was no document
    places = [sequence for sequence, record in chain.items() if record.body["state_after_sha256"] == decided_on]
    if not places and refusal.get("found") is None:
        if reading.evidence.at_rest:
            yield Violation("I6", key, "refused on a state that no audit record knows", (partition, offset))
        return
    earliest, latest = (min(places), max(places)) if places else (0, 0)
    for sequence, other in decided.get(partition, ()):
        if other < offset and sequence > latest:
            text = f"refused before the earlier record {partition}:{other} was decided"
            yield Violation("I6", key, text, (partition, offset))
        if other > offset and sequence <= earliest:
            text = f"refused after the later record {partition}:{other} was decided"
            yield Violation("I6", key, text, (partition, offset))


def i6_fresh_refusals(reading: Reading) -> Iterator[Violation]:
    """A refusal is decided on a document that was read after its command was sent (design, must 9)."""
    sent = {
        (partition, record.offset): record.seconds
        for partition, records in enumerate(reading.evidence.topics["commands"])
        for record in records
    }
    for key, versions in reading.by_aggregate.items():
        replaced = _replaced(versions)
        for record in reading.audit.get(key, ()):
            until = replaced.get(record.body.get("state_before_sha256"), inf)
            if record.body["kind"] != "refused" or until == inf:
                continue
            given = reading.part(record.body["input"])
            at = (given["at"]["partition"], given["at"]["offset"])
            if until < sent[at]:
                text = f"sent at {sent[at]:.3f} s, and refused on what was replaced at {until:.3f} s"
                yield Violation("I6", key, text, at)


def _replaced(versions: list[Version]) -> dict[str | None, float]:
    """By the hash of a state: when it was replaced for the last time."""
    found: dict[str | None, float] = {versions[-1].body["chain"]["state_sha256"]: inf}
    for before, after in pairwise(versions):
        head = before.body["chain"]["state_sha256"] or digest(before.state)
        found[head] = max(after.seconds, found.get(head, 0.0))
    return found


# ------------------------------------------------------------------------------ I10


def i10_chains(reading: Reading) -> Iterator[Violation]:
    """Chains verify, first occurrences come in order, repetitions are byte for byte; of status events as well."""
    for key, records in reading.audit.items():
        yield from _chain(key, records)
    for key, versions in reading.by_aggregate.items():
        yield from _status_events(reading, key)
        if reading.evidence.at_rest:
            yield from _everything_is_out(reading, key, versions[-1])


def _chain(key: str, records: list[Audited]) -> Iterator[Violation]:
    """From 1 on, each with the hash of the bytes of the one before."""
    first: dict[int, Audited] = {}
    for record in records:
        if record.body["kind"] == "refused":
            continue
        sequence = record.body["audit_seq"]
        if (known := first.get(sequence)) is not None:
            if known.value != record.value:
                yield Violation("I10", key, f"audit record {sequence} is published again with other bytes")
            continue
        if sequence != len(first) + 1:
            yield Violation("I10", key, f"audit record {sequence} comes where {len(first) + 1} was expected")
        first[sequence] = record
        before = first.get(sequence - 1)
        expected = hashlib.sha256(before.value).hexdigest() if before else None
        if record.body.get("previous_sha256") != expected and (before or sequence == 1):
            yield Violation("I10", key, f"audit record {sequence} does not hold the hash of the one before")


def _status_events(reading: Reading, key: str) -> Iterator[Violation]:
    """(subject, version) identifies one; each begins where the one before has ended."""
    first: dict[tuple[str, str, int], bytes] = {}
    last: dict[tuple[str, str], Json] = {}
    for event in reading.status_events.get(key, ()):
        body = event.body
        # A harness has versions of its own; workflow, session and turn have their aggregate's.
        line = (body["subject"], body["subject_id"]) if body["subject"] == "harness" else ("", "")
        subject = f"{body['subject']} {body['subject_id']}"
        name = (*line, body["version"])
        if name in first:
            if first[name] != event.value:
                text = f"the status event of {subject} at version {body['version']} comes again with other bytes"
                yield Violation("I10", key, text)
            continue
        first[name] = event.value
        before = last.get(line)
        if before is not None and before["version"] > body["version"]:
            yield Violation("I10", key, f"{subject}: version {body['version']} after {before['version']}")
        last[line] = body
    yield from _contiguous(reading, key)


def _contiguous(reading: Reading, key: str) -> Iterator[Violation]:
    """Each change of a subject begins where the one before has ended."""
    events = {(e.body["subject"], e.body["subject_id"], e.body["version"]): e.body for e in reading.status_events[key]}
    for before, after in pairwise(sorted(events)):
        if before[:2] == after[:2] and events[before]["after"] != events[after]["before"]:
            said = f"from {events[after]['before']}, where it was {events[before]['after']}"
            yield Violation("I10", key, f"{after[0]} {after[1]} changes at version {after[2]} {said}")


def _everything_is_out(reading: Reading, key: str, last: Version) -> Iterator[Violation]:
    """What the document says of its chain, and what its outbox still holds, is published."""
    chain, head = reading.chains.get(key, {}), last.body["chain"]
    if max(chain, default=0) != head["audit_seq"]:
        text = f"{max(chain, default=0)} audit records are published, the document has {head['audit_seq']}"
        yield Violation("I10", key, text)
    published = {record.value for record in chain.values()}
    published |= {event.value for event in reading.status_events.get(key, ())}
    for entry in last.body["outbox"]:
        if entry["body"].encode() not in published:
            yield Violation("I10", key, f"{entry['topic']} {entry['id']} is not published as the outbox holds it")


def i10_outbox_first(reading: Reading) -> Iterator[Violation]:
    """What a refusal was decided on is published before it, or in its transaction (design, must 4)."""
    transactions = {
        (partition, offset): number
        for number, transaction in enumerate(reading.evidence.transactions)
        for topic, partition, offset in transaction.records
        if topic == "audit"
    }
    for key, records in reading.audit.items():
        left: dict[str, float] = {}
        for record in records:
            if record.body["kind"] == "decided":  # what was adopted was there before, and is in its refusals' records
                state, number = record.body["state_after_sha256"], transactions.get(record.at, -1)
                left[state] = min(number, left.get(state, inf))
        for record in records:
            decided_on = record.body.get("state_before_sha256", "")
            if record.body["kind"] == "refused" and left.get(decided_on, -1) > transactions.get(record.at, inf):
                given = reading.part(record.body["input"])
                at = (given["at"]["partition"], given["at"]["offset"])
                yield Violation("I10", key, "a refusal is published before the state that it was decided on", at)


# ------------------------------------------------------------------------------ I14


def i14_rebuild(reading: Reading) -> Iterator[Violation]:
    """Each audit record begins with the state that the one before has left; the last one left what the store holds.

    And so does what the worker's own rebuild makes of them.
    """
    for key, chain in reading.chains.items():
        for (_, before), (sequence, after) in pairwise(sorted(chain.items())):
            if after.body.get("state_before_sha256") != before.body["state_after_sha256"]:
                yield Violation(
                    "I14", key, f"audit record {sequence} begins with another state than {sequence - 1} left"
                )
    if not reading.evidence.at_rest:
        return
    for key, versions in reading.by_aggregate.items():
        body, chain = versions[-1].body, reading.chains.get(key, {})
        if not body["chain"]["audit_seq"]:
            continue  # nobody has decided anything on it
        left = chain[max(chain)].body["state_after_sha256"] if chain else None
        if left != body["chain"]["state_sha256"]:
            yield Violation("I14", key, "the last audit record left another state than the document's chain says")
        if body["chain"]["state_sha256"] != digest(body["state"]):
            yield Violation("I14", key, "the document's state is not the one that its chain says")
        if reading.evidence.rebuilt.get(key, left) != left:
            yield Violation("I14", key, "its events, folded, give another state than the last audit record left")


def digest(state: Json) -> str:
    """SHA-256 of a state: its JSON as stored, without the answered commands, and the hash of each of those."""
    entries = b"".join(hashlib.sha256(_json(entry)).digest() for entry in state["answered"])
    return hashlib.sha256(_json(state | {"answered": []}) + b"\n" + entries).hexdigest()


def _json(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
