"""I11: who waits for a teardown hears of it at the deadline that was stored (contract, sections 2 and 3)."""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from worker.simulation.invariants.effects import things
from worker.simulation.invariants.evidence import Violation
from worker.simulation.invariants.reading import Json, Reading, Version

LATE_SECONDS_MAX = 2.0
"""Nothing but a timer of the process itself is between a deadline and the report that it has passed."""


class Report(NamedTuple):
    """What effects reported, as the write that decided it recorded it."""

    before: Version
    after: Version
    at: datetime
    items: list[Json]


def i11_deadlines(reading: Reading) -> Iterator[Violation]:
    """What is still pending is reported when the first deadline passes; after a resume at once, if it has passed.

    Looked at where a process reports it for the first time since it has asked, without having slept: a later report
    waits until the one before is written.
    """
    for key, versions in reading.by_aggregate.items():
        reported: dict[str, datetime] = {}
        for report in _reports(versions):
            process = report.after.process
            if process not in reading.evidence.disturbed:
                late = _late_seconds(report, reported.get(process))
                if late > LATE_SECONDS_MAX:
                    text = f"a deadline had passed for {late:.3f} s when {process} said so, at {report.at.isoformat()}"
                    yield Violation("I11", key, text)
            reported[process] = report.at


def _reports(versions: list[Version]) -> Iterator[Report]:
    for before, after in pairwise(versions):
        first = before.body["chain"]["audit_seq"]
        for entry in after.body["outbox"]:
            if entry["topic"] == "audit" and entry["audit_seq"] > first:
                given = json.loads(entry["body"]).get("input") or {}
                if given.get("kind") == "observed":
                    yield Report(before, after, datetime.fromisoformat(given["at"]), given["items"])


def _late_seconds(report: Report, reported_before: datetime | None) -> float:
    """How long after both the deadline and the first request to stop; 0 where that cannot be told."""
    unseen = {thing.identity for thing in things(report.before.state) if thing.evidence is None}
    asked = [
        datetime.fromisoformat(item["resource"]["asked_at"])
        for item in report.items
        if item["kind"] == "pending" and item["resource"]["identity"] in unseen and item["resource"].get("asked_at")
    ]
    deadlines = [datetime.fromisoformat(command["deadline_at"]) for command in report.before.state["open"]]
    if not asked or not deadlines or (reported_before is not None and reported_before >= min(asked)):
        return 0.0
    return (report.at - max(min(asked), min(deadlines))).total_seconds()
