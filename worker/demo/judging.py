"""What a verdict is held against, and what came of it.  Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.verdicts import Verdict
from worker.demo.publishing import At
from worker.demo.step import Expected, Step


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a step; `amiss` names each difference from what was expected, in few words."""

    step: Step
    command_id: str
    at: At
    verdict: Verdict | None
    amiss: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold in the end beside the verdicts, whether it does, and what was seen."""

    name: str
    holds: bool
    seen: str


def differences(expected: Expected, verdict: Verdict) -> Iterator[str]:
    """What of the verdict is not as promised."""
    if (verdict.http_status, verdict.code) != (expected.http_status, expected.code):
        yield f"{expected.http_status} {expected.code} was promised"
    receipt = verdict.receipt
    if (receipt.evidence if receipt else None) != expected.evidence:
        yield f"evidence {expected.evidence} was promised"
    after = verdict.aggregate.status_after if verdict.aggregate else None
    if expected.status_after not in (None, after):
        yield f"status {expected.status_after} was promised"
    resources = receipt.resources if receipt else ()
    if sum(len(resource.pods) for resource in resources) < expected.processes_min:
        yield f"{expected.processes_min} processes were promised"
    if sum(len(resource.escalations) for resource in resources) < expected.escalations_min:
        yield "an escalation was promised"
    if receipt and receipt.objects_removed != expected.objects_removed:
        yield f"{expected.objects_removed} objects removed were promised"
    if (verdict.dry_run, bool(verdict.would)) != (expected.would, expected.would):
        yield "what would happen was promised"
    carried = verdict.harness.model_dump(mode="json") if verdict.harness else {}
    if expected.harness != {name: carried.get(name) for name in expected.harness} or (carried and not expected.harness):
        yield f"a harness with {dict(expected.harness)} was promised"
