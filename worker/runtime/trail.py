"""What an effect leaves on its way: whom it has asked for what, and when; the makings of a receipt.

Over all restarts of the effect in one flight; another owner begins with what the document holds.  Asks nobody itself.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from schemas.receipts import Escalation, Evidence, ResourceReceipt
from worker.ports import JobView

LISTED_MAX = 100


@dataclass(slots=True)
class Trail:
    """What one effect has asked and seen so far, over all its restarts: the makings of a receipt.

    `escalations` are those that were asked for or are about to be, by pod and grace; `escalated` were answered.
    """

    kind: Literal["job", "task", "turn"] | None = None
    name: str = ""
    identity: str = ""
    asked_at: datetime | None = None
    accepted_at: datetime | None = None
    detail: str = ""
    forced: bool = False
    escalations: dict[tuple[str, int], Escalation] = field(default_factory=dict)
    escalated: set[tuple[str, int]] = field(default_factory=set)
    pods: dict[str, None] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        return self.kind is not None

    def about(self, kind: Literal["job", "task", "turn"], name: str, identity: str, now: datetime) -> None:
        self.kind, self.name, self.identity = kind, name, identity
        self.asked_at = self.asked_at or now

    def resume(self, recorded: ResourceReceipt | None) -> None:
        """Go on from what an earlier owner recorded; a removal that it was about to ask for may have happened."""
        if self.known or recorded is None:
            return
        self.asked_at, self.accepted_at = recorded.asked_at, recorded.accepted_at
        for escalation in recorded.escalations:
            self.plan(escalation)
        self.forced = may_remove(recorded)
        self.pods |= dict.fromkeys(recorded.pods)

    def saw(self, view: JobView) -> None:
        """Pods by uid, each once."""
        self.pods |= dict.fromkeys(pod.uid for pod in view.pods)

    def plan(self, escalation: Escalation) -> None:
        """Each once, with the time of the first."""
        self.escalations.setdefault((escalation.pod, escalation.grace_period_seconds), escalation)

    def receipt(self, evidence: Evidence = "unconfirmed", gone_at: datetime | None = None) -> ResourceReceipt:
        assert self.kind is not None, "about() came first"
        escalations = tuple(self.escalations.values())
        return ResourceReceipt(
            kind=self.kind,
            name=self.name,
            identity=self.identity,
            evidence=evidence,
            detail=self.detail,
            asked_at=self.asked_at,
            accepted_at=self.accepted_at,
            gone_at=gone_at,
            escalations=escalations[: LISTED_MAX - 1] + escalations[LISTED_MAX - 1 :][-1:],
            pods=tuple(self.pods)[:LISTED_MAX],
        )


def may_remove(recorded: ResourceReceipt | None) -> bool:
    """Whether the document says that pods of the Job are about to be removed without proof."""
    return recorded is not None and any(each.grace_period_seconds == 0 for each in recorded.escalations)
