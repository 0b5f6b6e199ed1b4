"""Bundles: the audit log, or the part of one team or aggregate, as a folder that can be verified without us.

    manifest.json         what it is: scope, when, by which build; where each partition begins and ends; hashes of files
    records.ndjson        {partition, offset, timestamp, key, headers, value}: value is the record's bytes as text (else
                          value_base64), by partition and offset
    checkpoints.ndjson    the same of the topic of checkpoints, all of them
    proofs.ndjson         of a part: {partition, offset, checkpoint, place, path}, that the record is under that root
    keys/{id}.pem         public keys that checkpoints were signed with
    blobs/{sha256}        payloads that records name
    personal/{sha256}     keys to personal fields, of persons who were asked for; nobody else's can be read
    verify_bundle.py      verifies all that, alone

Records stand as they were published, repetitions too, personal fields encrypted: so chains and roots stay whole.
Knows the ports, and not where bundles go.
"""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from schemas.base import time_text, to_milliseconds
from worker.audit import verify_bundle
from worker.audit.checkpoints import lines
from worker.audit.verify_bundle import Lines, Made, payloads
from worker.errors import Misconfigured
from worker.merkle import Distinct, path
from worker.ports import DocumentStore, EventStream, Record, Topic
from worker.sealing import personal_key
from worker.signing import public_pem

FORMAT = 1
SCRIPT = Path(verify_bundle.__file__)


class Scope(NamedTuple):
    """What is exported: all of it, or the part of a team or an aggregate; at most one of the two is named."""

    team: str | None = None
    aggregate: str | None = None

    def __str__(self) -> str:
        return self.aggregate or (f"team/{self.team}" if self.team else "all")


@dataclass
class Exported:
    """What went into a bundle."""

    scope: str
    records: int = 0
    checkpoints: int = 0
    unsealed: int = 0
    """Records of a part that no checkpoint covers yet."""
    unknown: set[str] = field(default_factory=set)
    """Aggregates whose beginning was cut off the log, so that nothing says whose they are; of a team's bundle only."""
    missing: list[str] = field(default_factory=list)
    """Payloads that records name and the store does not have."""


