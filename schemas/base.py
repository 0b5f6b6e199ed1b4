"""What every published model shares: frozen, unknown keys ignored, exact scalars, times in UTC; and the ids."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID, uuid5

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Model(BaseModel):
    """Immutable; unknown keys are ignored (contract, section 2)."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Fields are described by the texts below them."""
        from schemas.docstrings import field_texts

        made = handler(schema)
        properties = handler.resolve_ref_schema(made)["properties"]
        for name, text in field_texts(cls).items():
            properties[name]["description"] = text
        return made


RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _time_text(value: Any) -> Any:
    """A time is RFC 3339 text with an offset (or a datetime made by us); a bare number is refused."""
    if isinstance(value, datetime) or (isinstance(value, str) and RFC3339.fullmatch(value)):
        return value
    raise ValueError("must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z")


def to_milliseconds(value: datetime) -> datetime:
    """UTC, cut to whole milliseconds, so that text and value agree."""
    try:
        value = value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a time between the years 1 and 9999 in UTC") from error
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


@lru_cache(maxsize=4096)
def time_text(value: datetime) -> str:
    """`2026-01-31T12:00:00.000Z`, of a time in UTC."""
    return value.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


Time = Annotated[
    datetime,
    BeforeValidator(_time_text),
    AfterValidator(to_milliseconds),
    PlainSerializer(time_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{RFC3339.pattern}$"}),
]

UUID_TEXT = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
ULID_TEXT = r"[0-7][0-9a-hjkmnp-tv-z]{25}"
SESSION_TEXT = rf"{ULID_TEXT}\.[a-z0-9]([a-z0-9-]{{0,30}}[a-z0-9])?"


def _fold(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _published(pattern: str) -> WithJsonSchema:
    """A folded id in its canonical form, which pydantic leaves out behind a validator; upper case is lenience."""
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


Uuid = Annotated[
    str, BeforeValidator(_fold), StringConstraints(strict=True, pattern=f"^{UUID_TEXT}$"), _published(UUID_TEXT)
]
SessionId = Annotated[
    str, BeforeValidator(_fold), StringConstraints(strict=True, pattern=f"^{SESSION_TEXT}$"), _published(SESSION_TEXT)
]
Token = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
"""An opaque id of a party outside (task, turn, org, team, tenant, agent): 1 to 128 characters of a safe set."""
CommandId = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,199}$")]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
DnsLabel = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
DnsName = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Identity = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$")]
"""A uid that is never used again."""


class Coordinates(Model):
    """Where a command record stands in the commands topic."""

    partition: Annotated[int, Field(ge=0)]
    """Partition of the commands topic."""
    offset: Annotated[int, Field(ge=0)]
    """Offset in that partition."""


EVENTS = UUID("6f1b1d0e-52a1-5c0e-9d5b-3c1f6f0c7a11")


def event_id(what: str, at: Coordinates) -> str:
    """UUIDv5 of coordinates: the same record always gives the same event id."""
    return str(uuid5(EVENTS, f"{what}/{at.partition}/{at.offset}"))


INLINE_BYTES_MAX = 64 * 1024
"""Larger payloads travel as reference (design, must 8)."""


class Blob(Model):
    """A payload that travels as reference, at `blobs/{sha256}` in the store: immutable, never collected."""

    sha256: Sha256
    """SHA-256 of the bytes, which is also the last part of the key."""
    bytes: Annotated[int, Field(ge=0)]
    """Size in bytes."""

    @property
    def key(self) -> str:
        return f"blobs/{self.sha256}"

    @property
    def inline(self) -> bool:
        """Whether the payload may stand in a record itself."""
        return self.bytes <= INLINE_BYTES_MAX
