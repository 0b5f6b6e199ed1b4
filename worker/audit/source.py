"""Where audit records come from: the log of a running stack, Kafka's or the embedded one, or a bundle.

Records of one aggregate stand in one partition, as their key decides it: so whoever reads partition by partition sees
each chain whole, in the order of its offsets.  Judges nothing: knows neither chains nor decisions.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from worker.audit import bundle
from worker.audit.checkpoints import seals
from worker.audit.verify_bundle import Lines, Seals
from worker.ports import DocumentStore, EventStream, Record, Topic
from worker.sealing import personal_key

Bounds = Mapping[int, tuple[int, int]]
"""By partition: the first offset, and the one after the last."""

PART_RECORDS = 200_000
"""About how many records a part may have."""


class Part(NamedTuple):
    """The chains of one partition, or where they are many, a share of them by the hash of their key.

    What is kept of chains while they are read is bounded by a part, and not by the log.
    """

    partition: int
    bounds: tuple[int, int]
    share: int
    shares: int

    def has(self, record: Record) -> bool:
        """Whether a record of the partition is of this share."""
        if self.shares == 1:
            return True
        return int.from_bytes(hashlib.sha256(record.key or b"").digest()[:4], "big") % self.shares == self.share


def parts(bounds: Bounds, part_records: int = PART_RECORDS) -> Iterator[Part]:
    """All of a log; of a partition that is empty, none."""
    for partition, (first, end) in sorted(bounds.items()):
        shares = -(-(end - first) // part_records)
        for share in range(shares):
            yield Part(partition, (first, end), share, shares)


async def of_part(source: "Source", part: Part) -> AsyncIterator[Record]:
    """A part's records, in order.  Raises Unavailable, Misconfigured."""
    async for record in source.records({part.partition: part.bounds}):
        if part.has(record):
            yield record


class Source(Protocol):
    """Audit records, and what they name by hash.  Everything raises Unavailable, of a bundle Misconfigured."""

    async def bounds(self) -> Bounds:
        """As they are now."""

    def records(self, bounds: Bounds) -> AsyncIterator[Record]:
        """Within these bounds, partition by partition, each in the order of its offsets; repetitions too."""

    async def payload(self, sha256: str) -> bytes | None:
        """What a record names by hash; its hash is for the caller to check."""

    async def personal(self, subject_sha256: str) -> bytes | None:
        """The key to a person's fields; None: erased, or not exported."""

    async def seals(self, keys: Iterable[bytes], *, cut: bool) -> Seals | None:
        """Checkpoints ready for every record; None: a part's bundle, whose proofs are its own script's to check.

        `cut`: heads were cut on purpose, each where a checkpoint ends.
        """


class Log:
    """The audit topic, and the store beside it."""

    def __init__(self, stream: EventStream, store: DocumentStore) -> None:
        self._stream, self._store = stream, store

    async def bounds(self) -> Bounds:
        return await self._stream.bounds(Topic.AUDIT)

    async def records(self, bounds: Bounds) -> AsyncIterator[Record]:
        async for record in bundle.in_order(self._stream, Topic.AUDIT, bounds):
            yield record

    async def payload(self, sha256: str) -> bytes | None:
        stored = await self._store.load(f"blobs/{sha256}")
        return stored.body if stored else None

    async def personal(self, subject_sha256: str) -> bytes | None:
        stored = await self._store.load(personal_key(subject_sha256))
        return stored.body if stored else None

    async def seals(self, keys: Iterable[bytes], *, cut: bool) -> Seals | None:
        return await seals(self._stream, keys, cut=cut)


class Bundle:
    """A folder that `worker audit export` wrote; its layout is described in bundle.py.  Raises Misconfigured."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifest = bundle.manifest(folder)

    async def bounds(self) -> Bounds:
        return {int(number): (at["begins"], at["ends"]) for number, at in self._manifest["partitions"].items()}

    async def records(self, bounds: Bounds) -> AsyncIterator[Record]:
        last = max(bounds, default=-1)
        for record in bundle.records(self._folder, "records"):
            if record.partition > last:
                break  # they stand in the order of partitions
            first, end = bounds.get(record.partition, (0, 0))
            if first <= record.offset < end:
                yield record

    async def payload(self, sha256: str) -> bytes | None:
        return self._read("blobs", sha256)

    async def personal(self, subject_sha256: str) -> bytes | None:
        return self._read("personal", subject_sha256)

    async def seals(self, keys: Iterable[bytes], *, cut: bool) -> Seals | None:
        if self._manifest["scope"] != "all":
            return None
        checkpoints = bundle.records(self._folder, "checkpoints")
        found = [(f"checkpoints {each.partition}:{each.offset}", each.value or b"") for each in checkpoints]
        return Seals(Lines(found, keys), {number: first * cut for number, (first, _) in (await self.bounds()).items()})

    def _read(self, kind: str, name: str) -> bytes | None:
        file = self._folder / kind / name
        return file.read_bytes() if file.is_file() else None
