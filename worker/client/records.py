"""What the topics hold, as values: verdicts with the record that they answer, dead letters as they were.  Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from schemas.base import Blob, Coordinates
from schemas.verdicts import Verdict
from worker.client.messages import invalid
from worker.errors import Misconfigured
from worker.ports import Headers, Record

M = TypeVar("M", bound=BaseModel)
ORIGINAL = "original-"


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one command record, `at`: its bytes as published, and what they say."""

    at: Coordinates
    body: bytes
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that nobody could act on: where it stood, why it is here, and what it was.

    `value` and `headers` are the original's; over 64 KiB a value comes by reference (`Client.payload` has the bytes).
    """

    at: Coordinates
    time: datetime
    reason: str
    key: bytes | None
    headers: Headers
    value: bytes | Blob


def payload_of(record: Record) -> bytes | Blob:
    """The value, or its reference (design, must 8).  Raises Misconfigured."""
    value = record.value or b""
    return parse(Blob, value, record) if header(record, "ce_dataref") is not None else value


def answered(record: Record) -> Coordinates:
    """The command record that a result answers.  Raises Misconfigured."""
    return _coordinates(record, "verdict")


def dead_letter(record: Record) -> DeadLetter:
    """Raises Misconfigured."""
    original = [(name.removeprefix(ORIGINAL), text) for name, text in record.headers if name.startswith(ORIGINAL)]
    return DeadLetter(
        at=_coordinates(record, "dead-letter"),
        time=record.timestamp,
        reason=(header(record, "dead-letter-reason") or b"").decode("utf-8", "replace"),
        key=record.key,
        headers=tuple(original),
        value=payload_of(record),
    )


def parse(model: type[M], body: bytes, record: Record) -> M:
    """Raises Misconfigured, which says where the record stands that is none of ours."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Misconfigured(f"{_where(record)}: is no {model.__name__}: {invalid(error)}") from None


def header(record: Record, name: str) -> bytes | None:
    """The first header of this name."""
    return next((text for each, text in record.headers if each == name), None)


def _coordinates(record: Record, what: str) -> Coordinates:
    partition, offset = header(record, f"{what}-partition"), header(record, f"{what}-offset")
    try:
        return Coordinates(partition=int(partition or b""), offset=int(offset or b""))
    except ValueError:
        raise Misconfigured(f"{_where(record)}: does not say which command record it is about") from None


def _where(record: Record) -> str:
    return f"{record.topic.value} {record.partition}:{record.offset}"
