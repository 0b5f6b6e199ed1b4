"""Statuses: the canonical words, the words accepted on input, and what they mean."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema


class Status(StrEnum):
    """Of a workflow, and of a turn; `cancelled`, `succeeded` and `failed` are terminal."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


TERMINAL = (Status.CANCELLED, Status.SUCCEEDED, Status.FAILED)


class SessionStatus(StrEnum):
    """Of a session: from open there is no way back."""

    OPEN = "open"
    CLOSED = "closed"
    EXPIRED = "expired"
    DELETED = "deleted"


class HarnessStatus(StrEnum):
    """Of a harness: one way only."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    DELETED = "deleted"


ACCEPTED = {
    "canceled": "cancelled",
    "completed": "succeeded",
    "complete": "succeeded",
    "done": "succeeded",
    "saved": "succeeded",
    "error": "failed",
    "errored": "failed",
    "saving": "running",
    "pending": "created",
}


def canonical_status(value: Any) -> Any:
    """Fold the case and the accepted synonyms to the canonical word; anything else is left to fail by itself."""
    if isinstance(value, str):
        word = value.lower()
        return ACCEPTED.get(word, word)
    return value


ReportedStatus = Annotated[
    Status,
    BeforeValidator(canonical_status),
    WithJsonSchema({"type": "string", "enum": [*(status.value for status in Status), *ACCEPTED]}),
]
