"""From decisions to the next document: counters, memory, audit chain, outbox (musts 3, 4 and 10).

Pure but for the write id and the sealed fields that it is given.  The audit records and status events that it puts
into the outbox are final bytes: they are published as they stand, and again if need be.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic_core import to_json

from schemas.audit import AuditRecord, Context, DecisionSettings, DocumentRead, RecordedContext, Sealed
from schemas.base import INLINE_BYTES_MAX, Blob
from schemas.cloudevents import headers
from schemas.commands import Aggregate, Command, Personal
from schemas.documents import (
    Chain,
    Document,
    OrgState,
    OutboxEntry,
    SessionState,
    aggregate_of_state,
    coordinates_key,
    digest,
)
from schemas.events import (
    Event,
    Failed,
    HarnessChanged,
    Opened,
    Remembered,
    SessionStatusChanged,
    StatusChanged,
    TurnReplaced,
)
from schemas.harness import Harness
from schemas.observations import Observed
from schemas.status_events import StatusEvent
from schemas.verdicts import Verdict
from worker.domain.decision import AnyState, Written
from worker.domain.evolve import evolve
from worker.ports import Outgoing, Topic

VERDICT_KEPT_MAX = 4 * 1024
LARGE_PART_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Step:
    """One decided input on its way into a document."""

    given: Command | Observed
    context: Context
    written: Written
    personal: Personal | None = None
    sealed: Sealed | None = None


class Blobs(dict[str, bytes]):
    """By key: what must be in the store before the write or transaction that names it."""

    def add(self, body: bytes) -> Blob:
        reference = blob_of(body)
        self[reference.key] = body
        return reference


@dataclass(slots=True)
class Draught:
    """The next document, and the blobs that must be there before it is written."""

    document: Document
    blobs: Blobs = field(default_factory=Blobs)


def blob_of(body: bytes) -> Blob:
    return Blob(sha256=hashlib.sha256(body).hexdigest(), bytes=len(body))


def settings_blob(settings: DecisionSettings) -> tuple[Blob, bytes]:
    """The settings as audit records name them."""
    body = settings.model_dump_json().encode()
    return blob_of(body), body


def adopts(document: Document) -> bool:
    """Whether the state is not the chain's head (new, or changed behind our back): the next write records it first."""
    return document.chain.state_sha256 != digest(document.state)


def advance(
    document: Document, steps: Sequence[Step], *, write_id: str, settings_sha256: str, acknowledged: int, adopt: bool
) -> Draught:
    """The document after these steps, in one write: revision +1, audit_seq +1 per step (and one for an adoption).

    `acknowledged`: outbox entries up to this audit_seq are known to be published, and leave.
    """
    draught = Draught(document)
    outbox = [entry for entry in document.outbox if entry.audit_seq > acknowledged]
    personal, verdicts, chain, state = dict(document.personal), dict(document.verdicts), document.chain, document.state
    aggregate = aggregate_of_state(state)
    if adopt:
        chain = _adopt(draught.blobs, outbox, aggregate, chain, state, steps[0].context, settings_sha256)
    for step in steps:
        sequence = chain.audit_seq + 1
        if (
            isinstance(step.given, Command)
            and step.personal
            and any(isinstance(e, Opened) and e.command.id == step.given.id for e in step.written.events)
        ):
            personal[step.given.id] = step.personal
        bodies = {hashlib.sha256(body).hexdigest(): body for body in step.written.blobs}
        draught.blobs |= {f"blobs/{name}": body for name, body in bodies.items()}
        for event in step.written.events:
            if isinstance(event, Remembered | Failed):
                whose = personal.pop(event.entry.id, None) or step.personal
                rendered = render(event.verdict, whose, bodies)
                kept = rendered.decode() if len(rendered) <= VERDICT_KEPT_MAX else draught.blobs.add(rendered)
                verdicts[coordinates_key(event.entry.at)] = kept
        changes = _status_events(state, step, aggregate, sequence)
        after = step.written.state
        record = AuditRecord(
            kind="decided",
            aggregate=aggregate,
            audit_seq=sequence,
            previous_sha256=chain.record_sha256,
            input=step.given,
            personal=step.sealed,
            context=_recorded(step.context, settings_sha256),
            events=step.written.events,
            state_before_sha256=chain.state_sha256,
            state_after_sha256=digest(after),
        )
        chain = _append(outbox, draught.blobs, record, step.context)
        outbox += changes
        state = after
    kept_keys = {coordinates_key(e.at) for e in state.answered} | {coordinates_key(e.at) for e in state.failures}
    draught.document = Document(
        state=state,
        write_id=write_id,
        revision=document.revision + 1,
        chain=chain,
        personal={k: v for k, v in personal.items() if any(o.id == k for o in state.open)},
        verdicts={k: v for k, v in verdicts.items() if k in kept_keys},
        outbox=tuple(outbox),
    )
    return draught


def render(verdict: Verdict, personal: Personal | None, bodies: Mapping[str, bytes]) -> bytes:
    """A verdict as published: with its personal fields, and a harness body inlined up to 64 KiB."""
    update: dict[str, object] = {}
    if personal:
        names = {"subject": personal.subject, "reason": personal.reason}
        update["command"] = verdict.command.model_copy(update=names)
    if isinstance(verdict.harness, Blob) and verdict.harness.inline:
        update["harness"] = Harness.model_validate_json(bodies[verdict.harness.sha256])
    return verdict.model_copy(update=update).model_dump_json(exclude_none=True).encode()


