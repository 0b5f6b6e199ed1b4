"""Observations: what effects reported back.  A batch of them is one input of the same decider."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Identity, Model, Time
from schemas.commands import ReportedJob
from schemas.receipts import ResourceReceipt


class JobsFound(Model):
    """Jobs that carry the evaluation's label, found because none (or not these) had been recorded."""

    kind: Literal["jobs_found"] = "jobs_found"
    jobs: tuple[ReportedJob, ...] = ()
    """By uid; empty: none is there."""


class Stopped(Model):
    """A Job, task or turn was seen stopped (or removed, as its evidence says)."""

    kind: Literal["stopped"] = "stopped"
    resource: ResourceReceipt
    """What became of it."""


class Finished(Model):
    """The remote side proves that a task or turn had ended by itself before the cancel."""

    kind: Literal["finished"] = "finished"
    resource: ResourceReceipt
    """What became of it."""
    outcome: Literal["succeeded", "failed"]
    """The outcome that stands."""


class Pending(Model):
    """Not seen stopped yet; reported when a deadline passes, so that the receipt tells how far it came."""

    kind: Literal["pending"] = "pending"
    resource: ResourceReceipt
    """How far it came."""


class Forbidden(Model):
    """The other side forbids it: RBAC, 401, 403, or a name that the settings do not know."""

    kind: Literal["forbidden"] = "forbidden"
    resource: ResourceReceipt
    """How far it came."""
    message: str
    """The other side's reason."""


class PartialRemoved(Model):
    """The partial prefix was listed until empty, or could not be (then with a warning)."""

    kind: Literal["partial_removed"] = "partial_removed"
    objects: Annotated[int, Field(ge=0)] = 0
    """Objects removed."""
    warning: str | None = None
    """Why it did not work."""


Observation = Annotated[
    JobsFound | Stopped | Finished | Pending | Forbidden | PartialRemoved, Field(discriminator="kind")
]


class Observed(Model):
    """What the effects of one aggregate reported at one time: one input."""

    kind: Literal["observed"] = "observed"
    at: Time
    """When the last of them was made."""
    items: tuple[Observation, ...] = ()
    """In the order in which they were made."""


def identity_of(resource: ResourceReceipt) -> tuple[str, Identity]:
    """What makes a resource the same one."""
    return resource.kind, resource.identity
