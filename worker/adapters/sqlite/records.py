"""Topics as tables: appending and reading records, and the partitioner of Kafka's Java client."""

import json
import sqlite3
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from worker.adapters.sqlite.database import Database
from worker.ports import Headers, Outgoing, Record, Topic

FIELDS = 'partition, "offset", milliseconds, key, value, headers'


def murmur2(data: bytes) -> int:
    """As org.apache.kafka.common.utils.Utils.murmur2, unsigned."""
    length, m, mask = len(data), 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ length) & mask
    for i in range(0, length - length % 4, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k ^= k >> 24
        h = (h * m & mask) ^ (k * m & mask)
    rest = data[length - length % 4 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: `toPositive(murmur2(key)) % partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


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


def read(database: Database, topic: Topic, partition: int, start: int, limit: int) -> list[Record]:
    """Records from an offset on, at most so many."""
    sql = f'SELECT {FIELDS} FROM records WHERE topic = ? AND partition = ? AND "offset" >= ? LIMIT ?'  # noqa: S608  # constants
    return [
        Record(topic, row[0], row[1], datetime.fromtimestamp(row[2] / 1000, UTC), row[3], row[4], _unpack(row[5]))
        for row in database.read(sql, (topic.value, partition, start, limit))
    ]


def bounds(database: Database, topic: Topic) -> dict[int, tuple[int, int]]:
    """-> {partition: (first offset, end)} of every partition."""
    ends: dict[int, int] = dict(database.read('SELECT partition, "offset" FROM ends WHERE topic = ?', (topic.value,)))
    firsts: dict[int, int] = dict(
        database.read('SELECT partition, min("offset") FROM records WHERE topic = ? GROUP BY partition', (topic.value,))
    )
    return {p: (int(firsts.get(p, ends.get(p, 0))), int(ends.get(p, 0))) for p in range(database.partitions)}


def _pack(headers: Headers) -> bytes:
    return json.dumps([[name, value.decode("latin-1")] for name, value in headers]).encode()


def _unpack(raw: bytes) -> Headers:
    return tuple((name, value.encode("latin-1")) for name, value in json.loads(raw))
