"""How things look on a terminal: a line or a few for people, the published JSON for machines.

What others wrote (a reason, an agent's words) is shown without control characters, so that it cannot speak to the
terminal.  Knows the published language only.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

import typer

from schemas.base import Blob, time_text
from schemas.documents import OrgState, SessionState, State, WorkflowState
from schemas.receipts import Receipt, ResourceReceipt
from schemas.status_events import StatusEvent
from schemas.verdicts import Verdict


def say(lines: Iterable[str]) -> None:
    """Lines to standard output."""
    for line in lines:
        typer.echo(safe(line))


def safe(text: str) -> str:
    """Without control characters and other unprintable ones."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def columns(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Rows of texts, aligned."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def verdict_head(verdict: Verdict) -> str:
    """What the answer is, everywhere alike."""
    dry = ", dry run" if verdict.dry_run else ""
    return f"{verdict.code} ({verdict.http_status}, {verdict.outcome}{dry})"


def result_line(verdict: Verdict) -> str:
    """One verdict in one line."""
    about = verdict.aggregate
    where = f"{about.type}/{about.id} {about.status_before} -> {about.status_after}" if about else "-"
    parts = (
        time_text(verdict.finished_at),
        verdict_head(verdict),
        verdict.command.type,
        where,
        verdict.receipt.evidence if verdict.receipt else "",
        verdict.command.id,
    )
    return "  ".join(part for part in parts if part)


def standing(state: State) -> str:
    """Where an aggregate stands, in few words."""
    match state:
        case WorkflowState():
            return state.status.value
        case SessionState():
            turn = state.turn
            last = f"turn {turn.number} ({turn.turn_id}) {turn.status}" if turn else "no turn yet"
            return f"{state.status}, {last}"
        case OrgState():
            return f"{len(state.harnesses)} harness{'es' * (len(state.harnesses) != 1)}"


def status_line(event: StatusEvent) -> str:
    """One change of status in one line."""
    what = f"{event.aggregate.key} {event.subject}"
    if event.subject_id != event.aggregate.id:
        what += f" {event.subject_id}"
    change = f"{event.before or 'new'} -> {event.after}"
    return f"{time_text(event.at)}  {what}  {change}  version {event.version}  by {event.cause}"


def verdict_lines(verdict: Verdict, *, asked: str = "") -> Iterator[str]:
    """A verdict for people, with its evidence; `asked`: what the command was aimed at, where that is known."""
    yield f"{verdict_head(verdict)}: {verdict.message}"
    yield f"  command    {verdict.command.type} {verdict.command.id}{_by(verdict)}"
    if about := verdict.aggregate:
        yield f"  about      {about.type}/{about.id}, version {about.version}"
        yield f"  status     {about.status_before} -> {about.status_after}"
    elif asked:
        yield f"  asked      {asked}"
    for effect in verdict.would:
        yield f"  would      {effect}"
    for error in verdict.errors:
        yield f"  field      {'.'.join(str(part) for part in error.loc)}: {error.msg}"
    if verdict.harness:
        found = verdict.harness
        yield f"  harness    {found.key if isinstance(found, Blob) else f'{found.name} ({found.id})'}"
    if verdict.receipt:
        yield from indented(receipt_lines(verdict.receipt))
    decided, finished = (_after(verdict.received_at, at) for at in (verdict.decided_at, verdict.finished_at))
    yield f"  times      received {time_text(verdict.received_at)}, decided {decided}, finished {finished}"


def receipt_lines(receipt: Receipt) -> Iterator[str]:
    """The evidence: the whole, then each resource, then what did not go well."""
    removed = f", {receipt.objects_removed} partial objects removed" if receipt.objects_removed else ""
    yield f"receipt    {receipt.evidence}{removed}"
    for resource in receipt.resources:
        yield from indented(_resource_lines(resource))
    for warning in receipt.warnings:
        yield f"  warning  {warning}"


def _resource_lines(resource: ResourceReceipt) -> Iterator[str]:
    yield f"{resource.kind} {resource.name}: {resource.evidence}{f', {resource.detail}' if resource.detail else ''}"
    yield f"  identity  {resource.identity}"
    times = (("asked", resource.asked_at), ("accepted", resource.accepted_at), ("gone", resource.gone_at))
    if told := ", ".join(f"{name} {time_text(at)}" for name, at in times if at):
        yield f"  times     {told}"
    if resource.pods:
        yield f"  pods      {len(resource.pods)} seen"
    for step in resource.escalations:
        what = "killed" if step.grace_period_seconds else "removed without proof"
        yield f"  {what:<9} {time_text(step.at)}, {step.pod}"


def _by(verdict: Verdict) -> str:
    subject, reason = verdict.command.subject, verdict.command.reason
    return (f" by {subject}" if subject else "") + (f": {reason}" if reason else "")


def _after(start: datetime, at: datetime) -> str:
    return f"+{(at - start).total_seconds():.3f} s"
