"""Audit logs made for tests: records in chains, checkpoints over them, and what an attacker makes of both."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker.adapters.sqlite import Database, SqliteStream
from worker.audit.verify_bundle import Problem, Seals
from worker.ports import Outgoing, Record, Topic
from worker.runtime.checkpointer import Checkpointer
from worker.signing import Signer, Signers

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEYS = {name: Signer(Ed25519PrivateKey.from_private_bytes(name.encode() * 32)) for name in "abx"}
"""Keys that are the same in every run: a and b are ours, x is somebody else's."""
SIGNED = Signers(KEYS["a"])
Log = list[tuple[int, bytes]]
"""Offset and bytes of the records of one partition."""


class Standing:
    """A clock that moves when it is told to, and never sleeps."""

    def __init__(self) -> None:
        self.seconds = 0

    def now(self) -> datetime:
        self.seconds += 1
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return float(self.seconds)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


def link(previous: Mapping[str, Any] | None, name: str, sequence: int, what: str = "") -> dict[str, Any]:
    """The next record of a chain."""
    return {
        "kind": "decided",
        "aggregate": {"type": "evaluation", "id": name},
        "audit_seq": sequence,
        "previous_sha256": hashlib.sha256(packed(previous)).hexdigest() if previous else None,
        "context": {"settings_sha256": hashlib.sha256(b"{}").hexdigest(), "what": what},
        "state_before_sha256": previous["state_after_sha256"] if previous else None,
        "state_after_sha256": hashlib.sha256(f"{name}/{sequence}/{what}".encode()).hexdigest(),
    }


def packed(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode()


def rechained(log: Iterable[tuple[int, bytes]]) -> Log:
    """All numbers and hashes made anew, as somebody does who may write the log and knows the format."""
    heads: dict[str, dict[str, Any]] = {}
    made: Log = []
    for offset, body in log:
        said = json.loads(body)
        name = said["aggregate"]["id"]
        before = heads.get(name)
        heads[name] = link(before, name, before["audit_seq"] + 1 if before else 1, said["context"]["what"])
        made.append((offset, packed(heads[name])))
    return made


@dataclass
class Sealed:
    """A log on a file, and its checkpointers."""

    folder: Path
    partitions: int = 1
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stream = SqliteStream(Database(self.folder / "worker.db", partitions=self.partitions))
        self.clock = Standing()

    def checkpointer(self, signers: Signers = SIGNED, epoch: int = 1) -> Checkpointer:
        return Checkpointer(self.stream, self.clock, lambda: dict.fromkeys(range(self.partitions), epoch), signers)

    async def write(self, *names: str) -> None:
        """A further record of each of these aggregates."""
        for name in names:
            before = self.heads.get(name)
            self.heads[name] = link(before, name, before["audit_seq"] + 1 if before else 1, "because")
            await self.repeat(name)

    async def repeat(self, *names: str) -> None:
        """The last record of each of these again."""
        await self.stream.publish([Outgoing(Topic.AUDIT, n.encode(), packed(self.heads[n])) for n in names])

    async def all(self, topic: Topic) -> list[Record]:
        starts = dict.fromkeys(range(self.partitions), 0)
        return [record async for record in self.stream.read(topic, starts, follow=False)]

    async def log(self) -> Log:
        return [(record.offset, record.value or b"") for record in await self.all(Topic.AUDIT)]

    async def checkpoints(self) -> list[bytes]:
        return [record.value or b"" for record in await self.all(Topic.CHECKPOINTS)]

    def close(self) -> None:
        self.stream._database.close()


def judged(seals: Seals, log: Sequence[tuple[int, bytes]], end: int) -> list[tuple[str, str]]:
    """-> (rule, where) of each problem of a log of one partition that ends at `end`."""
    for offset, body in log:
        seals.take(0, offset, body)
    return named(seals.finish({0: end}))


def named(problems: Iterable[Problem]) -> list[tuple[str, str]]:
    return [(problem.rule, problem.where) for problem in problems]
