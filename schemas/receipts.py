"""Receipts: the evidence inside a verdict that the work really stopped."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Identity, Model, Time

Evidence = Literal["stopped", "forced", "unconfirmed"]


class Escalation(Model):
    """One step up, on one pod."""

    at: Time
    """When it was asked."""
    pod: Identity
    """Uid of the pod (embedded: boot id, pid and start time of the process)."""
    grace_period_seconds: Annotated[int, Field(ge=0)]
    """1: killed, confirmed by the node; 0: removed without proof."""


class ResourceReceipt(Model):
    """What became of one resource."""

    kind: Literal["job", "task", "turn"]
    """What it is."""
    name: str
    """Namespace and name of a Job; agent of a task; zone of a turn."""
    identity: Identity
    """Job uid, task id or turn id: never used again."""
    evidence: Evidence
    """`stopped`: termination observed; `forced`: removed without proof; `unconfirmed`: not seen."""
    detail: str = ""
    """What the other side said, for people."""
    asked_at: Time | None = None
    """When it was first asked to stop."""
    accepted_at: Time | None = None
    """When the request was first accepted."""
    gone_at: Time | None = None
    """When it was seen gone."""
    escalations: tuple[Escalation, ...] = ()
    """Steps up, in order, each as asked for or about to be; the first 99 and the last."""
    pods: tuple[Identity, ...] = ()
    """Uids of the pods that were seen; the first 100."""


class Receipt(Model):
    """The evidence of one teardown."""

    evidence: Evidence
    """The weakest of its resources; `stopped` where there was nothing to stop."""
    resources: tuple[ResourceReceipt, ...] = ()
    """Each thing that was to be stopped."""
    objects_removed: Annotated[int, Field(ge=0)] = 0
    """Partial objects removed."""
    warnings: tuple[str, ...] = ()
    """What did not go well and does not change the outcome, such as a failed clean-up."""


def weakest(evidences: tuple[Evidence, ...]) -> Evidence:
    """The class of the whole: the weakest of the parts."""
    for evidence in ("unconfirmed", "forced"):
        if evidence in evidences:
            return evidence
    return "stopped"
