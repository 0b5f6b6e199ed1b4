"""Audit records: exactly the arguments of `decide`, with the events returned; each holds the hash of the one before.

A record's bytes are hashed as published.  A refusal or dry run, which writes no document, has a record outside of
the chain (`audit_seq` 0, no `previous_sha256`), beside its verdict.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.base import Blob, Coordinates, Model, Sha256, Time
from schemas.commands import Aggregate, Command
from schemas.documents import State
from schemas.events import Event
from schemas.observations import Observed
from schemas.verdicts import Verdict


class DocumentRead(Model):
    """Another document that a decision looked at."""

    key: str
    """Its key in the store."""
    sha256: Sha256 | None = None
    """SHA-256 of what was read; absent: there was none."""
    content: str | None = None
    """What was read, where it is no blob already."""


Seconds = Annotated[int, Field(ge=0, le=86_400)]
Deadline = Annotated[int, Field(ge=1, le=86_400)]
LabelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?$")]


class DecisionSettings(Model):
    """The settings that decisions look at; kept as a blob, named by hash."""

    job_label: LabelName = "verdict-worker/evaluation-id"
    """Label that a reported Job must carry."""
    namespaces: tuple[str, ...] = ("local",)
    """Namespaces in which Jobs may be; to be set in the stack `services`, `local` is the embedded one's."""
    agents: tuple[str, ...] = ()
    """Agents by name."""
    zones: tuple[str, ...] = ()
    """Executor zones by name."""
    grace_period_seconds_max: Seconds = 3600
    """Bound of a command's grace period, in seconds."""
    deadline_seconds_max: Deadline = 86_400
    """Bound of a command's deadline, in seconds."""
    deadline_seconds_evaluation: Deadline = 120
    """Default deadline of an evaluation's cancel, in seconds."""
    deadline_seconds_agent: Deadline = 60
    """Default deadline of a creation's cancel, in seconds."""
    deadline_seconds_turn: Deadline = 50
    """Default deadline of a turn's cancel, in seconds."""
    deadline_seconds_min: Seconds = 10
    """What a deadline leaves at least from the first decision, in seconds."""
    memory_commands: Annotated[int, Field(ge=1, le=10_000)] = 128
    """Answered commands remembered per aggregate."""
    sweep_delay_seconds: Seconds = 300
    """How long after `forced` partial data is swept again, in seconds."""
    org_harnesses_max: Annotated[int, Field(ge=1, le=100_000)] = 4000
    """Harnesses that an org's directory may hold."""


class Context(Model):
    """What a decision may look at beside state and input."""

    now: Time
    """Decision time."""
    build: str
    """The build that decided."""
    audit_seq: Annotated[int, Field(ge=0)]
    """Sequence number that this decision gets if it is written."""
    settings: DecisionSettings
    """The settings used."""
    documents: tuple[DocumentRead, ...] = ()
    """Every other document read."""
    settled: tuple[Coordinates, ...] = ()
    """Records of this aggregate's memory whose commit is known."""


class RecordedContext(Model):
    """A context as recorded: the settings by hash."""

    now: Time
    """Decision time."""
    build: str
    """The build that decided."""
    settings_sha256: Sha256
    """The settings used, a blob of this hash."""
    documents: tuple[DocumentRead, ...] = ()
    """Every other document read."""
    settled: tuple[Coordinates, ...] = ()
    """Records of this aggregate's memory whose commit was known."""


class Sealed(Model):
    """Personal fields under the subject's key: AES-GCM; the key is at `personal/{subject_sha256}`."""

    subject_sha256: Sha256
    """SHA-256 of the subject."""
    nonce: str
    """12 bytes, base64."""
    ciphertext: str
    """The JSON of subject and reason, encrypted, base64."""


class AuditRecord(Model):
    """One decided input."""

    kind: Literal["decided", "adopted", "refused"]
    """`adopted`: a state found that is not the chain's head; `refused`: outside of the chain."""
    aggregate: Aggregate
    """Whose record it is."""
    audit_seq: Annotated[int, Field(ge=0)]
    """Place in the aggregate's chain, from 1; 0 outside of it."""
    previous_sha256: Sha256 | None = None
    """SHA-256 of the bytes of the record before; absent in the first one."""
    input: Annotated[Command | Observed, Field(discriminator="kind")] | Blob | None = None
    """What was decided; by reference where it is over 64 KiB."""
    personal: Sealed | None = None
    """The command's personal fields, encrypted."""
    context: RecordedContext
    """What else the decision looked at."""
    events: tuple[Event, ...] | Blob = ()
    """What it did; by reference where the record would be over 64 KiB."""
    verdict: Verdict | None = None
    """Of a refusal: the verdict, without personal fields."""
    found: State | Blob | None = None
    """Of an adoption: the state that was found; and of a refusal on a state that no record holds yet."""
    state_before_sha256: Sha256 | None = None
    """Digest of the state before; absent where there was no document."""
    state_after_sha256: Sha256 | None = None
    """Digest of the state after."""
