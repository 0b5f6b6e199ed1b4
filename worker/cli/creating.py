"""`worker create`: the document of a new aggregate, written once, only if absent, with the published schema.

What an org's harnesses may be is the matter of orgs.py.  Nothing here changes a document that exists.
"""

import json
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from schemas.documents import Document, HarnessMetadata, SessionState, StateBase, WorkflowState
from worker.adapters.processes import launch
from worker.cli.exits import Exit, Wrong, complain
from worker.cli.given import read_object, read_text, unknown_field
from worker.cli.opening import opened
from worker.cli.orgs import org_of
from worker.cli.printing import say
from worker.client.messages import invalid
from worker.errors import Conflict
from worker.ports import DocumentStore
from worker.settings import load

M = TypeVar("M", bound=BaseModel)
TEAM = "demo"
"""Owns an evaluation where no team is named; the actor of `worker send` belongs to it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A document to be, and what has to be in the store before it."""

    kind: str
    id: str
    key: str
    body: bytes
    beside: dict[str, bytes] = field(default_factory=dict)


async def create(what: str, command: str | None, team: str | None, *, as_json: bool) -> Exit:
    """`what` is `evaluation`, whose Job is the command; or a file.  Raises Wrong."""
    if what == "evaluation":
        if command is None:
            raise Wrong("--run is missing: the command that is its Job")
        return await _evaluation(command, team or TEAM, as_json=as_json)
    for flag, given in (("--run", command), ("--team", team)):
        if given is not None:
            raise Wrong(f"{flag}: only with `evaluation`")
    return await _from_file(what, as_json=as_json)


async def _from_file(name: str, *, as_json: bool) -> Exit:
    """The document that a file describes.  Raises Wrong, which names the field."""
    given = read_object(name, read_text(name))
    for around in ("payload", "state"):  # a published example holds a document, which holds the state
        given = given[around] if isinstance(given.get(around), dict) else given
    try:
        draft = _draft(given)
    except ValidationError as error:
        raise Wrong(f"{name}: {invalid(error)}") from None
    except ValueError as error:
        raise Wrong(f"{name}: {error}") from None
    async with opened(makes=True, writes=True) as (ports, _):
        return await _create(ports.store, draft, as_json=as_json)


async def _evaluation(command: str, team: str, *, as_json: bool) -> Exit:
    """Start a command as the Job of a new evaluation, and record it; what cannot be recorded is stopped again."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Wrong(f"--run: {error}") from None
    if not words:
        raise Wrong("--run: must name a command")
    if load().stack != "embedded":
        raise Wrong("--run: starts a process of this machine, which only WORKER_STACK=embedded cancels; give a FILE")
    evaluation_id = str(uuid4())
    async with opened(makes=True, writes=True) as (ports, _):
        job = launch(evaluation_id, words)
        now = datetime.now(UTC)
        given = {
            "kind": "workflow",
            "workflow_id": evaluation_id,
            "team_id": team,
            "status": "running",
            "created_at": now,
            "started_at": now,
            "jobs": [{"namespace": job.namespace, "name": job.name, "uid": job.uid}],
            "request": {"command": command},
        }
        try:
            return await _create(ports.store, _draft(given), as_json=as_json)
        except BaseException as error:
            await ports.jobs.start()
            await ports.jobs.delete(job)
            if isinstance(error, ValidationError):
                raise Wrong(str(invalid(error))) from None
            raise


async def _create(store: DocumentStore, draft: Draft, *, as_json: bool) -> Exit:
    """The document comes last: what it names is there before it."""
    for key, body in draft.beside.items():
        with suppress(Conflict):  # immutable, or of an earlier try that did not come to its end
            await store.create(key, body)
    try:
        await store.create(draft.key, draft.body)
    except Conflict:
        complain(f"{draft.key} exists; nothing was changed")
        return Exit.NO
    say([json.dumps({"kind": draft.kind, "id": draft.id, "key": draft.key}) if as_json else draft.id])
    return Exit.DONE


def _draft(given: dict[str, Any]) -> Draft:
    """Raises ValueError (a ValidationError is one)."""
    kind, fields = given.get("kind"), {name: value for name, value in given.items() if name != "kind"}
    match kind:
        case "workflow":
            return _workflow(fields)
        case "session":
            session = _checked(SessionState, fields)
            return Draft(kind, session.session_id, f"sessions/{session.session_id}.json", _body(session))
        case "org":
            org, bodies = org_of(fields, datetime.now(UTC))
            return Draft(kind, org.org_id, f"orgs/{org.org_id}.json", _body(org), bodies)
        case "custom_harness":
            metadata = _checked(HarnessMetadata, fields)
            key = f"custom-harnesses/{metadata.harness_id}/metadata.json"
            return Draft(kind, metadata.harness_id, key, metadata.model_dump_json().encode())
        case _:
            raise ValueError("kind: must be workflow, session, org or custom_harness")


def _workflow(fields: dict[str, Any]) -> Draft:
    request = fields.pop("request", None)
    state = _checked(WorkflowState, {"created_at": datetime.now(UTC), **fields})
    creation = state.purpose == "custom_harness"
    if creation != (state.harness_id is not None):
        raise ValueError("harness_id: must be given for the creation of a custom harness, and for nothing else")
    if creation and request is not None:
        raise ValueError("request: only an evaluation has a request document")
    key = f"teams/{state.team_id}/evaluations/{state.workflow_id}/request.json"
    beside = {key: json.dumps(request).encode()} if request is not None else {}
    return Draft("workflow", state.workflow_id, f"workflows/{state.workflow_id}.json", _body(state), beside)


def _checked(model: type[M], fields: dict[str, Any]) -> M:
    """A typo must not pass for a field that was left out, and what the worker counts and remembers is its own."""
    if unknown := unknown_field(fields, model.model_fields):
        raise ValueError(unknown)
    made = model.model_validate(fields)
    for name in StateBase.model_fields.keys() & model.model_fields.keys():
        if getattr(made, name) != StateBase.model_fields[name].default:
            raise ValueError(f"{name}: is the worker's own, and begins empty")
    return made


def _body(state: Any) -> bytes:
    """As a document begins: everything but the state has a default."""
    return Document(state=state).model_dump_json().encode()
