"""Step 1: from bytes to a command, or to why it is none.  Pure; nothing is looked up."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from schemas.base import Coordinates, event_id
from schemas.cloudevents import Envelope, Unreadable, identity, read
from schemas.codes import CODES
from schemas.commands import OPERATIONS, Caller, Command, Common, Personal, aggregate_of
from schemas.verdicts import FieldError, Verdict, VerdictCommand
from schemas.wording import rule
from worker.ports import Record

FUTURE_MAX = timedelta(minutes=5)
ERRORS_MAX, LOC_PARTS_MAX, NAME_CHARACTERS_MAX = 20, 20, 100


@dataclass(frozen=True, slots=True)
class Decoded:
    """A command, and apart from it what is personal."""

    command: Command
    personal: Personal


@dataclass(frozen=True, slots=True)
class Rejected:
    """Readable, but a field is wrong: a verdict."""

    verdict: Verdict
    personal: Personal


@dataclass(frozen=True, slots=True)
class Poison:
    """No readable envelope or common fields: a dead letter, and a verdict where an id could be read."""

    reason: str
    verdict: Verdict | None


def decode(record: Record, command_bytes_max: int) -> Decoded | Rejected | Poison:
    """The whole of step 1; total over any bytes."""
    at = Coordinates(partition=record.partition, offset=record.offset)
    if len(record.value or b"") > command_bytes_max:
        reason = f"value: {len(record.value or b'')} bytes are over the limit of {command_bytes_max}"
        error = Unreadable(reason, *identity(record.headers))
        return Poison(reason, _unreadable(record, at, error) if error.id else None)
    try:
        envelope = read(record.headers, record.value)
    except Unreadable as error:
        return Poison(error.reason, _unreadable(record, at, error) if error.id else None)
    operation_type = OPERATIONS.get(envelope.type)
    try:
        common = Common.model_validate(envelope.data)
    except ValidationError as error:
        errors = _errors(error)
        verdict = _rejection(record, at, envelope, None, "invalid_command", errors)
        return Poison(f"{_path(errors[0])}: {errors[0].msg}", verdict)
    personal = Personal(subject=common.actor.subject, reason=common.reason)
    if operation_type is None:
        unknown = FieldError(loc=("ce_type",), msg=f"{envelope.type!r} is not a command type", type="unknown_type")
        return Rejected(_rejection(record, at, envelope, common, "invalid_command", (unknown,)), personal)
    try:
        operation: Any = operation_type.model_validate({**envelope.data, "op": envelope.type})
    except ValidationError as error:
        errors = _errors(error)
        malformed = envelope.type == "session.cancel" and errors[0].loc == ("session_id",)
        code = "invalid_session_id" if malformed else "invalid_command"
        return Rejected(_rejection(record, at, envelope, common, code, errors), personal)
    if envelope.time > record.timestamp + FUTURE_MAX:
        return Rejected(_rejection(record, at, envelope, common, "time_in_future", ()), personal)
    aggregate = aggregate_of(operation)
    command = Command(
        id=envelope.id,
        fingerprint=fingerprint(envelope, aggregate.key, personal.subject),
        time=envelope.time,
        received_at=record.timestamp,
        at=at,
        aggregate=aggregate,
        caller=Caller.model_validate(common.actor.model_dump(exclude={"subject"})),
        correlation_id=common.correlation_id,
        expires_at=common.expires_at,
        expected_version=common.expected_version,
        dry_run=common.dry_run,
        operation=operation,
    )
    return Decoded(command, personal)


def fingerprint(envelope: Envelope, aggregate_key: str, subject: str) -> str:
    """SHA-256 over type, aggregate, actor subject and the data, without correlation id, expiry and token details."""
    data = {k: v for k, v in envelope.data.items() if k not in ("actor", "correlation_id", "expires_at")}
    whole = [envelope.type, aggregate_key, subject, data]
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def failed(command: Command, code: str, now: datetime) -> Verdict:
    """The verdict on a command that could not be decided, for a reason that is ours."""
    row = CODES[code]
    return Verdict(
        id=event_id("verdict", command.at),
        outcome=row.outcome,
        code=code,
        http_status=row.http_status,
        message=row.meaning,
        command=VerdictCommand(
            id=command.id,
            type=command.type,
            fingerprint=command.fingerprint,
            at=command.at,
            correlation_id=command.correlation_id,
        ),
        received_at=command.received_at,
        decided_at=now,
        finished_at=now,
    )


def _errors(error: ValidationError) -> tuple[FieldError, ...]:
    """Field and rule, never the value that was given; names of a producer's own are cut."""
    found = error.errors(include_url=False, include_input=False)
    return tuple(
        FieldError(loc=tuple(_cut(part) for part in e["loc"][:LOC_PARTS_MAX]), msg=rule(e)[:500], type=e["type"])
        for e in found[:ERRORS_MAX]
    )


def _cut(part: str | int) -> str | int:
    return part[:NAME_CHARACTERS_MAX] if isinstance(part, str) else part


def _path(error: FieldError) -> str:
    return ".".join(str(part) for part in error.loc) or "data"


def _rejection(
    record: Record,
    at: Coordinates,
    envelope: Envelope,
    common: Common | None,
    code: str,
    errors: tuple[FieldError, ...],
) -> Verdict:
    message = "; ".join(f"{_path(error)}: {error.msg}" for error in errors[:3])
    return _verdict(record, at, envelope.id, envelope.type, code, message, errors, common)


def _unreadable(record: Record, at: Coordinates, error: Unreadable) -> Verdict:
    return _verdict(record, at, str(error.id), error.type or "unknown", "invalid_command", error.reason, (), None)


def _verdict(
    record: Record,
    at: Coordinates,
    command_id: str,
    command_type: str,
    code: str,
    message: str,
    errors: tuple[FieldError, ...],
    common: Common | None,
) -> Verdict:
    row = CODES[code]
    return Verdict(
        id=event_id("verdict", at),
        outcome=row.outcome,
        code=code,
        http_status=row.http_status,
        message=message or row.meaning,
        command=VerdictCommand(
            id=command_id, type=command_type, at=at, correlation_id=common.correlation_id if common else None
        ),
        errors=errors,
        dry_run=common.dry_run if common else False,
        received_at=record.timestamp,
        decided_at=record.timestamp,
        finished_at=record.timestamp,
    )
