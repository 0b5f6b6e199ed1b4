"""Commands on their way out: checked against the published schema, with the key that orders them.  Pure but for ids.

Knows nothing of streams and stores.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from schemas.base import CommandId, SessionId, Token, Uuid, to_milliseconds
from schemas.cloudevents import headers
from schemas.commands import OPERATIONS, Aggregate, Common, aggregate_of
from schemas.verdicts import FieldError
from schemas.wording import rule
from worker.errors import WorkerError
from worker.ports import Headers, Outgoing, Topic

SOURCE = "verdict-worker-client"
_COMMAND_ID: TypeAdapter[str] = TypeAdapter(CommandId)
_IDS: dict[str, TypeAdapter[str]] = {
    "evaluation": TypeAdapter(Uuid),
    "custom-harness": TypeAdapter(Uuid),
    "session": TypeAdapter(SessionId),
    "org": TypeAdapter(Token),
}
KINDS = tuple(_IDS)
"""Kinds of aggregates."""


class Invalid(WorkerError):
    """What was given breaks the published schema, so nothing was published; `errors` name fields and rules."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(f"{path(error)}: {error.msg}" for error in errors))
        self.errors = errors


def path(error: FieldError) -> str:
    """Where a field stands; `data`: the whole."""
    return ".".join(str(part) for part in error.loc) or "data"


@dataclass(frozen=True, slots=True)
class Message:
    """A command as it is published; published again, it is the same command once more (id and time stay)."""

    id: str
    type: str
    time: datetime
    key: str
    outgoing: Outgoing


def prepare(
    type: str,
    data: Mapping[str, Any],
    *,
    id: str | None = None,
    time: datetime | None = None,
    source: str = SOURCE,
    extra: Headers = (),
) -> Message:
    """A command whose data keeps to the published schema; it travels as it was given.  Raises Invalid.

    `id` and `time` are fresh unless given; whoever repeats a command repeats both.  `extra`: further headers, such as
    `traceparent` or `ce_dataschema`.
    """
    model = OPERATIONS.get(type)
    if model is None:
        raise Invalid((FieldError(loc=("type",), msg=f"{type!r} is not a command type", type="unknown_type"),))
    try:
        Common.model_validate(data)
        key = aggregate_of(model.model_validate({**data, "op": type})).key
    except ValidationError as error:
        raise invalid(error) from None
    return message(type, data, key, id=id, time=time, source=source, extra=extra)


def message(
    type: str,
    data: Mapping[str, Any],
    key: str,
    *,
    id: str | None = None,
    time: datetime | None = None,
    source: str = SOURCE,
    extra: Headers = (),
) -> Message:
    """A command whose data nobody has checked: the worker does, and answers.  Raises Invalid for the id."""
    command_id = _checked(_COMMAND_ID, "id", str(uuid4()) if id is None else id)
    time = to_milliseconds(datetime.now(UTC) if time is None else time)
    ce = headers(id=command_id, type=type, time=time, subject=key, source=source, extra=extra)
    value = json.dumps(data, allow_nan=False).encode()
    return Message(command_id, type, time, key, Outgoing(Topic.COMMANDS, key.encode(), value, ce))


def aggregate(kind: str, id: str) -> Aggregate:
    """What commands act on, by kind (see KINDS) and id, which is folded to its canonical form.  Raises Invalid."""
    if kind not in _IDS:
        message = f"must be one of {', '.join(KINDS)}"
        raise Invalid((FieldError(loc=("kind",), msg=message, type="unknown_kind"),))
    return Aggregate.model_validate({"type": kind, "id": _checked(_IDS[kind], "id", id)})


def invalid(error: ValidationError, *at: str) -> Invalid:
    """Fields and rules, never the values that were given."""
    found = error.errors(include_url=False, include_input=False)
    return Invalid(tuple(FieldError(loc=(*at, *e["loc"]), msg=rule(e), type=e["type"]) for e in found[:20]))


def _checked(adapter: TypeAdapter[str], name: str, value: str) -> str:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise invalid(error, name) from None
