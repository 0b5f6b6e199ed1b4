"""What the checker looks at: every row of the SQLite file and every process of this machine, read and not judged.

Standard library only; imports nothing of the product and no test code that does.
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

EVALUATION_MARKER = b"VERDICT_WORKER_EVALUATION_ID="
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic."""

    partition: int
    offset: int
    key: str
    value: bytes
    headers: dict[str, str]

    @property
    def at(self) -> tuple[int, int]:
        return self.partition, self.offset

    def json(self) -> Any:
        return json.loads(self.value)


class Process(NamedTuple):
    """A live process (an unreaped zombie is none), by pid and start time; `evaluation` is its marker."""

    pid: int
    started: int
    evaluation: str | None


@dataclass(slots=True)
class Evidence:
    """Topics by name in (partition, offset) order, objects by key, positions by partition, processes."""

    topics: dict[str, list[Record]]
    objects: dict[str, bytes]
    positions: dict[int, tuple[int | None, str]]
    ends: dict[tuple[str, int], int]
    processes: list[Process]

    def topic(self, name: str) -> list[Record]:
        return self.topics.get(name, [])

    def documents(self) -> dict[str, dict[str, Any]]:
        """-> {record key: document} of every aggregate."""
        kinds = {"workflows/": "evaluation", "sessions/": "session", "orgs/": "org"}
        found = {}
        for key, body in self.objects.items():
            for prefix, kind in kinds.items():
                if key.startswith(prefix):
                    found[f"{kind}/{key.removeprefix(prefix).removesuffix('.json')}"] = json.loads(body)
        return found


def answered_at(record: Record, prefix: str = "verdict") -> tuple[int, int]:
    """The coordinates of the command record that a result (or a dead letter) is about."""
    return int(record.headers[f"{prefix}-partition"]), int(record.headers[f"{prefix}-offset"])


def read(path: Path) -> Evidence:
    """The file as it is committed, opened for reading only; the processes as they are now."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        topics: dict[str, list[Record]] = {}
        rows = connection.execute(
            'SELECT topic, partition, "offset", key, value, headers FROM records ORDER BY topic, partition, "offset"'
        )
        for topic, partition, offset, key, value, headers in rows:
            names = {name.lower(): text for name, text in json.loads(headers)}
            record = Record(partition, offset, (key or b"").decode(), value or b"", names)
            topics.setdefault(topic, []).append(record)
        positions = connection.execute('SELECT partition, "offset", metadata FROM positions').fetchall()
        ends = connection.execute('SELECT topic, partition, "offset" FROM ends').fetchall()
        objects = dict(connection.execute("SELECT key, body FROM objects").fetchall())
    finally:
        connection.close()
    return Evidence(
        topics=topics,
        objects=objects,
        positions={partition: (offset, metadata) for partition, offset, metadata in positions},
        ends={(topic, partition): offset for topic, partition, offset in ends},
        processes=list(processes()),
    )


def processes() -> Iterator[Process]:
    """All live processes that we may look at."""
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if fields[0] not in (b"Z", b"X"):
            marks = [entry for entry in environment if entry.startswith(EVALUATION_MARKER)]
            evaluation = marks[0].removeprefix(EVALUATION_MARKER).decode() if marks else None
            yield Process(int(folder.name), int(fields[19]), evaluation)
