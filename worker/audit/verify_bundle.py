"""Verify a bundle of audit records, with the standard library and `cryptography` only: python verify_bundle.py [DIR]

It proves that
- each aggregate's records form an unbroken chain: none dropped, inserted, swapped or changed within it;
- the records are those whose Merkle roots were signed, in number, bytes and order, up to the last checkpoint (of a
  bundle of one team or aggregate: that each record was among them);
- the checkpoints form unbroken lines, signed by the keys that were given;
- payloads that records name by hash are there and have that hash.

It does not prove
- that the decisions were right: `worker audit verify` decides them again;
- whose the keys are: compare the ids that it prints with ids that you have from elsewhere, or give --key;
- anything about records after the last checkpoint but their chains, nor that a bundle of a part is the whole part.

Exit code 1 on any failure, each with its position.  `worker audit verify` checks checkpoints by the same code.
"""

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

KEPT_BYTES = 16
"""Of a record's hash, to know it again when it is repeated."""


class Problem(NamedTuple):
    """What is wrong: where, which rule of ours says so, and in words."""

    where: str
    rule: str
    text: str


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# ------------------------------------------------------------------------------ trees, as RFC 6962 has them


def leaf(body: bytes) -> bytes:
    return sha256(b"\x00", body)


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01", left, right)