def refusal_record(
    aggregate: Aggregate,
    given: Command,
    context: Context,
    verdict: Verdict,
    sealed: Sealed | None,
    settings_sha256: str,
    state: AnyState | None,
    *,
    adopt: bool,
) -> tuple[bytes, Blobs]:
    """A refusal or dry run: a record outside of the chain, as published beside its verdict; and blobs to put before."""
    record = AuditRecord(
        kind="refused",
        aggregate=aggregate,
        audit_seq=0,
        input=given,
        personal=sealed,
        context=_recorded(context, settings_sha256),
        verdict=verdict,
        found=state if adopt else None,
        state_before_sha256=digest(state) if state is not None else None,
    )
    blobs = Blobs()
    return _published(blobs, record).encode(), blobs


def outgoing(entry: OutboxEntry, aggregate: Aggregate) -> Outgoing:
    """An outbox entry as it is published."""
    ce = headers(id=entry.id, type=entry.type, time=entry.time, subject=aggregate.key)
    return Outgoing(Topic(entry.topic), aggregate.key.encode(), entry.body.encode(), ce)


def _adopt(
    blobs: Blobs,
    outbox: list[OutboxEntry],
    aggregate: Aggregate,
    chain: Chain,
    state: AnyState,
    context: Context,
    settings_sha256: str,
) -> Chain:
    """A state that is not the chain's head (new, or changed behind our back) is recorded as found."""
    record = AuditRecord(
        kind="adopted",
        aggregate=aggregate,
        audit_seq=chain.audit_seq + 1,
        previous_sha256=chain.record_sha256,
        context=_recorded(context, settings_sha256),
        found=state,
        state_before_sha256=chain.state_sha256,
        state_after_sha256=digest(state),
    )
    return _append(outbox, blobs, record, context)


def _append(outbox: list[OutboxEntry], blobs: Blobs, record: AuditRecord, context: Context) -> Chain:
    body = _published(blobs, record)
    sequence = record.audit_seq
    outbox.append(
        OutboxEntry(
            audit_seq=sequence,
            topic="audit",
            id=f"{record.aggregate.key}/{sequence}",
            type=f"audit.{record.kind}",
            time=context.now,
            body=body,
        )
    )
    sha256 = hashlib.sha256(body.encode()).hexdigest()
    return Chain(audit_seq=sequence, record_sha256=sha256, state_sha256=record.state_after_sha256)


def _recorded(context: Context, settings_sha256: str) -> RecordedContext:
    return RecordedContext(
        now=context.now,
        build=context.build,
        settings_sha256=settings_sha256,
        documents=tuple(_by_reference(read) for read in context.documents),
        settled=context.settled,
    )


def _by_reference(read: DocumentRead) -> DocumentRead:
    """A blob is immutable: its name is enough."""
    return read.model_copy(update={"content": None}) if read.key.startswith("blobs/") else read


def _published(blobs: Blobs, record: AuditRecord) -> str:
    """The record's bytes; what makes it large (input, events, the state that was found) by reference (must 8)."""
    body = record.model_dump_json(exclude_none=True)
    if len(body) <= INLINE_BYTES_MAX:
        return body
    parts = {name: to_json(getattr(record, name)) for name in ("input", "events", "found")}
    update = {name: blobs.add(part) for name, part in parts.items() if len(part) > LARGE_PART_BYTES}
    return record.model_copy(update=update).model_dump_json(exclude_none=True)


CHANGES = (StatusChanged, SessionStatusChanged, TurnReplaced, HarnessChanged)
"""Events of which a status event may follow."""


def _status_events(state: AnyState, step: Step, aggregate: Aggregate, sequence: int) -> list[OutboxEntry]:
    if not any(isinstance(event, CHANGES) for event in step.written.events):
        return []
    cause = step.given.id if isinstance(step.given, Command) else "observation"
    entries = []
    for event in step.written.events:
        after = evolve(state, event)
        change = _change(state, after, event, aggregate, cause)
        state = after
        if change:
            entries.append(
                OutboxEntry(
                    audit_seq=sequence,
                    topic="status",
                    id=f"{change.subject}/{change.subject_id}/{change.version}",
                    type=change.type,
                    time=change.at,
                    body=change.model_dump_json(),
                )
            )
    return entries


def _change(before: AnyState, after: AnyState, event: Event, aggregate: Aggregate, cause: str) -> StatusEvent | None:
    match event:
        case StatusChanged():
            return StatusEvent(
                type="workflow.status_changed",
                aggregate=aggregate,
                subject="workflow",
                subject_id=aggregate.id,
                before=event.before.value,
                after=event.after.value,
                version=after.version,
                at=event.at,
                cause=cause,
            )
        case SessionStatusChanged():
            return StatusEvent(
                type="session.status_changed",
                aggregate=aggregate,
                subject="session",
                subject_id=aggregate.id,
                before=event.before.value,
                after=event.after.value,
                version=after.version,
                at=event.at,
                cause=cause,
            )
        case TurnReplaced():
            last = before.turn if isinstance(before, SessionState) else None
            old = last.status if last and last.turn_id == event.turn.turn_id else None
            if old == event.turn.status:
                return None
            return StatusEvent(
                type="session.status_changed",
                aggregate=aggregate,
                subject="turn",
                subject_id=event.turn.turn_id,
                before=old.value if old else None,
                after=event.turn.status.value,
                version=after.version,
                at=event.at,
                cause=cause,
            )
        case HarnessChanged():
            entry = before.harnesses.get(event.harness_id) if isinstance(before, OrgState) else None
            if entry is None or entry.status == event.entry.status:
                return None
            return StatusEvent(
                type="harness.status_changed",
                aggregate=aggregate,
                subject="harness",
                subject_id=event.harness_id,
                before=str(entry.status),
                after=str(event.entry.status),
                version=event.entry.version,
                at=event.at,
                cause=cause,
            )
        case _:
            return None
