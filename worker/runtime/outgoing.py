"""What a partition publishes beside the outboxes: verdicts, audit records of refusals, dead letters.  Pure.

A payload over 64 KiB stands in the store, put there before the transaction that names it; the record then carries the
reference (CloudEvents' `dataref`: the header names the key, the value holds hash and size).
"""

from datetime import datetime

from schemas.base import INLINE_BYTES_MAX, Blob, Coordinates, event_id
from schemas.cloudevents import headers
from schemas.commands import Aggregate
from worker.ledger import Blobs
from worker.ports import Headers, Outgoing, Record, Topic

HEADERS_KEPT_BYTES_MAX = 16 * 1024
KEY_BYTES_MAX = 512
TRACE_HEADERS = ("traceparent", "tracestate")
TRACE_BYTES_MAX = 512


def result(
    key: str, at: Coordinates, first: Coordinates, body: bytes | Blob, received_at: datetime, trace: Headers = ()
) -> Outgoing:
    """The verdict on the record `at`: the same id and bytes as for `first`, the record first answered with it."""
    ce = headers(id=event_id("verdict", first), type="command.verdict", time=received_at, subject=key)
    answers = (("verdict-partition", str(at.partition).encode()), ("verdict-offset", str(at.offset).encode()))
    value, reference = _payload(body)
    return Outgoing(Topic.RESULTS, key.encode(), value, (*ce, *answers, *reference, *trace))


def trace_of(record: Record) -> Headers:
    """The record's trace context, for what answers it."""
    return tuple(pair for pair in record.headers if pair[0] in TRACE_HEADERS and len(pair[1]) <= TRACE_BYTES_MAX)


def audit_refused(aggregate: Aggregate, body: bytes, at: Coordinates, now: datetime) -> Outgoing:
    """The audit record of a refusal, outside of the chain."""
    name = f"{aggregate.key}/refused/{at.partition}/{at.offset}"
    ce = headers(id=name, type="audit.refused", time=now, subject=aggregate.key)
    return Outgoing(Topic.AUDIT, aggregate.key.encode(), body, ce)


def dead_letter(record: Record, reason: str) -> tuple[Outgoing, Blobs]:
    """The record as it was: bytes and headers, with where it stood and why it is here; and blobs to put before."""
    at = Coordinates(partition=record.partition, offset=record.offset)
    where = (
        ("dead-letter-reason", reason.encode()),
        ("dead-letter-partition", str(record.partition).encode()),
        ("dead-letter-offset", str(record.offset).encode()),
    )
    blobs = Blobs()
    value, reference = record.value or b"", tuple[tuple[str, bytes], ...]()
    if len(value) > INLINE_BYTES_MAX:
        value, reference = _payload(blobs.add(value))
    ce = headers(
        id=event_id("dead-letter", at),
        type="dead_letter",
        time=record.timestamp,
        subject=key_text(record),
        content_type="application/json" if reference else "application/octet-stream",
    )
    original = tuple((f"original-{name}", content) for name, content in record.headers)
    if sum(len(name) + len(content) for name, content in original) > HEADERS_KEPT_BYTES_MAX:
        whole = b"\n".join(f"{name}: ".encode() + content for name, content in record.headers)
        original = (("dead-letter-headers-dataref", blobs.add(whole).key.encode()),)
    return Outgoing(Topic.DEAD_LETTERS, key_of(record), value, (*ce, *where, *reference, *original)), blobs


def key_of(record: Record) -> bytes:
    """The record's key, where it is of a sane size."""
    return record.key if record.key and len(record.key) <= KEY_BYTES_MAX else b"unknown"


def key_text(record: Record) -> str:
    return key_of(record).decode("utf-8", "replace")


def _payload(body: bytes | Blob) -> tuple[bytes, Headers]:
    if isinstance(body, bytes):
        return body, ()
    return body.model_dump_json().encode(), (("ce_dataref", body.key.encode()),)
