"""What the audit log says last of each aggregate: the head of its chain, and the status that it had then.

One pass over the log as it is published, and on from where that ended; an aggregate costs its head (some 600 bytes),
whatever the length of its chain.  Trusts the log: whether the chain holds is the business of `verify`.  Knows no store.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from schemas.base import Blob, Model, Time
from schemas.commands import Aggregate
from worker.errors import Misconfigured
from worker.partitioner import partition_of
from worker.ports import EventStream, Record, Topic


@dataclass(frozen=True, slots=True)
class Head:
    """One record of a chain; hashes as in the document's `chain`, `status` of the workflow, or of the last turn.

    `status` is None of an org, and where the record holds it by reference only.
    """

    partition: int
    offset: int
    audit_seq: int
    record_sha256: str
    state_sha256: str | None
    status: str | None
    since: datetime | None


class _Context(Model):
    now: Time


class _Seen(Model):
    """The fields of a record that are looked at."""

    kind: Literal["decided", "adopted", "refused"]
    aggregate: Aggregate
    audit_seq: int
    context: _Context
    events: list[dict[str, Any]] | Blob = []
    found: dict[str, Any] | None = None
    state_after_sha256: str | None = None


@dataclass
class Heads:
    """`last` by the aggregate's key; `known` by key and audit_seq, of aggregates that are watched."""

    stream: EventStream
    records: int = 0
    last: dict[str, Head] = field(default_factory=dict)
    known: dict[str, dict[int, Head]] = field(default_factory=dict)
    _next: dict[int, int] = field(default_factory=dict)
    _first: dict[int, int] = field(default_factory=dict)

    def watch(self, key: str) -> None:
        """From now on keep every record of this aggregate, beginning with its head."""
        if key not in self.known:
            head = self.last.get(key)
            self.known[key] = {head.audit_seq: head} if head else {}

    def may_be_cut(self, key: str) -> bool:
        """Whether records of this aggregate may have stood in a head of the log that was cut."""
        return self._first[partition_of(key.encode(), len(self._first))] > 0

    async def read_on(self) -> None:
        """Up to the end as it is now.  Raises Unavailable, and Misconfigured for what is no audit record."""
        bounds = await self.stream.bounds(Topic.AUDIT)
        self._first = {partition: first for partition, (first, _) in bounds.items()}
        start = {partition: self._next.get(partition, first) for partition, (first, _) in bounds.items()}
        async for record in self.stream.read(Topic.AUDIT, start, follow=False):
            self._take(record)
            self._next[record.partition] = record.offset + 1

    def _take(self, record: Record) -> None:
        self.records += 1
        body = record.value or b""
        try:
            seen = _Seen.model_validate_json(body)
        except ValidationError:
            where = f"{record.topic.value} {record.partition}:{record.offset}"
            raise Misconfigured(f"{where}: is no audit record; `worker audit verify` says more") from None
        key = seen.aggregate.key
        before = self.last.get(key)
        if seen.kind == "refused" or (before and seen.audit_seq <= before.audit_seq):
            return  # outside of the chain, or a repetition
        status, since = _status(seen, before)
        sha256 = hashlib.sha256(body).hexdigest()
        head = Head(record.partition, record.offset, seen.audit_seq, sha256, seen.state_after_sha256, status, since)
        self.last[key] = head
        if key in self.known:
            self.known[key][head.audit_seq] = head


def _status(seen: _Seen, before: Head | None) -> tuple[str | None, datetime | None]:
    """The status after a record, and since when it is so."""
    old = (before.status, before.since) if before else (None, None)
    if isinstance(seen.events, Blob) or (seen.found is not None and "sha256" in seen.found):
        return None, None
    status = old[0] if seen.found is None else _of_state(seen.found)
    for event in seen.events:
        if event.get("kind") == "status_changed":
            status = event["after"]
        elif event.get("kind") == "turn_replaced":
            status = event["turn"]["status"]
    return old if status == old[0] else (status, seen.context.now)


def _of_state(state: dict[str, Any]) -> str | None:
    match state:
        case {"kind": "session", "turn": {"status": str(status)}} | {"kind": "workflow", "status": str(status)}:
            return status
        case _:
            return None
