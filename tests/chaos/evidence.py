"""What the checker looks at: what `gather` copied, read from its folder and not judged.

Standard library only; imports nothing of the product and no test code that does.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance import evidence

Record = evidence.Record
TOPICS = ("commands", "results", "status", "audit", "dead-letters")


@dataclass(slots=True)
class Evidence(evidence.Evidence):
    """As of the embedded stack, and Jobs and pods as the API server lists them in place of processes."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    pods: list[dict[str, Any]] = field(default_factory=list)

    def documents(self) -> dict[str, dict[str, Any]]:
        """-> {record key: document} of every aggregate; a creation's key is its harness."""
        found = {}
        for key, body in self.objects.items():
            kind, _, name = key.removesuffix(".json").partition("/")
            if kind not in ("workflows", "sessions", "orgs"):
                continue
            document = json.loads(body)
            harness = document["state"].get("harness_id") if kind == "workflows" else None
            singular = "evaluation" if kind == "workflows" else kind.removesuffix("s")
            found[f"custom-harness/{harness}" if harness else f"{singular}/{name}"] = document
        return found


def read(folder: Path) -> Evidence:
    """Raises FileNotFoundError where not all was gathered."""
    positions = json.loads((folder / "positions.json").read_text())
    cluster = json.loads((folder / "cluster.json").read_text())
    return Evidence(
        topics={topic: [_record(line) for line in _lines(folder / f"{topic}.jsonl")] for topic in TOPICS},
        objects={each["key"]: base64.b64decode(each["body"]) for each in _lines(folder / "objects.jsonl")},
        positions={each["partition"]: (each["offset"], each["metadata"]) for each in positions},
        ends={("commands", each["partition"]): each["end"] for each in positions},
        processes=[],
        jobs=cluster["jobs"],
        pods=cluster["pods"],
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as lines:
        yield from map(json.loads, lines)


def _record(line: dict[str, Any]) -> Record:
    value = base64.b64decode(line["value"])
    return Record(line["partition"], line["offset"], line["key"], value, line["headers"])
