"""Documents: an aggregate's state as one JSON object in the store, replaced only by compare-and-set.

Whoever creates an aggregate writes `{"state": {...}}` once, only if absent; everything else has a default.
The state is what `evolve` folds, and what the audit chain covers.
"""

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Blob, CommandId, Coordinates, Identity, Model, SessionId, Sha256, Time, Token, Uuid
from schemas.commands import Aggregate, Owner, Personal
from schemas.harness import HarnessEntry
from schemas.receipts import ResourceReceipt
from schemas.status import SessionStatus, Status

Version = Annotated[int, Field(ge=0)]


class OpenCommand(Model):
    """A command whose intent is recorded and whose verdict is not: effects run for it."""

    id: CommandId
    """The command."""
    type: str
    """Its type."""
    fingerprint: Sha256
    """Its fingerprint."""
    time: Time
    """Its ce_time."""
    at: Coordinates
    """The record that was decided."""
    received_at: Time
    """That record's timestamp."""
    decided_at: Time
    """When the intent was decided."""
    deadline_at: Time
    """Answered at the latest then; absolute, and kept on resume."""
    status_before: str
    """Status before the intent."""
    correlation_id: str | None = None
    """Carried into the verdict."""
    marker: str | None = None
    """Of a resume: the marker that asked for it."""


class Answered(Model):
    """A command with a 2xx verdict, remembered: the same id and fingerprint again gets the same bytes."""

    id: CommandId
    """The command."""
    fingerprint: Sha256
    """Its fingerprint."""
    time: Time
    """Its ce_time, to which the horizon rises when this entry leaves."""
    at: Coordinates
    """The record first answered."""
    code: str
    """The verdict's code."""
    verdict_sha256: Sha256
    """SHA-256 of the verdict without its personal fields."""


class Failure(Model):
    """A refusal or failure decided with a write, known by its record's coordinates until its commit is known."""

    id: CommandId
    """The command."""
    at: Coordinates
    """The record."""
    code: str
    """The verdict's code."""
    verdict_sha256: Sha256
    """SHA-256 of the verdict without its personal fields."""


class Unconfirmed(Model):
    """A command that was answered 5xx while its teardown goes on: asked again under its own id, it resumes that."""

    id: CommandId
    """The command."""
    fingerprint: Sha256
    """Its fingerprint."""


class Teardown(Model):
    """How the running teardown goes about it: the strongest of what was asked."""

    mode: Literal["graceful", "force"]
    """The higher of the modes."""
    grace_period_seconds: Annotated[int, Field(ge=0)]
    """The shorter of the graces, in seconds."""
    cleanup: bool
    """Whether anybody asked for it."""
    begun_at: Time
    """When the first of its commands was decided: the grace runs from then."""


class Unsettled(Model):
    """A marker that the reconciler finds, at `unsettled/{key}/{audit_seq}`."""

    audit_seq: Annotated[int, Field(ge=0)]
    """The decision that wrote it."""
    why: Literal["unconfirmed", "sweep"]
    """Not seen gone, or a later sweep after `forced`."""
    due_at: Time
    """Not before this time."""


class StateBase(Model):
    """What every aggregate's state has."""

    version: Version = 0
    """+1 per change that a user can see; `expected_version` speaks of it."""
    open: tuple[OpenCommand, ...] = ()
    """Commands in flight, in the order in which they were decided."""
    answered: tuple[Answered, ...] = ()
    """The last commands with a 2xx verdict, oldest first; 128 are kept."""
    failures: tuple[Failure, ...] = ()
    """Refusals and failures decided with a write, until their commit is known."""
    unconfirmed: tuple[Unconfirmed, ...] = ()
    """Commands answered 5xx since the recorded teardown began; the last 128."""
    horizon: Time | None = None
    """The latest ce_time that has left `answered`."""
    unsettled: tuple[Unsettled, ...] = ()
    """Markers that exist for this aggregate."""


class Job(Model):
    """A Job recorded for an evaluation."""

    namespace: str
    """Namespace (embedded: `local`)."""
    name: str
    """Name."""
    uid: Identity
    """The identity."""
    owner: Owner | None = None
    """The object above it, if one would create it again, as apiVersion/kind/name/uid."""
    recorded_at: Time | None = None
    """When it became known, where that was later than the document."""
    gone: ResourceReceipt | None = None
    """The evidence, once it was seen gone."""


class Task(Model):
    """A task recorded for a creation."""

    agent: Token
    """The agent's name in the settings."""
    task_id: Token
    """The task."""
    session_id: Token | None = None
    """The agent's session."""
    gone: ResourceReceipt | None = None
    """The evidence, once it was seen ended."""


class ReportedOutcome(Model):
    """An outcome that was reported after a cancel: superseded, and adopted only if the remote side proves it."""

    status: Status
    """The outcome."""
    phase: str | None = None
    """As reported."""
    error_message: str | None = None
    """As reported."""