class Tree:
    """A root that grows with its leaves, in memory of their distinct hashes; an identical repetition is no leaf."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._peaks: list[tuple[int, bytes]] = []  # of the whole trees from left to right, with their heights

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, body: bytes) -> None:
        height, hashed = 0, leaf(body)
        if hashed in self._seen:
            return
        self._seen.add(hashed)
        while self._peaks and self._peaks[-1][0] == height:
            hashed = node(self._peaks.pop()[1], hashed)
            height += 1
        self._peaks.append((height, hashed))

    def root(self) -> bytes:
        peaks = [hashed for _, hashed in self._peaks]
        whole = peaks.pop() if peaks else sha256()
        while peaks:
            whole = node(peaks.pop(), whole)
        return whole


def root_of(body: bytes, place: int, leaves: int, path: Iterable[bytes]) -> bytes | None:
    """The root that a record's path leads to; None where the path has another length than such a tree's."""
    hashed, siblings = leaf(body), iter(path)
    if not 0 <= place < leaves:
        return None
    while leaves > 1:
        if place % 2 or place + 1 < leaves:
            if (sibling := next(siblings, None)) is None:
                return None
            hashed = node(sibling, hashed) if place % 2 else node(hashed, sibling)
        place, leaves = place // 2, (leaves + 1) // 2
    return hashed if next(siblings, None) is None else None


# ------------------------------------------------------------------------------ checkpoints


@dataclass(slots=True)
class Made:
    """A checkpoint as found; `where` it stands in the topic of checkpoints."""

    where: str
    payload: bytes
    signature: bytes | None
    partition: int
    sequence: int
    previous: str | None
    first: int
    end: int
    records: int
    root: str
    at: str
    key_id: str | None
    introduces: bytes | None
    name: str = ""

    @classmethod
    def parse(cls, where: str, value: bytes) -> "Made":
        """Raises ValueError, KeyError, TypeError."""
        outer = json.loads(value)
        payload = outer["payload"].encode()
        said = json.loads(payload)
        signature, introduces = outer.get("signature"), said.get("introduces")
        if said["kind"] != "audit.checkpoint" or not 0 <= said["first_offset"] < said["end_offset"]:
            raise ValueError("no checkpoint")
        return cls(
            where=where,
            payload=payload,
            signature=base64.b64decode(signature, validate=True) if signature else None,
            partition=int(said["partition"]),
            sequence=int(said["sequence"]),
            previous=said.get("previous_sha256"),
            first=int(said["first_offset"]),
            end=int(said["end_offset"]),
            records=int(said["records"]),
            root=str(said["root_sha256"]),
            at=str(said["at"]),
            key_id=said.get("key_id"),
            introduces=base64.b64decode(introduces, validate=True) if introduces else None,
            name=sha256(payload).hex(),
        )

    def told(self) -> str:
        return f"checkpoint {self.sequence} of partition {self.partition}"


class Lines:
    """Checkpoints held against each other: signed by whom, and none missing.

    Each names the one before by hash.  Two may name the same one, where an owner that was replaced still made its own:
    both have to be true, so neither confuses; a repetition is the same bytes, and counts once.
    """

    def __init__(self, found: Iterable[tuple[str, bytes]], keys: Iterable[bytes]) -> None:
        self.problems: list[Problem] = []
        self.repeated = 0
        self.keys = {sha256(key).hex(): key for key in keys}
        self.made: dict[str, Made] = {}
        self._given = bool(self.keys)
        for where, value in found:
            self._take(where, value)
        self._judge_signatures()
        self._judge_links()

    def _take(self, where: str, value: bytes) -> None:
        try:
            made = Made.parse(where, value)
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            self.problems.append(Problem(where, "checkpoint_unreadable", "this is no checkpoint"))
            return
        self.repeated += made.name in self.made
        known = self.made.setdefault(made.name, made)
        known.signature = known.signature or made.signature

    def _judge_signatures(self) -> None:
        """What does not stand is left out, so that it neither covers anything nor hands over to a key."""
        waiting = {name: made for name, made in self.made.items() if made.key_id}
        while ready := [name for name, made in waiting.items() if made.key_id in self.keys]:
            for name in ready:
                made = waiting.pop(name)
                if not self._signed(made):
                    self._leave_out(made, "checkpoint_signature", "the signature is not that of its key")
                elif made.introduces:
                    self.keys.setdefault(sha256(made.introduces).hex(), made.introduces)
        for made in waiting.values():
            self._leave_out(made, "checkpoint_key", f"signed by key {made.key_id}, which is not known")
        vouched: set[str] = set()
        for made in self.made.values():
            before = self.made.get(made.previous or "") if made.key_id else None
            while before and before.name not in vouched:
                vouched.add(before.name)
                before = self.made.get(before.previous or "")
        if self._given:
            for made in [made for made in self.made.values() if not made.key_id and made.name not in vouched]:
                self._leave_out(made, "checkpoint_unsigned", "unsigned, and no signed one follows")

    def _signed(self, made: Made) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.keys[made.key_id or ""]).verify(made.signature or b"", made.payload)
        except (InvalidSignature, ValueError):
            return False
        return True

    def _judge_links(self) -> None:
        for made in self.made.values():
            before = self.made.get(made.previous or "")
            if made.previous is None and (made.sequence, made.first) != (1, 0):
                text = "names none before it, and is not the first"
            elif made.previous is not None and before is None:
                text = f"number {made.sequence - 1}, which it follows, is missing"
            elif before and (before.partition, before.sequence + 1, before.end) != (
                made.partition,
                made.sequence,
                made.first,
            ):
                text = "does not go on where the one that it follows ends"
            else:
                continue
            self.problems.append(Problem(made.where, "checkpoint_line", f"{made.told()}: {text}"))

    def _leave_out(self, made: Made, rule: str, text: str) -> None:
        self.made.pop(made.name, None)
        self.problems.append(Problem(made.where, rule, f"{made.told()}: {text}"))


@dataclass(slots=True)
class Covered:
    """How far a partition is sealed: up to this offset, made then; `after`: records behind it, sealed by none."""

    begins: int = 0
    end: int = 0
    at: str = ""
    after: int = 0


class Seals:
    """Checkpoints held against the records of the log, each partition in the order of its offsets.

    Memory: the hashes of the records of a range.  `begins`: the first offset of partitions whose head was cut on
    purpose; a log that begins later than it says has lost records.
    """

    def __init__(self, lines: Lines, begins: Mapping[int, int]) -> None:
        self._waiting: dict[int, list[Made]] = {}
        self._open: dict[int, list[tuple[Made, Tree]]] = {}
        self.covered: dict[int, Covered] = {number: Covered(begins=begins[number]) for number in sorted(begins)}
        self.problems = list(lines.problems)
        ends: dict[int, set[int]] = {}
        for made in sorted(lines.made.values(), key=lambda made: (made.first, made.end), reverse=True):
            covered = self.covered.setdefault(made.partition, Covered())
            ends.setdefault(made.partition, set()).add(made.end)
            if made.first >= covered.begins:
                self._waiting.setdefault(made.partition, []).append(made)
            if made.end > covered.end:
                covered.end, covered.at = made.end, made.at
        for number, covered in self.covered.items():
            if covered.begins and covered.begins not in ends.get(number, ()):
                text = f"the log begins at {covered.begins}, where no checkpoint ends: more is gone than may be cut"
                self.problems.append(Problem(f"{number}:{covered.begins}", "head_cut", text))

    def take(self, partition: int, offset: int, body: bytes) -> None:
        """The next record of its partition."""
        waiting, covered = self._waiting.get(partition, []), self.covered.setdefault(partition, Covered())
        being = self._open.get(partition, [])
        if (waiting and waiting[-1].first <= offset) or (being and being[0][0].end <= offset):
            being = self._turn(partition, offset)
        for _, tree in being:
            tree.add(body)
        covered.after += offset >= covered.end

    def _turn(self, partition: int, offset: int) -> list[tuple[Made, Tree]]:
        """Close ranges that end here, open those that begin."""
        being = []
        for made, tree in self._open.get(partition, []):
            if made.end <= offset:
                self._close(made, tree)
            else:
                being.append((made, tree))
        waiting = self._waiting.get(partition, [])
        while waiting and waiting[-1].first <= offset:
            made = waiting.pop()
            if made.end <= offset:
                self._close(made, Tree())
            else:
                being.append((made, Tree()))
        being.sort(key=lambda pair: pair[0].end)
        self._open[partition] = being
        return being

    def _close(self, made: Made, tree: Tree, ends_at: int | None = None) -> None:
        if len(tree) == made.records and tree.root().hex() == made.root:
            return
        rule, text = "checkpoint_root", "other bytes, or another order, than were sealed"
        if len(tree) != made.records:
            text = f"{len(tree)} records are there, {made.records} were sealed"
        if ends_at is not None and ends_at < made.end:
            rule, text = "tail_cut", f"the log ends at {ends_at}, and {text}"
        self.problems.append(Problem(f"{made.partition}:{made.first}-{made.end - 1}", rule, f"{made.told()}: {text}"))

    def finish(self, ends: Mapping[int, int]) -> list[Problem]:
        """-> all problems, once every record was taken; `ends`: the offset after each partition's last record."""
        for number in sorted(self.covered):
            for made, tree in self._open.pop(number, []):
                self._close(made, tree, ends.get(number, 0))
            for made in reversed(self._waiting.pop(number, [])):
                self._close(made, Tree(), ends.get(number, 0))
        return self.problems


