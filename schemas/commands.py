"""Commands: what the API tier publishes.  A record's data is the common fields and those of one operation.

`Common` is validated first: without it there is nobody to answer (dead letter).  The operation's own fields come
after it: a wrong one is a rejected verdict.  `Command` is what a decider sees: it has no personal field.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StringConstraints, model_validator

from schemas.base import (
    CommandId,
    Coordinates,
    DnsLabel,
    DnsName,
    Identity,
    Model,
    SessionId,
    Sha256,
    Time,
    Token,
    Uuid,
)
from schemas.status import ReportedStatus, SessionStatus

Permission = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z][a-z_-]*:[a-z][a-z_-]*$", max_length=64)]
Text1K = Annotated[str, StringConstraints(strict=True, max_length=1024)]
Owner = Annotated[
    str,
    StringConstraints(
        strict=True,
        max_length=600,
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[a-z]([-a-z0-9]{0,61}[a-z0-9])?/"
        r"[A-Za-z]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?/[A-Za-z0-9][A-Za-z0-9._:-]{0,252}/[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$",
    ),
]
"""An object of a cluster as apiVersion/kind/name/uid; apiVersion is a version, or group/version."""
ONE_AGGREGATE = ConfigDict(json_schema_extra={"oneOf": [{"required": ["evaluation_id"]}, {"required": ["harness_id"]}]})


class Caller(Model):
    """The part of an actor that decisions look at."""

    team_ids: Annotated[tuple[Token, ...], Field(max_length=256)] = ()
    """Teams that the actor belongs to; at most 256."""
    permissions: Annotated[tuple[Permission, ...], Field(max_length=256)] = ()
    """Permissions that the actor's token carries, such as `agent:write`; at most 256."""
    org_id: Token | None = None
    """The actor's org, where the operation is about an org."""
    tenant: Token | None = None
    """The actor's tenant, where the operation is about a session."""


class Actor(Caller):
    """Who asks."""

    subject: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=256)]
    """The actor's identity as the API tier knows it, 1 to 256 characters: personal, encrypted in audit records."""


class Common(Model):
    """The fields that every command has."""

    actor: Actor
    """Who asks, with what rights."""
    reason: Text1K = ""
    """Why, for people; at most 1,024 characters; personal, encrypted in audit records."""
    correlation_id: Annotated[str, StringConstraints(strict=True, max_length=128)] | None = None
    """Carried into the verdict unread; at most 128 characters."""
    expires_at: Time | None = None
    """After this time the command is refused, unless its intent was recorded before (RFC 3339)."""
    expected_version: Annotated[StrictInt, Field(ge=0)] | None = None
    """Refuse unless the aggregate has this version."""
    dry_run: StrictBool = False
    """Say what would happen, change nothing."""


class CancelOptions(Model):
    """How a cancel goes about it; bounded by settings."""

    mode: Literal["graceful", "force"] = "graceful"
    """`force` skips the grace period."""
    grace_period_seconds: Annotated[StrictInt, Field(ge=0, le=86_400)] = 30
    """Time to stop by itself before escalation, in seconds."""
    deadline_seconds: Annotated[StrictInt, Field(ge=1, le=86_400)] | None = None
    """Answer at the latest after this many seconds from the record's timestamp; default 120, agents 60, turns 50."""
    cleanup: StrictBool = True
    """Remove partial data once everything has stopped."""


class EvaluationCancel(CancelOptions):
    """Cancel an evaluation: its Job deleted, its pods seen gone."""

    op: Literal["evaluation.cancel"] = "evaluation.cancel"
    evaluation_id: Uuid
    """The evaluation, a UUID; it is also the workflow's id."""


class CustomHarnessCancel(CancelOptions):
    """Cancel the creation of a custom harness: at its agent, if it has a task there."""

    op: Literal["custom_harness.cancel"] = "custom_harness.cancel"
    harness_id: Uuid
    """The custom harness, a UUID."""
    team_id: Token
    """The team that owns it; one of the actor's."""


