"""`worker show` and `worker harness get`: documents as they stand, and how they came to be so.  Changes nothing."""

import json
from collections.abc import Iterator

from pydantic import ValidationError

from schemas.base import time_text
from schemas.codes import CODES
from schemas.commands import Caller
from schemas.documents import Document, OrgState, SessionState, WorkflowState
from schemas.harness import Harness
from worker.cli.exits import Exit, complain
from worker.cli.opening import opened
from worker.cli.printing import columns, indented, say, standing, verdict_lines
from worker.cli.story import Chapter, story
from worker.client import Denied, aggregate
from worker.client.messages import invalid
from worker.domain.harness import Effective
from worker.sealing import Sealer

HIDDEN = {"personal", "verdicts", "outbox"}
"""Fields of a document that its story tells, or that are on their way to where it is told from."""


async def show(kind: str, name: str, *, as_json: bool) -> Exit:
    """The document of an aggregate and its story.  Raises Invalid for a malformed id."""
    wanted = aggregate(kind.replace("_", "-"), name)
    async with opened() as (ports, client):
        document = await client.document(wanted)
        chapters = await story(client, Sealer(ports.store, ports.ids), wanted)
    if document is None and not chapters:
        complain(f"not_found: there is no {kind} {name}")
        return Exit.NO
    if as_json:
        body = document.model_dump(mode="json", exclude=HIDDEN) if document else None
        told = [chapter.model_dump(mode="json", exclude_none=True) for chapter in chapters]
        say([json.dumps({"aggregate": wanted.key, "document": body, "story": told})])
    else:
        say([f"{wanted.key}: {_head(document)}", *indented(columns(_facts(document)))])
        say(["story", *indented(line for chapter in chapters for line in chapter_lines(chapter))])
    return Exit.DONE


async def get_harness(asked: str, org: str, permissions: tuple[str, ...], *, resolved: bool, as_json: bool) -> Exit:
    """A harness of an org, as it is stored or merged with its parents."""
    try:
        caller = Caller(org_id=org, permissions=permissions)
    except ValidationError as error:
        raise invalid(error) from None
    async with opened() as (_, client):
        found = await (client.effective_harness(caller, asked) if resolved else client.harness(caller, asked))
    if isinstance(found, Denied):
        complain(f"{found.code}: {CODES[found.code].meaning}")
        return Exit.NO
    say([found.model_dump_json()] if as_json else _harness_lines(found))
    return Exit.DONE


def _head(document: Document | None) -> str:
    if document is None:
        return "there is no document"
    counters = f"version {document.state.version}, revision {document.revision}, audit {document.chain.audit_seq}"
    return f"{standing(document.state)}, {counters}"


def _facts(document: Document | None) -> Iterator[tuple[str, str]]:
    """What the document says of itself, by name."""
    if document is None:
        return
    state = document.state
    match state:
        case WorkflowState():
            yield "workflow", f"{state.workflow_id} of {state.purpose}, team {state.team_id}"
            times = (("created", state.created_at), ("started", state.started_at), ("completed", state.completed_at))
            yield "times", ", ".join(f"{name} {time_text(at)}" for name, at in times if at) or "none"
            for job in state.jobs:
                yield (
                    "job",
                    f"{job.namespace}/{job.name}, {job.uid}, {job.gone.evidence if job.gone else 'not seen gone'}",
                )
            for task in state.tasks:
                yield (
                    "task",
                    f"{task.task_id} at agent {task.agent}, {task.gone.evidence if task.gone else 'not seen ended'}",
                )
            if state.phase or state.error_message:
                yield "detail", f"phase {state.phase or 'none'}, error {state.error_message or 'none'}"
        case SessionState():
            yield "tenant", state.tenant or "none"
        case OrgState():
            for harness_id, entry in state.harnesses.items():
                default = ", default" if harness_id == state.default else ""
                yield entry.name, f"{harness_id}, {entry.status}, version {entry.version}{default}"
    for command in state.open:
        yield "open", f"{command.type} {command.id}, deadline {time_text(command.deadline_at)}"
    for marker in state.unsettled:
        yield "unsettled", f"{marker.why}, due {time_text(marker.due_at)}"


def chapter_lines(chapter: Chapter) -> Iterator[str]:
    """A chapter for people."""
    number = str(chapter.audit_seq or "-").rjust(3)
    yield f"{number}  {time_text(chapter.at)}  {_who(chapter)}"
    for change in chapter.changes:
        yield f"       {change}"
    for verdict in chapter.verdicts:
        yield from (f"       {line}" for line in verdict_lines(verdict))


def _who(chapter: Chapter) -> str:
    command = chapter.command
    if command is None:
        found = "found as its creator wrote it" if chapter.audit_seq == 1 else "found changed by somebody else"
        return f"{found}: {chapter.found}" if chapter.found else chapter.what
    by = f" by {command.subject}" if command.subject else ""
    why = f": {command.reason}" if command.reason else ""
    return f"{command.type} {command.id}{by}{why}"


def _harness_lines(found: Harness | Effective) -> Iterator[str]:
    """One field a line; texts and lists as JSON."""
    fields = found.model_dump(mode="json")
    return columns((name, json.dumps(value, ensure_ascii=False)) for name, value in fields.items())
