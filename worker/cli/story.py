"""An aggregate's story: every decided input, who gave it and why, what it changed, and the verdicts that came of it.

Told from the audit topic, whose personal fields are opened with the subject's key, or are "erased" where that is gone;
and from the results, for records that were answered before anything was looked up.  A verdict's own personal fields
are left out, so that an erased person stays erased.
"""

from pydantic import TypeAdapter

from schemas.audit import AuditRecord
from schemas.base import Blob, Model, Time, time_text
from schemas.commands import Aggregate, Command
from schemas.documents import State
from schemas.events import (
    Cleaned,
    DetailChanged,
    Event,
    Failed,
    HarnessChanged,
    JobRecorded,
    Opened,
    Owed,
    Remembered,
    ResourceSeen,
    SessionStatusChanged,
    Settled,
    StatusChanged,
    Superseded,
    TaskRecorded,
    TurnReplaced,
)
from schemas.observations import Observed
from schemas.verdicts import Verdict
from worker.cli.printing import standing
from worker.client import Client
from worker.sealing import Sealer

ERASED = "erased"
_INPUT: TypeAdapter[Command | Observed] = TypeAdapter(Command | Observed)
_STATE: TypeAdapter[State] = TypeAdapter(State)
_EVENTS: TypeAdapter[tuple[Event, ...]] = TypeAdapter(tuple[Event, ...])


class Asked(Model):
    """The command of a chapter."""

    id: str
    """Its id."""
    type: str
    """Its type."""
    subject: str | None = None
    """Who asked; `erased`: the key to it is gone; absent: the record holds no person."""
    reason: str | None = None
    """Why; as the subject."""


class Chapter(Model):
    """One decided input."""

    at: Time
    """When it was decided."""
    audit_seq: int = 0
    """Its place in the chain; 0: a refusal, outside of it."""
    what: str
    """`command`, `observed`, or `adopted`: a state that was found, as created."""
    found: str | None = None
    """Of such a state: where it stood, for people."""
    command: Asked | None = None
    """The command, if it was one."""
    changes: tuple[str, ...] = ()
    """What it changed, for people."""
    verdicts: tuple[Verdict, ...] = ()
    """Verdicts that came of it, without personal fields."""


async def story(client: Client, sealer: Sealer, of: Aggregate) -> list[Chapter]:
    """In the order in which it was decided."""
    chapters = [await _chapter(client, sealer, record) async for record in client.audit(of)]
    told = {verdict.id for chapter in chapters for verdict in chapter.verdicts}
    async for result in client.results(of=of):
        if result.verdict.id not in told:
            told.add(result.verdict.id)
            chapters.append(_unaudited(result.verdict))
    return sorted(chapters, key=lambda chapter: (chapter.at, chapter.audit_seq))


async def _chapter(client: Client, sealer: Sealer, record: AuditRecord) -> Chapter:
    given = record.input
    if isinstance(given, Blob):
        given = _INPUT.validate_json(await client.payload(given))
    events = record.events
    if isinstance(events, Blob):
        events = _EVENTS.validate_json(await client.payload(events))
    found = record.found if record.kind == "adopted" else None
    if isinstance(found, Blob):
        found = _STATE.validate_json(await client.payload(found))
    verdicts = [event.verdict for event in events if isinstance(event, Remembered | Failed)]
    return Chapter(
        at=record.context.now,
        audit_seq=record.audit_seq,
        what="adopted" if given is None else given.kind,
        found=standing(found) if found else None,
        command=await _asked(sealer, given, record) if isinstance(given, Command) else None,
        changes=tuple(change for event in events if (change := _change(event))),
        verdicts=tuple(verdicts) if record.verdict is None else (record.verdict,),
    )


async def _asked(sealer: Sealer, given: Command, record: AuditRecord) -> Asked:
    if record.personal is None:
        return Asked(id=given.id, type=given.type)
    personal = await sealer.unseal(record.personal)
    if personal is None:
        return Asked(id=given.id, type=given.type, subject=ERASED, reason=ERASED)
    return Asked(id=given.id, type=given.type, subject=personal.subject, reason=personal.reason)


def _unaudited(verdict: Verdict) -> Chapter:
    """A record that was rejected by its shape alone: its verdict is all that there is of it."""
    command = verdict.command.model_copy(update={"subject": None, "reason": None})
    asked = Asked(id=command.id, type=command.type)
    anonymous = verdict.model_copy(update={"command": command})
    return Chapter(at=verdict.decided_at, what="command", command=asked, verdicts=(anonymous,))


def _change(event: Event) -> str:
    """An event for people; empty where its verdict says it all."""
    match event:
        case StatusChanged() | SessionStatusChanged():
            return f"{event.before} -> {event.after}"
        case DetailChanged():
            return f"phase {event.phase or 'kept'}, error {event.error_message or 'kept'}"
        case JobRecorded():
            return f"recorded job {event.job.namespace}/{event.job.name}, {event.job.uid}"
        case TaskRecorded():
            return f"recorded task {event.task.task_id} at agent {event.task.agent}"
        case TurnReplaced():
            return f"turn {event.turn.number} ({event.turn.turn_id}): {event.turn.status}"
        case HarnessChanged():
            return (
                f"harness {event.entry.name} ({event.harness_id}): version {event.entry.version}, {event.entry.status}"
            )
        case Superseded():
            return f"reported too late: {event.outcome.status}"
        case Opened():
            return f"intent recorded, deadline {time_text(event.command.deadline_at)}"
        case ResourceSeen():
            return f"{event.resource.kind} {event.resource.name}: {event.resource.evidence}"
        case Cleaned():
            return f"partial data: {event.warning or f'{event.objects} objects removed'}"
        case Owed():
            return f"left unsettled ({event.marker.why}), due {time_text(event.marker.due_at)}"
        case Settled():
            return "everything is settled"
        case _:
            return ""
