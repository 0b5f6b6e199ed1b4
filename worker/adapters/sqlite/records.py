"""Topics as tables: appending and reading records, and where a topic begins and ends."""

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime

from pydantic_core import from_json, to_json

from worker.adapters.sqlite.database import Database
from worker.partitioner import partition_of
from worker.ports import Headers, Outgoing, Record, Topic

READ_BYTES_MAX = 32 * 1024 * 1024
READ = """
SELECT "offset", milliseconds, key, value, headers FROM records
WHERE topic = ? AND partition = ? AND "offset" >= ? AND "offset" < ? ORDER BY "offset" LIMIT ?
"""
BOUNDS = """
SELECT partition, "offset",
    (SELECT min("offset") FROM records WHERE records.topic = ends.topic AND records.partition = ends.partition)
FROM ends WHERE topic = ?
"""
NO_END = 2**63 - 1


def append(connection: sqlite3.Connection, records: Iterable[Outgoing], partitions: int) -> list[tuple[int, int]]:
    """Append in order; -> (partition, offset) each."""
    now = time.time_ns() // 1_000_000
    ends: dict[tuple[str, int], int] = {}
    places, rows = [], []
    for record in records:
        where = (record.topic.value, partition_of(record.key, partitions))
        if where not in ends:
            found = connection.execute('SELECT "offset" FROM ends WHERE topic = ? AND partition = ?', where).fetchone()
            ends[where] = found[0] if found else 0
        rows.append((*where, ends[where], now, record.key, record.value, _pack(record.headers)))
        places.append((where[1], ends[where]))
        ends[where] += 1
    connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.executemany("INSERT OR REPLACE INTO ends VALUES (?, ?, ?)", [(*w, end) for w, end in ends.items()])
    return places


def restore(connection: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Put records where they stood in another log; in offset order per partition, none of which is there."""
    ends: dict[tuple[str, int], int] = {}
    rows = []
    for record in records:
        where, milliseconds = (record.topic.value, record.partition), round(record.timestamp.timestamp() * 1000)
        rows.append((*where, record.offset, milliseconds, record.key, record.value, _pack(record.headers)))
        ends[where] = record.offset + 1
    connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.executemany("INSERT OR REPLACE INTO ends VALUES (?, ?, ?)", [(*w, end) for w, end in ends.items()])


def read(
    database: Database, topic: Topic, partition: int, start: int, records_max: int, *, end: int = NO_END
) -> list[Record]:
    """Records from offset `start` to before `end`, at most so many, and none after the one that passes 32 MiB."""
    found: list[Record] = []
    size = 0
    with closing(database.rows(READ, (topic.value, partition, start, end, records_max))) as rows:
        for offset, milliseconds, key, value, headers in rows:
            at = datetime.fromtimestamp(milliseconds / 1000, UTC)
            found.append(Record(topic, partition, offset, at, key, value, _unpack(headers)))
            size += len(value or b"")
            if size >= READ_BYTES_MAX:
                break
    return found


def bounds(database: Database, topic: Topic) -> dict[int, tuple[int, int]]:
    """-> {partition: (first offset, end)} of every partition."""
    known = {partition: (first, end) for partition, end, first in database.read(BOUNDS, (topic.value,))}
    return {partition: _bound(*known.get(partition, (None, 0))) for partition in range(database.partitions)}


def _bound(first: int | None, end: int) -> tuple[int, int]:
    return (end if first is None else first), end


def _pack(headers: Headers) -> bytes:
    """JSON: any byte is one character of latin-1."""
    return to_json([(name, value.decode("latin-1")) for name, value in headers])


def _unpack(raw: bytes) -> Headers:
    return tuple([(name, value.encode("latin-1")) for name, value in from_json(raw)])