class WorkflowState(StateBase):
    """An evaluation, or the creation of a custom harness."""

    kind: Literal["workflow"] = "workflow"
    workflow_id: Uuid
    """The workflow; an evaluation's is its evaluation id."""
    purpose: Literal["evaluation", "custom_harness"] = "evaluation"
    """What it is the workflow of."""
    team_id: Token
    """The team that owns it."""
    harness_id: Uuid | None = None
    """Of a creation: the custom harness."""
    status: Status = Status.CREATED
    """Where it stands."""
    phase: str | None = None
    """A finer step within the status."""
    error_message: str | None = None
    """Why it failed."""
    created_at: Time | None = None
    """When it was created."""
    started_at: Time | None = None
    """When it was first reported starting or running."""
    completed_at: Time | None = None
    """When it became terminal."""
    jobs: tuple[Job, ...] = ()
    """Jobs recorded for it, in the order in which they became known."""
    workflow_specific_fields: Task | None = None
    """The task at an agent, if the creation has one."""
    earlier_tasks: tuple[Task, ...] = ()
    """Tasks reported before the one above."""
    reported_outcome: ReportedOutcome | None = None
    """An outcome that was reported too late."""
    teardown: Teardown | None = None
    """How the recorded teardown goes about it."""
    cleaned: bool = False
    """Whether partial data was removed since everything stopped."""
    objects_removed: int = 0
    """Partial objects removed so far."""
    warnings: tuple[str, ...] = ()
    """What did not go well; the last 10."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks, oldest first."""
        last = self.workflow_specific_fields
        return (*self.earlier_tasks, last) if last else self.earlier_tasks


class Turn(Model):
    """The last turn of a session; an older one's status never changes again."""

    turn_id: Token
    """The turn."""
    number: Annotated[int, Field(ge=1)]
    """Counts the turns of the session."""
    status: Status
    """Where it stands."""
    reason: str | None = None
    """Why it was cancelled."""
    error_message: str | None = None
    """Why it failed."""
    reported_outcome: ReportedOutcome | None = None
    """An outcome that was reported too late."""
    gone: ResourceReceipt | None = None
    """The evidence, once it was seen stopped."""


class SessionState(StateBase):
    """A session and its last turn."""

    kind: Literal["session"] = "session"
    session_id: SessionId
    """The session, `<ulid>.<zone>`."""
    tenant: Token | None = None
    """The tenant that owns it."""
    status: SessionStatus = SessionStatus.OPEN
    """Whether it can be used."""
    turn: Turn | None = None
    """The last turn."""


class OrgState(StateBase):
    """An org's directory of harnesses: it alone decides names, parents, status and default."""

    kind: Literal["org"] = "org"
    org_id: Token
    """The org."""
    default: str | None = None
    """Id of the default harness."""
    models: tuple[str, ...] = ()
    """Models that the org knows."""
    capabilities: tuple[str, ...] = ()
    """Capability refs that the org knows."""
    harnesses: dict[str, HarnessEntry] = {}
    """By harness id; deleted ones included."""


State = Annotated[WorkflowState | SessionState | OrgState, Field(discriminator="kind")]


class HarnessMetadata(Model):
    """`custom-harnesses/{harness_id}/metadata.json`: leads from a custom harness to its creation workflow."""

    harness_id: Uuid
    """The custom harness."""
    team_id: Token
    """The team that owns it."""
    workflow_id: Uuid | None = None
    """Its creation workflow, once there is one."""
    status: str = "draft"
    """Stays `draft` when the creation is cancelled."""


class Chain(Model):
    """The head of the audit chain."""

    audit_seq: Annotated[int, Field(ge=0)] = 0
    """Audit records so far."""
    record_sha256: Sha256 | None = None
    """SHA-256 of the last record's bytes, as published."""
    state_sha256: Sha256 | None = None
    """Digest of the state after it."""


class OutboxEntry(Model):
    """A record to be published, kept until a transaction that held it is known to have committed."""

    audit_seq: Annotated[int, Field(ge=0)]
    """The decision that it belongs to."""
    topic: Literal["status", "audit"]
    """Where it goes."""
    id: str
    """The event's id."""
    type: str
    """The event's type."""
    time: Time
    """The event's time."""
    body: str
    """The value, exactly as published."""


class Document(Model):
    """One aggregate as it is stored."""

    state: State
    """What `evolve` folds."""
    write_id: str = ""
    """Fresh in each write, so that ETags never repeat."""
    revision: Annotated[int, Field(ge=0)] = 0
    """+1 per write."""
    chain: Chain = Chain()
    """Head of the audit chain."""
    personal: dict[str, Personal] = {}
    """Of open commands, by command id."""
    verdicts: dict[str, str | Blob] = {}
    """Verdicts as published, by the coordinates `partition:offset` of the record first answered."""
    outbox: tuple[OutboxEntry, ...] = ()
    """Status events and audit records not yet known to be published."""


def coordinates_key(at: Coordinates) -> str:
    """`partition:offset`, the key of a remembered verdict."""
    return f"{at.partition}:{at.offset}"


def digest(state: WorkflowState | SessionState | OrgState) -> str:
    """SHA-256 of a state: its JSON in the order of the schema, where each answered entry is its own SHA-256.

    So a state with a long memory costs no more than one with none: an entry's hash is taken once and kept with it.
    """
    core = state.model_copy(update={"answered": ()})
    entries = b"".join(_entry_digest(entry) for entry in state.answered)
    return hashlib.sha256(core.model_dump_json().encode() + b"\n" + entries).hexdigest()


def _entry_digest(entry: Answered) -> bytes:
    kept = entry.__dict__.get("_digest")
    if kept is None:
        kept = hashlib.sha256(entry.model_dump_json().encode()).digest()
        entry.__dict__["_digest"] = kept
    return bytes(kept)


def aggregate_of_state(state: WorkflowState | SessionState | OrgState) -> Aggregate:
    """The aggregate whose record key its events carry."""
    match state:
        case WorkflowState(purpose="custom_harness", harness_id=str(harness_id)):
            return Aggregate(type="custom-harness", id=harness_id)
        case WorkflowState():
            return Aggregate(type="evaluation", id=state.workflow_id)
        case SessionState():
            return Aggregate(type="session", id=state.session_id)
        case OrgState():
            return Aggregate(type="org", id=state.org_id)
