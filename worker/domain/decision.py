"""What a decider returns, and the draft in which it works.  Knows no aggregate in particular."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from schemas.base import event_id
from schemas.codes import CODES
from schemas.commands import Command
from schemas.documents import Answered, Failure, OpenCommand, OrgState, SessionState, WorkflowState
from schemas.events import Event, Failed, Remembered
from schemas.receipts import Receipt
from schemas.verdicts import FieldError, Verdict, VerdictAggregate, VerdictCommand

AnyState = WorkflowState | SessionState | OrgState
S = TypeVar("S", bound=AnyState)


@dataclass(frozen=True, slots=True)
class Known:
    """Answered before, by this entry: the same bytes again."""

    entry: Answered | Failure


@dataclass(frozen=True, slots=True)
class Waiting:
    """The command is open: this record waits for the same verdict."""

    command_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal or a dry run: no write, unless the reason lies outside of the document (`fences`, must 9)."""

    verdict: Verdict
    fences: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """Events to be folded and made durable in one conditional write; `state` is what they fold to."""

    events: tuple[Event, ...]
    state: AnyState
    blobs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Nothing:
    """An observation that the document knows already."""


Decision = Known | Waiting | Refused | Written | Nothing


class Draft(Generic[S]):
    """A state while it is being decided on: every event is folded at once, so later rules see it."""

    def __init__(self, state: S, fold: Callable[[S, Event], S]) -> None:
        self.state: S = state
        self.events: list[Event] = []
        self._fold: Callable[[S, Event], S] = fold

    def emit(self, event: Event) -> None:
        self.state = self._fold(self.state, event)
        self.events.append(event)

    def remember(self, command: Command | OpenCommand, verdict: Verdict) -> None:
        entry = Answered(
            id=command.id,
            fingerprint=command.fingerprint,
            time=command.time,
            at=command.at,
            code=verdict.code,
            verdict_sha256=verdict_sha256(verdict),
        )
        self.emit(Remembered(entry=entry, verdict=verdict))

    def fail(self, command: Command | OpenCommand, verdict: Verdict) -> None:
        entry = Failure(id=command.id, at=command.at, code=verdict.code, verdict_sha256=verdict_sha256(verdict))
        self.emit(Failed(entry=entry, verdict=verdict))

    def decision(self) -> Written | Nothing:
        return Written(tuple(self.events), self.state) if self.events else Nothing()


def verdict_sha256(verdict: Verdict) -> str:
    """SHA-256 of a verdict without its personal fields, as its JSON in the order of the schema."""
    return hashlib.sha256(verdict.model_dump_json().encode()).hexdigest()


def verdict_on(
    command: Command | OpenCommand,
    code: str,
    now: datetime,
    *,
    message: str | None = None,
    aggregate: VerdictAggregate | None = None,
    receipt: Receipt | None = None,
    errors: tuple[FieldError, ...] = (),
    **more: object,
) -> Verdict:
    """The verdict of this code on a command; outcome and HTTP status stand in the table of codes."""
    row = CODES[code]
    decided_at = command.decided_at if isinstance(command, OpenCommand) else now
    return Verdict.model_validate(
        {
            "id": event_id("verdict", command.at),
            "outcome": row.outcome,
            "code": code,
            "http_status": row.http_status,
            "message": message or row.meaning,
            "command": VerdictCommand(
                id=command.id,
                type=command.type,
                fingerprint=command.fingerprint,
                at=command.at,
                correlation_id=command.correlation_id,
            ),
            "aggregate": aggregate,
            "receipt": receipt,
            "errors": errors,
            "dry_run": isinstance(command, Command) and command.dry_run,
            "received_at": command.received_at,
            "decided_at": decided_at,
            "finished_at": now,
            **more,
        }
    )


def refuse(
    command: Command,
    code: str,
    now: datetime,
    *,
    message: str | None = None,
    aggregate: VerdictAggregate | None = None,
    errors: tuple[FieldError, ...] = (),
    fences: bool = False,
) -> Refused:
    """A refusal; a 403 or 404 must carry no aggregate."""
    verdict = verdict_on(command, code, now, message=message, aggregate=aggregate, errors=errors)
    return Refused(verdict, fences)
