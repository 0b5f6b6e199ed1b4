"""Which blobs a document or a published record names, by object key.  Knows the published formats, reads no blob."""

import json
from collections.abc import Iterator
from typing import Any

from worker.simulation.invariants.evidence import Published

Json = dict[str, Any]
REFERENCE = {"sha256", "bytes"}
PARTS = ("input", "events", "found")
"""Of an audit record: what travels as reference where it is large."""


def blobs_of_document(document: Json) -> Iterator[str]:
    """Of verdicts that it keeps, and of harnesses."""
    yield from _referred(document.get("verdicts", {}).values())
    for entry in document["state"].get("harnesses", {}).values():
        yield f"blobs/{entry['body']}"


def blobs_of_record(topic: str, record: Published) -> Iterator[str]:
    """What it is a reference to, and what an audit record needs to be decided again.  A command may say anything."""
    if topic == "commands":
        return
    yield from (value.decode() for name, value in record.headers if name == "ce_dataref")
    if topic == "audit":
        body = json.loads(record.value or b"")
        yield from _referred(body.get(part) for part in PARTS)
        if settings := body.get("context", {}).get("settings_sha256"):
            yield f"blobs/{settings}"


def _referred(values: Any) -> Iterator[str]:
    return (f"blobs/{value['sha256']}" for value in values if isinstance(value, dict) and value.keys() == REFERENCE)
