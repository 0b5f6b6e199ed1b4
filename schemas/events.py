"""Events: what a decision did to a state.  `evolve` folds them; audit records hold them."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import CommandId, Coordinates, Model, Time, Token
from schemas.documents import (
    Answered,
    Failure,
    Job,
    OpenCommand,
    ReportedOutcome,
    Task,
    Teardown,
    Turn,
    Unsettled,
)
from schemas.harness import HarnessEntry
from schemas.receipts import ResourceReceipt
from schemas.status import SessionStatus, Status
from schemas.verdicts import Verdict


class StatusChanged(Model):
    """A workflow's status changed: version +1, and a status event."""

    kind: Literal["status_changed"] = "status_changed"
    before: Status
    """Status before."""
    after: Status
    """Status after."""
    at: Time
    """When it was decided."""
    error_message: str | None = None
    """Why it failed, where it did."""


class DetailChanged(Model):
    """A workflow's phase or error changed under the same status: version +1, no status event."""

    kind: Literal["detail_changed"] = "detail_changed"
    phase: str | None = None
    """The new phase; None keeps."""
    error_message: str | None = None
    """The new message; None keeps."""


class JobRecorded(Model):
    """A Job became known."""

    kind: Literal["job_recorded"] = "job_recorded"
    job: Job
    """The Job."""


class TaskRecorded(Model):
    """A task became known."""

    kind: Literal["task_recorded"] = "task_recorded"
    task: Task
    """The task."""


class TurnReplaced(Model):
    """The last turn is new, or changed: version +1; a status event where the status changed."""

    kind: Literal["turn_replaced"] = "turn_replaced"
    turn: Turn
    """The turn as it is now."""
    at: Time
    """When it was decided."""


class SessionStatusChanged(Model):
    """The session was closed, expired or deleted: version +1, and a status event."""

    kind: Literal["session_status_changed"] = "session_status_changed"
    before: SessionStatus
    """Status before."""
    after: SessionStatus
    """Status after."""
    at: Time
    """When it was decided."""


class HarnessChanged(Model):
    """A harness has a new body, and perhaps name, parent or status: its version +1; a status event on archiving."""

    kind: Literal["harness_changed"] = "harness_changed"
    harness_id: Token
    """The harness."""
    entry: HarnessEntry
    """The directory's entry as it is now."""
    at: Time
    """When it was decided."""


class Superseded(Model):
    """An outcome of a workflow, or of the last turn, was reported too late: no change that a user can see."""

    kind: Literal["outcome_superseded"] = "outcome_superseded"
    outcome: ReportedOutcome
    """What was reported."""


class Opened(Model):
    """A command's intent is recorded; the teardown is as strong as it now says."""

    kind: Literal["opened"] = "opened"
    command: OpenCommand
    """The command in flight."""
    teardown: Teardown | None = None
    """How the teardown goes about it from now on (workflow)."""


class ResourceSeen(Model):
    """The evidence of one Job, task or turn."""

    kind: Literal["resource_seen"] = "resource_seen"
    resource: ResourceReceipt
    """What became of it."""


class Cleaned(Model):
    """Partial data was removed, or could not be."""

    kind: Literal["cleaned"] = "cleaned"
    objects: int
    """Objects removed."""
    warning: str | None = None
    """Why it did not work."""


class Remembered(Model):
    """A command got a 2xx verdict; it is no longer open."""

    kind: Literal["remembered"] = "remembered"
    entry: Answered
    """What is remembered."""
    verdict: Verdict
    """The verdict, without its personal fields."""


class Failed(Model):
    """A command got another verdict by a write; it is no longer open."""

    kind: Literal["failed"] = "failed"
    entry: Failure
    """What is kept until its commit is known."""
    verdict: Verdict
    """The verdict, without its personal fields."""


class Forgotten(Model):
    """Entries leave the memory, as their commits are known."""

    kind: Literal["forgotten"] = "forgotten"
    answered: tuple[CommandId, ...] = ()
    """Ids that leave `answered`, oldest first."""
    failures: tuple[Coordinates, ...] = ()
    """Records that leave `failures`."""
    horizon: Time | None = None
    """The horizon from now on."""


class Owed(Model):
    """A marker was written: something is not settled."""

    kind: Literal["owed"] = "owed"
    marker: Unsettled
    """The marker."""


class Settled(Model):
    """What these markers asked for is settled: they go."""

    kind: Literal["settled"] = "settled"
    audit_seqs: tuple[int, ...]
    """Of the markers."""


Event = Annotated[
    StatusChanged
    | DetailChanged
    | JobRecorded
    | TaskRecorded
    | TurnReplaced
    | SessionStatusChanged
    | HarnessChanged
    | Superseded
    | Opened
    | ResourceSeen
    | Cleaned
    | Remembered
    | Failed
    | Forgotten
    | Owed
    | Settled,
    Field(discriminator="kind"),
]
