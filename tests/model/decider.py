"""The decider over one document: `decide` a command's record, `observe` what an effect reported.

Pure.  It knows nothing of lanes, brokers and stores; what a write does beside the decision stands in lane.py.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from tests.model.state import Answered, At, Bug, Doc, Event, Failure, Input, Job, Open, Record, Verdict

TERMINAL = ("cancelled", "succeeded", "failed")
RANK = {"created": 0, "starting": 1, "running": 2, "succeeded": 3, "failed": 3}


class Known(NamedTuple):
    """The record's verdict stands in the document."""

    verdict: Verdict


class Waiting(NamedTuple):
    """The command's intent stands in the document: its effects go on, and the record waits for them."""

    command: str


class Refused(NamedTuple):
    """A verdict that is in no document; `fences`: for a reason outside of the document (must 9)."""

    verdict: Verdict
    fences: bool = False


class Written(NamedTuple):
    """The next document."""

    document: Doc


Decision = Known | Waiting | Refused | Written


@lru_cache(maxsize=200_000)
def decide(doc: Doc | None, record: Record, at: At, expired: bool, bug: Bug) -> Decision:
    """One record of one aggregate."""
    if doc is None:
        return Refused(Verdict(record.command, 404))
    if early := _recall(doc, record, at) or _admit(doc, record, expired):
        return early
    new = doc._replace(inputs=(*doc.inputs, Input(record.command, at)))
    match record.kind:
        case "cancel":
            return _cancel(new, record, at)
        case "job" if bug != "late Job ignored":
            return _job(new, record, at)
        case "report" if doc.status in RANK and doc.status not in TERMINAL:
            return _report(new, record, at, bug)
        case "set":
            new = _changed(new, "set by " + record.command)
        case "job" | "report":
            pass  # nothing to change: ignored by the bug, or superseded
    return Written(_remember(new, record.command, at, record.time))  # applied, unchanged or superseded: any 2xx


def _recall(doc: Doc, record: Record, at: At) -> Decision | None:
    for failure in doc.failures:
        if (failure.command, failure.at) == (record.command, at):
            return Known(failure.verdict)  # this record's own; another one with this id is decided again
    if verdict := recalled(doc, record.command):
        return Known(verdict)
    if is_open(doc, record.command):
        return Waiting(record.command)
    return None


def _admit(doc: Doc, record: Record, expired: bool) -> Refused | None:
    if record.time <= doc.horizon:
        return Refused(Verdict(record.command, 409))
    if record.expires and expired:
        return Refused(Verdict(record.command, 410), fences=True)
    if record.expects not in (None, doc.version):
        return Refused(Verdict(record.command, 409))
    return None


def _cancel(doc: Doc, record: Record, at: At) -> Decision:
    if doc.status in TERMINAL:
        return Refused(Verdict(record.command, 400))
    opened = _open(doc, record, at)
    if doc.status != "cancelling":
        opened = _changed(opened, "cancelling", status="cancelling")
    return Written(_settle(opened))


def _job(doc: Doc, record: Record, at: At) -> Decision:
    known = any(job.name == record.argument for job in doc.jobs)
    jobs = doc.jobs if known else (*doc.jobs, Job(record.argument, False))
    if doc.status in ("cancelling", "cancelled"):
        return Written(_settle(_open(doc, record, at)._replace(jobs=jobs)))
    return Written(_remember(doc._replace(jobs=jobs), record.command, at, record.time))


def _report(doc: Doc, record: Record, at: At, bug: Bug) -> Decision:
    if RANK[record.argument] < RANK[doc.status]:
        return Refused(Verdict(record.command, 409))
    if record.argument == doc.status and bug == "unchanged not remembered":
        return Refused(Verdict(record.command, 200, at, doc.version))
    if record.argument != doc.status:
        doc = _changed(doc, record.argument, status=record.argument)
    return Written(_remember(doc, record.command, at, record.time))


@lru_cache(maxsize=200_000)
def observe(doc: Doc, command: str, gone: tuple[str, ...]) -> Doc | None:
    """What an effect reported; None where the document knows it already."""
    jobs = tuple(Job(job.name, job.gone or job.name in gone) for job in doc.jobs)
    if jobs == doc.jobs:
        return None
    return _settle(doc._replace(jobs=jobs, inputs=(*doc.inputs, Input(command, seen=gone))))


DEADLINE = ("deadline",)


def unconfirmed(doc: Doc, command: str, *, keep: bool) -> Doc:
    """The deadline has passed: 504; the status stays cancelling, and the command is no longer open."""
    at = next(opened.at for opened in doc.open if opened.command == command)
    failure = Failure(command, at, Verdict(command, 504))
    return doc._replace(
        open=tuple(opened for opened in doc.open if opened.command != command),
        inputs=(*doc.inputs, Input(command, seen=DEADLINE)),
        failures=(*doc.failures, failure) if keep else doc.failures,
    )


def targets(doc: Doc) -> tuple[str, ...]:
    """Jobs that are recorded and were not seen gone."""
    return tuple(job.name for job in doc.jobs if not job.gone)


def recalled(doc: Doc | None, command: str) -> Verdict | None:
    """The remembered verdict."""
    return next((entry.verdict for entry in doc.answered if entry.command == command), None) if doc else None


def is_open(doc: Doc, command: str) -> bool:
    return any(opened.command == command for opened in doc.open)


def _open(doc: Doc, record: Record, at: At) -> Doc:
    return doc._replace(open=(*doc.open, Open(record.command, at, record.time)))


def _changed(doc: Doc, what: str, **fields: Any) -> Doc:
    """A change that a user can see: version and status event."""
    event = Event(doc.version + 1, what)
    return doc._replace(version=doc.version + 1, outbox=(*doc.outbox, event), **fields)


def _remember(doc: Doc, command: str, at: At, time: int) -> Doc:
    verdict = Verdict(command, 200, at, doc.version)
    entry = Answered(command, at, time, verdict)
    return doc._replace(answered=(*doc.answered, entry), said=(*doc.said, (command, verdict)))


def _settle(doc: Doc) -> Doc:
    """Once every recorded Job is gone, one write ends the teardown and answers every open command."""
    if not doc.open or targets(doc):
        return doc
    if doc.status == "cancelling":
        doc = _changed(doc, "cancelled", status="cancelled")
    for opened in doc.open:
        doc = _remember(doc, opened.command, opened.at, opened.time)
    return doc._replace(open=())
