"""What `drift` finds, and which ordinary command may settle it.  Pure: knows no port.

Commands settle what still runs, never what stands in a document: a deleted or edited document has no command that
could put it right, and the next command would adopt an edit as it was found.  So nothing at all is asked of an
aggregate whose document drifted, until somebody has looked at it.
"""

from typing import Any, Literal
from uuid import uuid5

from schemas.base import EVENTS, Model
from schemas.commands import Actor, Aggregate
from schemas.documents import SessionState, WorkflowState
from worker.ports import JobIdentity

Kind = Literal[
    "still_running",
    "document_changed",
    "document_deleted",
    "document_without_history",
    "partial_left",
    "cancelling_too_long",
]
SUBJECT = "system:audit"


class Ask(Model):
    """An ordinary command; its id follows from what was found, so that asking twice asks once."""

    id: str
    """The command's id."""
    type: str
    """Its type."""
    data: dict[str, Any]
    """Its data."""


class Finding(Model):
    """One thing that is not as the log says."""

    kind: Kind
    """What it is."""
    aggregate: str | None
    """Key of the aggregate; absent where the document does not say."""
    what: str
    """What was found: the document's key, a Job, a task, a prefix."""
    detail: str
    """How it differs, for people."""
    settled_by: str
    """Who can settle it, and how, for people."""
    ask: Ask | None = None
    """The command that may settle it; absent: none may."""


def by_reporting(state: WorkflowState, job: JobIdentity, label: str, audit_seq: int) -> Ask:
    """A Job that nobody recorded is reported: what is reported after `cancelled` is torn down (contract, section 2)."""
    reported: dict[str, Any] = {"namespace": job.namespace, "name": job.name, "uid": job.uid}
    reported |= {"labels": {label: state.workflow_id}} | ({"owner": job.owner} if job.owner else {})
    actor = Actor(subject=SUBJECT, permissions=("workflow:report",), team_ids=(state.team_id,))
    fields = {"evaluation_id": state.workflow_id, "job": reported}
    return _ask("workflow.update", actor, "drift: a Job of a cancelled evaluation", fields, f"{job.uid}@{audit_seq}")


def by_resuming(state: WorkflowState | SessionState, of: Aggregate, reason: str, audit_seq: int) -> Ask:
    """A teardown that the document still holds goes on, as the reconciler would ask; no marker need be there."""
    actor = Actor(subject=SUBJECT, permissions=("workflow:resume",))
    owed = state.unsettled[-1].audit_seq if state.unsettled else audit_seq
    fields = {"marker": f"unsettled/{of.key}/{owed}"}
    if isinstance(state, SessionState):
        return _ask("session.resume", actor, reason, {"session_id": of.id, **fields}, f"{of.key}@{audit_seq}")
    name = "harness_id" if of.type == "custom-harness" else "evaluation_id"
    return _ask("workflow.resume", actor, reason, {name: of.id, **fields}, f"{of.key}@{audit_seq}")


def _ask(kind: str, actor: Actor, reason: str, fields: dict[str, Any], about: str) -> Ask:
    said = actor.model_dump(mode="json", exclude_none=True)
    return Ask(
        id=str(uuid5(EVENTS, f"drift/{kind}/{about}")), type=kind, data={"actor": said, "reason": reason, **fields}
    )