class ReportedJob(Model):
    """A Job that an executor started for an evaluation."""

    namespace: DnsLabel
    """Namespace; one of those allowed by the settings."""
    name: DnsName
    """Name of the Job."""
    uid: Identity
    """Uid of the Job: the identity that is deleted, never the name alone."""
    labels: Annotated[dict[str, str], Field(max_length=64)] = {}
    """Labels of the Job; must hold the evaluation's id under the label of the settings."""
    owner: Owner | None = None
    """The object above the Job that would create it again, as apiVersion/kind/name/uid."""


class ReportedTask(Model):
    """A task that an executor started at an A2A agent."""

    agent: Token
    """The agent's name in the settings; never a URL."""
    task_id: Token
    """The task at that agent."""
    session_id: Token | None = None
    """The agent's session of the task, passed along as metadata."""


class WorkflowUpdate(Model):
    """A report of an executor on a workflow: of an evaluation, or of a creation (then with `harness_id`)."""

    model_config = ONE_AGGREGATE

    op: Literal["workflow.update"] = "workflow.update"
    evaluation_id: Uuid | None = None
    """The evaluation, a UUID; exactly one of this and `harness_id`."""
    harness_id: Uuid | None = None
    """The custom harness whose creation this is about, a UUID."""
    status: ReportedStatus | None = None
    """The status reached; synonyms are accepted in any case."""
    phase: Annotated[str, StringConstraints(strict=True, max_length=128)] | None = None
    """A finer step within the status; at most 128 characters."""
    error_message: Annotated[str, StringConstraints(strict=True, max_length=4096)] | None = None
    """Why it failed; at most 4,096 characters."""
    job: ReportedJob | None = None
    """A Job that was started."""
    task: ReportedTask | None = None
    """A task that was started."""

    @model_validator(mode="after")
    def _one_aggregate(self) -> "WorkflowUpdate":
        if (self.evaluation_id is None) == (self.harness_id is None):
            raise ValueError("exactly one of evaluation_id and harness_id must be given")
        return self


class SessionCancel(CancelOptions):
    """Cancel the running turn of a session."""

    op: Literal["session.cancel"] = "session.cancel"
    session_id: SessionId
    """The session, `<ulid>.<zone>`."""
    turn_id: Token | None = None
    """Cancel only if this is the last turn."""


class SessionUpdate(Model):
    """A session was closed, expired or deleted."""

    op: Literal["session.update"] = "session.update"
    session_id: SessionId
    """The session, `<ulid>.<zone>`."""
    status: SessionStatus
    """The status reached."""


class TurnUpdate(Model):
    """A report of an executor on a turn."""

    op: Literal["turn.update"] = "turn.update"
    session_id: SessionId
    """The session, `<ulid>.<zone>`."""
    turn_id: Token
    """The turn."""
    turn_number: Annotated[StrictInt, Field(ge=1)]
    """Counts the turns of a session, from 1."""
    status: ReportedStatus
    """The status reached; synonyms are accepted in any case."""
    error_message: Annotated[str, StringConstraints(strict=True, max_length=4096)] | None = None
    """Why it failed; at most 4,096 characters."""


class HarnessUpdate(Model):
    """Change a harness; only the provided fields change."""

    op: Literal["harness.update"] = "harness.update"
    org_id: Token
    """The org whose harness it is."""
    harness_id: Annotated[str, StringConstraints(strict=True)]
    """The harness, `harness_` and 32 lowercase hex digits."""
    changes: Any = None
    """The fields to change, as the PATCH body has them: checked after the fields here, in an order of their own."""