class Export:
    """Writes one bundle; `folder` must not exist or be empty."""

    def __init__(self, stream: EventStream, store: DocumentStore, folder: Path, scope: Scope) -> None:
        self._stream, self._store, self._folder, self._scope = stream, store, folder, scope
        self._ours: dict[str, bool] = {}
        self._blobs: set[str] = set()
        self.done = Exported(str(scope))

    async def write(self, keys: Iterable[bytes], subjects: Iterable[str], *, build: str, now: datetime) -> Exported:
        """All of it.  Raises Misconfigured (the folder is not empty, a subject has no key), Unavailable, Refused."""
        personal = {name: await self._personal(subject) for subject in subjects for name in [_subject(subject)]}
        self._make_folder()
        for name, key in personal.items():
            (self._folder / "personal" / name).write_bytes(key)
        judged = await lines(self._stream, keys)
        for key_id, public in judged.keys.items():
            (self._folder / "keys" / f"{key_id}.pem").write_bytes(public_pem(public))
        bounds = await self._stream.bounds(Topic.AUDIT)
        await self._checkpoints()
        await self._records(judged, bounds)
        manifest = {
            "format": FORMAT,
            "scope": str(self._scope),
            "made_at": time_text(to_milliseconds(now)),
            "build": build,
            "partitions": {str(number): {"begins": first, "ends": end} for number, (first, end) in bounds.items()},
            "files": {path.name: _file_sha256(path) for path in sorted(self._folder.glob("*.ndjson"))},
        }
        (self._folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
        return self.done

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if any(self._folder.iterdir()):
                raise Misconfigured(f"{self._folder} is not empty")
            for name in ("keys", "blobs", "personal"):
                (self._folder / name).mkdir()
            (self._folder / "verify_bundle.py").write_bytes(SCRIPT.read_bytes())
        except OSError as error:
            raise Misconfigured(f"{self._folder} cannot be used: {error.strerror}") from error

    async def _personal(self, subject: str) -> bytes:
        stored = await self._store.load(personal_key(_subject(subject)))
        if stored is None:
            raise Misconfigured(f"there is no key of {subject}: erased, or never seen")
        return stored.body

    # ------------------------------------------------------------------------------ topics

    async def _checkpoints(self) -> None:
        bounds = await self._stream.bounds(Topic.CHECKPOINTS)
        with (self._folder / "checkpoints.ndjson").open("wb") as file:
            async for record in in_order(self._stream, Topic.CHECKPOINTS, bounds):
                _write(file, _entry(record))
                self.done.checkpoints += 1

    async def _records(self, judged: Lines, bounds: Mapping[int, tuple[int, int]]) -> None:
        with ExitStack() as files:
            records = files.enter_context((self._folder / "records.ndjson").open("wb"))
            prover: Prover | None = None
            if str(self._scope) != "all":
                proofs = files.enter_context((self._folder / "proofs.ndjson").open("wb"))
                prover = Prover(judged, lambda proof: _write(proofs, proof))
            async for record in in_order(self._stream, Topic.AUDIT, bounds):
                body = record.value or b""
                said = _said(body)
                chosen = await self._chosen(record.key or b"", said)
                if chosen:
                    _write(records, _entry(record))
                    self.done.records += 1
                    for name in payloads(said) if said else ():
                        await self._blob(name)
                if prover:
                    prover.take(record.partition, record.offset, body, chosen=chosen)
            if prover:
                prover.close()
                self.done.unsealed = self.done.records - prover.proven

    async def _chosen(self, key: bytes, said: dict[str, Any] | None) -> bool:
        """Whether a record belongs to the scope; a team's are known by the state that their first record has found."""
        name = key.decode("utf-8", "replace")
        if self._scope.aggregate:
            return name == self._scope.aggregate
        if self._scope.team is None:
            return True
        if said is None:
            return False
        if said["kind"] != "refused" and name not in self._ours:
            found = await self._found(said)
            if found is None:
                self.done.unknown.add(name)
            self._ours[name] = found is not None and found.get("team_id") == self._scope.team
        return self._ours.get(name, False)

    async def _found(self, said: dict[str, Any]) -> dict[str, Any] | None:
        found: dict[str, Any] | None = said.get("found")
        if found is not None and found.keys() == {"sha256", "bytes"}:
            stored = await self._store.load(f"blobs/{found['sha256']}")
            found = json.loads(stored.body) if stored else None
        return found

    async def _blob(self, name: str) -> None:
        if name in self._blobs:
            return
        self._blobs.add(name)
        stored = await self._store.load(f"blobs/{name}")
        if stored is None:
            self.done.missing.append(name)
        else:
            (self._folder / "blobs" / name).write_bytes(stored.body)


class Prover:
    """Proofs of the chosen records of a range, once the whole range was seen; in memory of its hashes."""

    def __init__(self, judged: Lines, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self._trunks = trunks(judged)
        self._partition = -1
        self._ranges: Iterator[Made] = iter(())
        self._now: Made | None = None
        self._leaves = Distinct()
        self._chosen: list[tuple[int, bytes]] = []
        self.proven = 0

    def take(self, partition: int, offset: int, body: bytes, *, chosen: bool) -> None:
        """The next record, by partition and offset."""
        if partition != self._partition:
            self.close()
            self._partition, self._ranges = partition, iter(self._trunks.get(partition, ()))
            self._now = next(self._ranges, None)
        while self._now and offset >= self._now.end:
            self.close()
            self._now = next(self._ranges, None)
        if self._now and offset >= self._now.first:
            self._leaves.add(body)
            if chosen:
                self._chosen.append((offset, body))

    def close(self) -> None:
        """The range is over; one that lacks records, since the log's head was cut, proves nothing."""
        made, found, chosen = self._now, self._leaves, self._chosen
        self._leaves, self._chosen = Distinct(), []
        if made is None or len(found) != made.records:
            return
        leaves = found.leaves
        for offset, body in chosen:
            place = found.place(body)
            siblings = [sibling.hex() for sibling in path(leaves, place)]
            proof = {"partition": made.partition, "offset": offset, "checkpoint": made.name}
            self._write(proof | {"place": place, "path": siblings})
            self.proven += 1


def trunks(judged: Lines) -> dict[int, list[Made]]:
    """Of each partition the checkpoints from the first to the one that reaches furthest, each once."""
    last: dict[int, Made] = {}
    for made in judged.made.values():
        if made.partition not in last or made.end > last[made.partition].end:
            last[made.partition] = made
    found: dict[int, list[Made]] = {}
    for number, at in last.items():
        line, before = [at], judged.made.get(at.previous or "")
        while before:
            line.append(before)
            before = judged.made.get(before.previous or "")
        found[number] = line[::-1]
    return found


# ------------------------------------------------------------------------------ read


def records(folder: Path, name: str) -> Iterator[Record]:
    """The records of a bundle's `records` or `checkpoints`.  Raises Misconfigured where that is no bundle."""
    topic = Topic.AUDIT if name == "records" else Topic.CHECKPOINTS
    try:
        with (folder / f"{name}.ndjson").open("rb") as file:
            for line in file:
                entry = json.loads(line)
                at, key = datetime.fromisoformat(entry["timestamp"]), entry["key"].encode()
                headers = tuple((name, text.encode()) for name, text in entry.get("headers", ()))
                value = verify_bundle.value_of(entry)
                yield Record(topic, entry["partition"], entry["offset"], at, key, value, headers)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(f"{folder} cannot be read as a bundle: {name}: {error}") from error


def manifest(folder: Path) -> dict[str, Any]:
    """Raises Misconfigured."""
    try:
        read: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        known = read["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misconfigured(f"{folder} is no bundle: {error}") from error
    if not known:
        raise Misconfigured(f"{folder} is a bundle of format {read['format']}, which is not known")
    return read


async def in_order(stream: EventStream, topic: Topic, bounds: Mapping[int, tuple[int, int]]) -> AsyncIterator[Record]:
    """Records within bounds, partition by partition.  Raises Unavailable, Refused."""
    for number, (first, end) in sorted(bounds.items()):
        if first < end:
            async for record in stream.read(topic, {number: first}, follow=False):
                if record.offset >= end:
                    break
                yield record


def _entry(record: Record) -> dict[str, Any]:
    """A line of NDJSON."""
    key, value = (record.key or b"").decode("utf-8", "replace"), record.value or b""
    where = {"partition": record.partition, "offset": record.offset}
    headers = [(name, text.decode("utf-8", "replace")) for name, text in record.headers]
    entry = where | {"timestamp": time_text(record.timestamp), "key": key, "headers": headers}
    try:
        return entry | {"value": value.decode()}
    except UnicodeDecodeError:
        return entry | {"value_base64": base64.b64encode(value).decode()}


def _said(body: bytes) -> dict[str, Any] | None:
    """None for what is no audit record, which is exported all the same."""
    try:
        said = json.loads(body)
        return said if isinstance(said, dict) and {"kind", "context"} <= said.keys() else None
    except ValueError:
        return None


def _write(file: IO[bytes], entry: Mapping[str, Any]) -> None:
    file.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def _subject(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()


def _file_sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