# ------------------------------------------------------------------------------ chains


@dataclass(slots=True)
class Head:
    """Where an aggregate's chain stands; `kept` holds 16 bytes of each record's hash, to know repetitions."""

    first: int
    record: str
    state: str | None
    kept: bytearray = field(default_factory=bytearray)


class Chains:
    """Each aggregate's records held against each other.  Memory: per aggregate its head and 16 bytes a record."""

    def __init__(self, *, cut: bool) -> None:
        self._cut = cut
        self.heads: dict[str, Head] = {}
        self.counts: Counter[str] = Counter()

    def take(self, where: str, body: bytes, said: dict[str, Any]) -> Iterator[Problem]:
        """The next record.  `cut`: the log's head was cut, so a chain may begin later than with 1."""
        self.counts["records"] += 1
        sequence, key = said["audit_seq"], f"{said['aggregate']['type']}/{said['aggregate']['id']}"
        if said["kind"] == "refused":
            self.counts["refused"] += 1  # stands outside of the chains: only the trees hold it
            return
        name, head = sha256(body), self.heads.get(key)
        if head is None:
            if sequence != 1 and not self._cut:
                yield Problem(where, "chain_gap", f"{key}: begins with record {sequence}, not with 1")
            self.heads[key] = Head(sequence, name.hex(), said.get("state_after_sha256"), bytearray(name[:KEPT_BYTES]))
            return
        following, place = head.first + len(head.kept) // KEPT_BYTES, (sequence - head.first) * KEPT_BYTES
        if sequence < following:
            if place >= 0 and head.kept[place : place + KEPT_BYTES] == name[:KEPT_BYTES]:
                self.counts["repeated"] += 1
            else:
                yield Problem(where, "chain_doubled", f"{key}: record {sequence} is there already, with other bytes")
            return
        if sequence > following:
            yield Problem(where, "chain_gap", f"{key}: record {sequence} comes where {following} was expected")
            head.first, head.kept = sequence, bytearray()  # goes on from here
        elif said.get("previous_sha256") != head.record:
            yield Problem(where, "chain_hash", f"{key}: record {sequence} does not hold the hash of the one before")
        elif said.get("state_before_sha256") != head.state:
            yield Problem(where, "chain_state", f"{key}: record {sequence} begins with another state than was left")
        head.record, head.state = name.hex(), said.get("state_after_sha256")
        head.kept += name[:KEPT_BYTES]


