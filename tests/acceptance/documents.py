"""The checker's rules on what the store and the log hold at rest: documents, memories, markers, positions.

Standard library only; imports nothing of the product and no test code that knows it.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tests.acceptance.evidence import Evidence, answered_at


def verdicts_and_documents_agree(evidence: Evidence) -> Iterator[str]:
    documents, told = evidence.documents(), _told(evidence)
    for result in evidence.topic("results"):
        verdict, document = result.json(), documents.get(result.key)
        about = verdict.get("aggregate")
        if about is None or document is None:
            continue
        state, where = document["state"], f"{result.key}: verdict {answered_at(result)} ({verdict['code']})"
        if about["type"] == "harness":
            state = state["harnesses"][about["id"]]
            if about["version"] == state["version"] and verdict.get("harness") != _body(evidence, state["body"]):
                yield f"{where} carries another harness than the store holds"
        elif about["status_after"] not in _statuses_at(told[result.key], about):
            yield f"{where} says {about['status_after']}, the status events something else"
        if about["version"] > state["version"]:
            yield f"{where} speaks of version {about['version']}, the document of {state['version']}"
        ends = about["type"] != "session"  # which goes on after a turn
        if ends and verdict["code"] in ("cancelled", "already_terminal") and state["status"] != about["status_after"]:
            yield f"{where} says {about['status_after']}, the document {state['status']}"


def _body(evidence: Evidence, sha256: str) -> dict[str, Any]:
    """A harness as stored, without its absent fields, as a verdict carries it."""
    return {name: value for name, value in json.loads(evidence.objects[f"blobs/{sha256}"]).items() if value is not None}


def _told(evidence: Evidence) -> dict[str, list[Any]]:
    """-> {record key: status events}."""
    told: dict[str, list[Any]] = defaultdict(list)
    for record in evidence.topic("status"):
        told[record.key].append(record.json())
    return told


def _statuses_at(told: list[Any], about: dict[str, Any]) -> set[str]:
    """The statuses at a verdict's version by the events: a workflow's; of a session its own and its turn's.

    Before the first event of a subject nothing was told: then it is what the verdict found.
    """
    last = {"session": "open"} if about["type"] == "session" else {"workflow": about["status_before"]}
    for event in sorted(told, key=lambda event: event["version"]):
        if event["version"] <= about["version"]:
            last[event["subject"]] = event["after"]
    return set(last.values())


def memory_holds_what_was_published(evidence: Evidence) -> Iterator[str]:
    """Each applied command is remembered with its bytes (no aggregate here has more than the memory holds)."""
    remembered: set[tuple[str, str]] = set()
    results = {answered_at(result): result for result in evidence.topic("results")}
    for key, document in evidence.documents().items():
        for entry in document["state"].get("answered", ()):
            at = (entry["at"]["partition"], entry["at"]["offset"])
            remembered.add((key, entry["id"]))
            kept = document["verdicts"].get(f"{at[0]}:{at[1]}")
            body = evidence.objects[f"blobs/{kept['sha256']}"] if isinstance(kept, dict) else (kept or "").encode()
            if at not in results or results[at].value != body:
                yield f"{key}: the document remembers another verdict for {at} than was published"
    for result in results.values():
        verdict = result.json()
        applied = verdict["http_status"] < 300 and not verdict.get("dry_run")
        if applied and (result.key, verdict["command"]["id"]) not in remembered:
            yield f"{result.key}: applied command {verdict['command']['id']} is not remembered"


def nothing_is_left_open(evidence: Evidence) -> Iterator[str]:
    published = {(name, record.value) for name in ("status", "audit") for record in evidence.topic(name)}
    for key, document in evidence.documents().items():
        state = document["state"]
        yield from (f"{key}: command {command['id']} is still open" for command in state.get("open", ()))
        for entry in document.get("outbox", ()):
            if (entry["topic"], entry["body"].encode()) not in published:
                yield f"{key}: {entry['id']} stands in the outbox and was never published"
        markers = {name for name in evidence.objects if name.startswith(f"unsettled/{key}/")}
        if markers != {f"unsettled/{key}/{marker['audit_seq']}" for marker in state.get("unsettled", ())}:
            yield f"{key}: markers and document disagree: {sorted(markers)}"


def positions_at_the_end(evidence: Evidence) -> Iterator[str]:
    for (topic, partition), end in evidence.ends.items():
        if topic != "commands":
            continue
        offset, metadata = evidence.positions.get(partition, (None, ""))
        numbers = _varints(metadata)
        if numbers is None or len(numbers) < 2 or len(numbers) != numbers[1] + 2:
            yield f"partition {partition}: the position's metadata {metadata!r} cannot be decoded"
        elif offset != end or numbers[:2] != [0, 0]:
            yield f"partition {partition}: position {offset} with {numbers[1]} unfinished, the log ends at {end}"


def _varints(metadata: str) -> list[int] | None:
    """`1:` + base64url of varints: highest finished - position, count, deltas."""
    try:
        raw = base64.urlsafe_b64decode(metadata.removeprefix("1:") + "=" * (-len(metadata.removeprefix("1:")) % 4))
    except ValueError:
        return None
    numbers, value, shift = [], 0, 0
    for byte in raw:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    return numbers if metadata.startswith("1:") and not shift else None
