"""The decider for an org's harnesses: one directory decides names, parents, status and default (contract, section 6).

The order of checks is section 6's own: permission, id, fields, existence, then what every command passes, then the
rules of the harness, the expected version last of the refusals that the page lists.
"""

import hashlib

from schemas.audit import Context
from schemas.base import Blob
from schemas.commands import Command, HarnessUpdate
from schemas.documents import OrgState
from schemas.events import HarnessChanged
from schemas.harness import Harness
from schemas.status import HarnessStatus
from schemas.verdicts import FieldError, VerdictAggregate
from worker.domain.admission import admit, forget, permitted, recall
from worker.domain.decision import Decision, Draft, Written, refuse, verdict_on
from worker.domain.evolve import evolve
from worker.domain.harness import HARNESS_ID, Changes, apply_changes, parse_changes, refuse_change


def decide(state: OrgState | None, command: Command, context: Context) -> Decision:
    """One harness update; `state` None: there is no such org."""
    update, now = command.operation, context.now
    if not isinstance(update, HarnessUpdate):
        raise TypeError(f"not about an org: {command.type}")
    if known := recall(state, command):
        return known
    if refused := permitted(command, "harness:manage", now):
        return refused
    if not HARNESS_ID.fullmatch(update.harness_id):
        return refuse(command, "invalid_harness_id", now)
    changes = parse_changes(update.changes)
    if not isinstance(changes, Changes):
        return refuse(command, "invalid_field", now, message=_first(changes), errors=changes)
    if changes.status == "deleted":
        return refuse(command, "status_forbidden", now)
    entry = state.harnesses.get(update.harness_id) if state else None
    if state is None or entry is None or command.caller.org_id != state.org_id:
        return refuse(command, "not_found", now)
    if entry.status == HarnessStatus.DELETED:
        return refuse(command, "not_active", now)
    if refused := admit(state, command, context, version=None):
        return refused
    if code := refuse_change(state, update.harness_id, changes, command.expected_version):
        return refuse(command, code, now)
    if len(state.harnesses) > context.settings.org_harnesses_max:
        return refuse(command, "org_full", now, fences=True)
    return _write(state, command, update.harness_id, changes, context)


def _write(state: OrgState, command: Command, harness_id: str, changes: Changes, context: Context) -> Decision:
    """The new body is a blob, put before the one write of the directory that names it; it is the payload, too."""
    before = state.harnesses[harness_id]
    after = apply_changes(_body(before.body, context), changes, context.now)
    body = after.model_dump_json().encode()
    blob = Blob(sha256=hashlib.sha256(body).hexdigest(), bytes=len(body))
    entry = before.model_copy(
        update={
            "name": after.name,
            "parent": after.parent_harness_id,
            "status": after.status,
            "version": before.version + 1,
            "body": blob.sha256,
        }
    )
    draft = Draft(state, evolve)
    draft.emit(HarnessChanged(harness_id=harness_id, entry=entry, at=context.now))
    aggregate = VerdictAggregate(
        type="harness",
        id=harness_id,
        version=entry.version,
        status_before=before.status.value,
        status_after=entry.status.value,
    )
    draft.remember(command, verdict_on(command, "updated", context.now, aggregate=aggregate, harness=blob))
    forget(draft, context)
    return Written(tuple(draft.events), draft.state, (body,))


def _body(sha256: str, context: Context) -> Harness:
    """The stored harness; the handler reads it before it asks for a decision.  Raises LookupError where it is gone."""
    for read in context.documents:
        if read.key == f"blobs/{sha256}" and read.content is not None:
            return Harness.model_validate_json(read.content)
    raise LookupError(f"blobs/{sha256} is not there")


def _first(errors: tuple[FieldError, ...]) -> str:
    return "; ".join(f"{'.'.join(str(part) for part in error.loc)}: {error.msg}" for error in errors[:3])