def payloads(said: dict[str, Any]) -> Iterator[str]:
    """Hashes of what a record names instead of holding it."""
    for part in (said.get("input"), said.get("events"), said.get("found")):
        if isinstance(part, dict) and part.keys() == {"sha256", "bytes"}:
            yield part["sha256"]
    yield said["context"]["settings_sha256"]
    for read in said["context"].get("documents", ()):
        if read["key"].startswith("blobs/") and read.get("sha256"):
            yield read["sha256"]


# ------------------------------------------------------------------------------ the bundle


class Bundle:
    """A folder: manifest.json, {records,checkpoints}.ndjson, of a part proofs.ndjson, keys/ID.pem, blobs/SHA256."""

    def __init__(self, folder: Path, keys: Iterable[Path], *, cut: bool) -> None:
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_bytes())
        files = list(keys) or sorted((folder / "keys").glob("*.pem"))
        found = ((f"checkpoints {e['partition']}:{e['offset']}", value_of(e)) for e in self._entries("checkpoints"))
        self.lines = Lines(found, [public_key(path) for path in files])
        begins = {int(number): part["begins"] * cut for number, part in self.manifest["partitions"].items()}
        self.chains = Chains(cut=any(begins.values()))
        self.seals = Seals(self.lines, begins)
        self.whole = self.manifest["scope"] == "all"
        self._payloads: set[str] = set()
        self._proofs = iter(()) if self.whole else self._entries("proofs")
        self._proof = next(self._proofs, None)

    def _entries(self, name: str) -> Iterator[dict[str, Any]]:
        with (self.folder / f"{name}.ndjson").open("rb") as lines:
            yield from map(json.loads, lines)

    def problems(self) -> Iterator[Problem]:
        """All of them, in the order in which they are found."""
        yield from self._files()
        for entry in self._entries("records"):
            where, body = f"{entry['partition']}:{entry['offset']}", value_of(entry)
            if self.whole:
                self.seals.take(entry["partition"], entry["offset"], body)
            else:
                yield from self._proven(where, entry, body)
            try:
                said = json.loads(body)
                yield from self.chains.take(where, body, said)
                yield from self._held(where, said)
            except (ValueError, KeyError, TypeError, AttributeError):
                yield Problem(where, "record_unreadable", "this is no audit record")
        ends = {int(number): part["ends"] for number, part in self.manifest["partitions"].items()}
        yield from self.seals.finish(ends) if self.whole else self.lines.problems

    def _files(self) -> Iterator[Problem]:
        for name, expected in sorted(self.manifest["files"].items()):
            path = self.folder / name
            if not path.is_file():
                yield Problem(name, "file", "is missing")
                continue
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    yield Problem(name, "file", "is not what the manifest says")

    def _proven(self, where: str, entry: dict[str, Any], body: bytes) -> Iterator[Problem]:
        """Of a part of the log: the record was among those that a checkpoint seals; proofs stand in the same order."""
        proof, at = self._proof, (entry["partition"], entry["offset"])
        if proof is None or (proof["partition"], proof["offset"]) != at:
            self.chains.counts["unsealed"] += 1
            covered = self.seals.covered.get(entry["partition"])
            if covered and entry["offset"] < covered.end:
                yield Problem(where, "proof", f"checkpoints cover {covered.end - 1} and before, and nothing proves it")
            return
        self._proof = next(self._proofs, None)
        made = self.lines.made.get(proof["checkpoint"])
        inside = made and made.partition == entry["partition"] and made.first <= entry["offset"] < made.end
        if made is None or not inside:
            yield Problem(where, "proof", "no checkpoint that stands covers it")
            return
        path = [bytes.fromhex(sibling) for sibling in proof["path"]]
        if root_of(body, proof["place"], made.records, path) != bytes.fromhex(made.root):
            yield Problem(where, "proof", f"it is not what {made.told()} has sealed")

    def _held(self, where: str, said: dict[str, Any]) -> Iterator[Problem]:
        """What the record names is there, and has that hash."""
        for name in payloads(said):
            path = self.folder / "blobs" / name
            if name in self._payloads:
                continue
            self._payloads.add(name)
            if not path.is_file():
                yield Problem(where, "payload", f"blobs/{name} is missing")
            elif sha256(path.read_bytes()).hex() != name:
                yield Problem(where, "payload", f"blobs/{name} has other bytes")

    def summary(self) -> Iterator[str]:
        counts = self.chains.counts
        yield f"bundle of {self.manifest['scope']}, made {self.manifest['made_at']} by {self.manifest['build']}"
        yield (
            f"{counts['records']} records of {len(self.chains.heads)} aggregates, {counts['refused']} refusals,"
            f" {counts['repeated']} repetitions; {len(self.lines.made)} checkpoints"
        )
        if not self.whole:
            yield f"{counts['unsealed']} records are not sealed by a checkpoint yet"
        for number, covered in self.seals.covered.items() if self.whole else ():
            until = f"to {covered.end}, made {covered.at}" if covered.end else "by no checkpoint"
            yield f"partition {number}: from {covered.begins}; sealed {until}; {covered.after} records after that"
        for key_id in sorted(self.lines.keys):
            yield f"key {key_id}"
        if any(made.key_id is None for made in self.lines.made.values()):
            yield "some checkpoints are not signed: they prove nothing against whoever could write them"