class WorkflowResume(Model):
    """The reconciler's: go on with a teardown that was left unsettled, or sweep again."""

    model_config = ONE_AGGREGATE

    op: Literal["workflow.resume"] = "workflow.resume"
    evaluation_id: Uuid | None = None
    """The evaluation; exactly one of this and `harness_id`."""
    harness_id: Uuid | None = None
    """The custom harness."""
    marker: Annotated[str, StringConstraints(strict=True, max_length=512)]
    """Key of the marker that asked for this."""

    @model_validator(mode="after")
    def _one_aggregate(self) -> "WorkflowResume":
        if (self.evaluation_id is None) == (self.harness_id is None):
            raise ValueError("exactly one of evaluation_id and harness_id must be given")
        return self


class SessionResume(Model):
    """The reconciler's: go on with a turn's cancel that was left unsettled."""

    op: Literal["session.resume"] = "session.resume"
    session_id: SessionId
    """The session."""
    marker: Annotated[str, StringConstraints(strict=True, max_length=512)]
    """Key of the marker that asked for this."""


Operation = Annotated[
    EvaluationCancel
    | CustomHarnessCancel
    | WorkflowUpdate
    | SessionCancel
    | SessionUpdate
    | TurnUpdate
    | HarnessUpdate
    | WorkflowResume
    | SessionResume,
    Field(discriminator="op"),
]

OPERATIONS: dict[str, type[Model]] = {
    model.model_fields["op"].default: model
    for model in (
        EvaluationCancel,
        CustomHarnessCancel,
        WorkflowUpdate,
        SessionCancel,
        SessionUpdate,
        TurnUpdate,
        HarnessUpdate,
        WorkflowResume,
        SessionResume,
    )
}


class Aggregate(Model):
    """What a command acts on; `{type}/{id}` is the record key and the lane."""

    type: Literal["evaluation", "custom-harness", "session", "org"]
    """The kind of aggregate."""
    id: Annotated[str, StringConstraints(max_length=256)]
    """Its id."""

    @property
    def key(self) -> str:
        return f"{self.type}/{self.id}"


def aggregate_of(operation: Any) -> Aggregate:
    """The aggregate that an operation acts on."""
    match operation:
        case EvaluationCancel():
            return Aggregate(type="evaluation", id=operation.evaluation_id)
        case CustomHarnessCancel():
            return Aggregate(type="custom-harness", id=operation.harness_id)
        case WorkflowUpdate() | WorkflowResume():
            if operation.evaluation_id is not None:
                return Aggregate(type="evaluation", id=operation.evaluation_id)
            return Aggregate(type="custom-harness", id=str(operation.harness_id))
        case SessionCancel() | SessionUpdate() | TurnUpdate() | SessionResume():
            return Aggregate(type="session", id=operation.session_id)
        case HarnessUpdate():
            return Aggregate(type="org", id=operation.org_id)
        case _:
            raise TypeError(f"not an operation: {type(operation).__name__}")


class Command(Model):
    """A command as a decider sees it: no personal field, everything else that a decision may look at."""

    kind: Literal["command"] = "command"
    id: CommandId
    """The command's id, the CloudEvent's."""
    fingerprint: Sha256
    """SHA-256 over type, aggregate, actor subject and data: same id and fingerprint is the same command."""
    time: Time
    """The CloudEvent's time, which a client that publishes again repeats."""
    received_at: Time
    """The record's timestamp: deadlines run from it."""
    at: Coordinates
    """Where the record stands."""
    aggregate: Aggregate
    """What it acts on."""
    caller: Caller
    """What the actor may."""
    correlation_id: str | None = None
    """Carried into the verdict."""
    expires_at: Time | None = None
    """Refused after it, unless the intent was recorded before."""
    expected_version: int | None = None
    """Refused unless the aggregate has it."""
    dry_run: bool = False
    """Change nothing."""
    operation: Operation
    """What is asked."""

    @property
    def type(self) -> str:
        return self.operation.op


class Personal(Model):
    """What of a command is about a person; it stands in verdicts and open commands, sealed in audit records."""

    subject: str
    """The actor's subject."""
    reason: str
    """The reason given."""
