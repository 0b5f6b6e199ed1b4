"""Verdicts: the one answer to a command record."""

from typing import Annotated

from pydantic import Field

from schemas.base import Blob, Coordinates, Model, Sha256, Time
from schemas.codes import Outcome
from schemas.harness import Harness
from schemas.receipts import Receipt


class FieldError(Model):
    """Which field breaks which rule."""

    loc: tuple[str | int, ...]
    """Path of the field in the data."""
    msg: str
    """The rule, for people."""
    type: str
    """The rule, stable, snake case."""


class VerdictCommand(Model):
    """The command that is answered."""

    id: str
    """The command's id."""
    type: str
    """The command's type, such as `evaluation.cancel`."""
    fingerprint: Sha256 | None = None
    """Its fingerprint, where the record was readable."""
    at: Coordinates
    """The record that was first answered with these bytes."""
    correlation_id: str | None = None
    """As the command had it."""
    subject: str | None = None
    """The actor's subject; absent in audit records."""
    reason: str | None = None
    """The reason given; absent in audit records."""


class VerdictAggregate(Model):
    """The aggregate after the decision (for a harness update: the harness)."""

    type: str
    """`evaluation`, `custom-harness`, `session` or `harness`."""
    id: str
    """Its id."""
    version: Annotated[int, Field(ge=0)]
    """Its version after the decision."""
    status_before: str
    """Its status before (for a session: the turn's, if there is one)."""
    status_after: str
    """Its status after."""


class Verdict(Model):
    """One per command record, exactly once for readers of committed data."""

    id: str
    """The event's id: UUIDv5 of the coordinates of the record that it first answered."""
    outcome: Outcome
    """What became of it."""
    code: str
    """Stable, snake case; the table is in codes."""
    http_status: Annotated[int, Field(ge=200, le=599)]
    """What the API tier answers."""
    message: str
    """For people."""
    command: VerdictCommand
    """What was asked."""
    aggregate: VerdictAggregate | None = None
    """What it was about; absent in a 403, 404, 412 or where nothing was looked up."""
    receipt: Receipt | None = None
    """The evidence, where something was to be stopped."""
    harness: Harness | Blob | None = None
    """The whole stored harness, or its reference where it is over 64 KiB (harness.update)."""
    errors: tuple[FieldError, ...] = ()
    """What is wrong with the fields."""
    dry_run: bool = False
    """Nothing was changed: this says what would have happened."""
    would: tuple[str, ...] = ()
    """Effects that a dry run would have had, for people."""
    received_at: Time
    """The record's timestamp."""
    decided_at: Time
    """When the command was first decided."""
    finished_at: Time
    """When the verdict was decided."""