def value_of(entry: Mapping[str, Any]) -> bytes:
    """A record's bytes, from a line of NDJSON."""
    text = entry.get("value")
    return base64.b64decode(entry["value_base64"]) if text is None else str(text).encode()


def public_key(path: Path) -> bytes:
    """The 32 bytes of an Ed25519 key.  Raises ValueError, OSError."""
    key = load_pem_public_key(path.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path} is no Ed25519 key")
    return key.public_bytes_raw()


def main(arguments: list[str] | None = None) -> int:
    """-> exit code: 0 all stands, 1 something does not, 2 this is no bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent, metavar="DIR")
    parser.add_argument("--key", type=Path, action="append", default=[], help="a public key (PEM); may be repeated")
    parser.add_argument("--cut", action="store_true", help="the log's head was cut on purpose, where a checkpoint ends")
    asked = parser.parse_args(arguments)
    failures = 0
    try:
        bundle = Bundle(asked.folder, asked.key, cut=asked.cut)
        for problem in bundle.problems():
            failures += 1
            sys.stdout.write(f"{problem.where}  {problem.rule}  {problem.text}\n")
        sys.stdout.write("".join(f"{line}\n" for line in bundle.summary()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.stderr.write(f"{asked.folder} cannot be read as a bundle: {type(error).__name__}: {error}\n")
        return 2
    sys.stdout.write(f"{failures} failures\n" if failures else "all of it stands; what that proves: see --help\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
