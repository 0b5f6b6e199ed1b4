"""CloudEvents 1.0 on Kafka: binary mode in headers (`ce_*`), structured mode in the value; and our events out."""

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from schemas.base import CommandId, Time, time_text

SPEC_VERSION = "1.0"
SCHEMA_MAJOR = 1
TYPE_CHARACTERS_MAX = 200
SOURCE = "verdict-worker"
_ID: TypeAdapter[str] = TypeAdapter(CommandId)
_TIME: TypeAdapter[datetime] = TypeAdapter(Time)
REQUIRED = ("specversion", "id", "source", "type", "time")


class Envelope(NamedTuple):
    """A readable envelope and the data as received."""

    id: str
    type: str
    source: str
    time: datetime
    data: dict[str, Any]


class Unreadable(Exception):
    """No readable envelope; `reason` names field and rule, `id` and `type` are what could be read."""

    def __init__(self, reason: str, id: str | None = None, type: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.id, self.type = reason, id, type


def read(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> Envelope:
    """Binary or structured mode.  Raises Unreadable."""
    fields: dict[str, Any] = {}
    content_type = ""
    for name, raw in headers:
        lowered = name.lower()
        if lowered == "content-type":
            content_type = raw.decode("latin-1").lower()
        elif lowered.startswith("ce_"):
            fields[lowered[3:]] = raw.decode("utf-8", "replace")
    data = _json(value)
    if content_type.startswith("application/cloudevents+json"):
        if not isinstance(data, dict):
            raise Unreadable("value: a structured CloudEvent must be a JSON object")
        fields, data = {k: v for k, v in data.items() if k != "data"}, _structured_data(data)
    command_id, kind = _identity(fields)
    for name in REQUIRED:
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise Unreadable(f"ce_{name}: missing", command_id, kind)
    if len(fields["type"]) > TYPE_CHARACTERS_MAX:
        raise Unreadable(f"ce_type: at most {TYPE_CHARACTERS_MAX} characters", command_id, None)
    if fields["specversion"] != SPEC_VERSION:
        raise Unreadable(f"ce_specversion: must be {SPEC_VERSION}", command_id, kind)
    if command_id is None:
        raise Unreadable("ce_id: 1 to 200 characters of letters, digits and ._:/+=-", None, kind)
    if (major := _major(fields.get("dataschema"))) not in (None, SCHEMA_MAJOR):
        raise Unreadable(f"ce_dataschema: major {major} is not known, only {SCHEMA_MAJOR}", command_id, kind)
    try:
        time = _TIME.validate_python(fields["time"])
    except ValidationError as error:
        raise Unreadable("ce_time: must be an RFC 3339 time with an offset", command_id, kind) from error
    if isinstance(data, Unreadable):
        raise Unreadable(data.reason, command_id, kind)
    if not isinstance(data, dict):
        raise Unreadable("data: must be a JSON object", command_id, kind)
    return Envelope(command_id, fields["type"], fields["source"], time, data)


def _json(value: bytes | None) -> Any:
    """The value as JSON; an Unreadable (returned) where it is none, so that the id can still be looked for."""
    try:
        return from_json(value or b"", allow_inf_nan=False)
    except ValueError as error:
        return Unreadable(f"data: must be JSON ({error})"[:300])


def _structured_data(event: dict[str, Any]) -> Any:
    """`data`, or the JSON in `data_base64` (CloudEvents' JSON format, section 3.1)."""
    if "data" in event or not isinstance(event.get("data_base64"), str):
        return event.get("data")
    try:
        return _json(base64.b64decode(event["data_base64"], validate=True))
    except ValueError:
        return Unreadable("data_base64: must be base64")


def identity(headers: Iterable[tuple[str, bytes]]) -> tuple[str | None, str | None]:
    """-> (id, type) as far as the headers tell; the value is not looked at."""
    fields = {name.lower()[3:]: raw.decode("utf-8", "replace") for name, raw in headers if name[:3].lower() == "ce_"}
    return _identity(fields)


def _identity(fields: dict[str, Any]) -> tuple[str | None, str | None]:
    kind = fields.get("type")
    kind = kind if isinstance(kind, str) and len(kind) <= TYPE_CHARACTERS_MAX else None
    try:
        return _ID.validate_python(fields.get("id")), kind
    except ValidationError:
        return None, kind


def _major(dataschema: Any) -> int | None:
    """The number after the last `/v` or `/` of a dataschema, such as `.../evaluation.cancel/v1`; None: not given."""
    if not isinstance(dataschema, str) or not dataschema:
        return None
    digits = dataschema.rsplit("/", 1)[-1].removeprefix("v").split(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0


def headers(
    *,
    id: str,
    type: str,
    time: datetime,
    subject: str,
    source: str = SOURCE,
    content_type: str = "application/json",
    extra: tuple[tuple[str, bytes], ...] = (),
) -> tuple[tuple[str, bytes], ...]:
    """Binary mode headers of an event whose value is its data."""
    return (
        ("ce_specversion", SPEC_VERSION.encode()),
        ("ce_id", id.encode()),
        ("ce_type", type.encode()),
        ("ce_source", source.encode()),
        ("ce_time", time_text(time).encode()),
        ("ce_subject", subject.encode()),
        ("content-type", content_type.encode()),
        *extra,
    )
