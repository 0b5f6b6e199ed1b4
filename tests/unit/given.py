"""Given: short ways to say what a decider is given.  Nothing here decides."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.audit import Context, DecisionSettings
from schemas.base import Coordinates
from schemas.commands import OPERATIONS, Caller, Command, aggregate_of
from schemas.documents import HarnessMetadata, Job, SessionState, Task, Turn, WorkflowState
from schemas.receipts import Evidence, ResourceReceipt
from schemas.status import Status

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
EVALUATION = "11111111-1111-4111-8111-111111111111"
HARNESS = "22222222-2222-4222-8222-222222222222"
WORKFLOW = "33333333-3333-4333-8333-333333333333"
SESSION = "01arz3ndektsv4rrffq69g5fav.g"
TEAM = "team-1"
JOB = Job(namespace="local", name="job-1", uid="uid-1")
TASK = Task(agent="helper", task_id="task-1", session_id="agent-session-1")
LABELS = {"verdict-worker/evaluation-id": EVALUATION}
SETTINGS = DecisionSettings(agents=("helper",), zones=("g",))
PERMISSIONS = ("agent:write", "session:write", "harness:manage", "workflow:report", "workflow:resume")


def context(seconds: float = 0, **more: Any) -> Context:
    return Context.model_validate(
        {"now": NOW + timedelta(seconds=seconds), "build": "test", "audit_seq": 1, "settings": SETTINGS, **more}
    )


def command(op: str, id: str = "c1", offset: int = 0, caller: Caller | None = None, **data: Any) -> Command:
    """A command record at an offset; its ce_time and timestamp follow the offset."""
    top = {k: data.pop(k) for k in ("expires_at", "expected_version", "dry_run", "fingerprint") if k in data}
    ids = {
        "evaluation.cancel": {"evaluation_id": EVALUATION},
        "custom_harness.cancel": {"harness_id": HARNESS, "team_id": TEAM},
        "workflow.update": {} if "harness_id" in data else {"evaluation_id": EVALUATION},
        "workflow.resume": {} if "harness_id" in data else {"evaluation_id": EVALUATION},
        "harness.update": {},
    }.get(op, {"session_id": SESSION})
    operation = OPERATIONS[op].model_validate({**ids, **data, "op": op})
    at = NOW - timedelta(seconds=1) + timedelta(milliseconds=offset)
    return Command.model_validate(
        {
            "id": id,
            "fingerprint": hashlib.sha256(f"{op} {data}".encode()).hexdigest(),
            "time": at,
            "received_at": at,
            "at": Coordinates(partition=0, offset=offset),
            "aggregate": aggregate_of(operation),
            "caller": caller or Caller(team_ids=(TEAM,), permissions=PERMISSIONS, org_id="org-1", tenant="tenant-1"),
            "operation": operation,
            **top,
        }
    )


def evaluation(status: str = "running", *jobs: Job, **more: Any) -> WorkflowState:
    return WorkflowState(workflow_id=EVALUATION, team_id=TEAM, status=Status(status), jobs=jobs, **more)


def creation(status: str = "running", task: Task | None = TASK, **more: Any) -> WorkflowState:
    return WorkflowState(
        workflow_id=WORKFLOW,
        purpose="custom_harness",
        team_id=TEAM,
        harness_id=HARNESS,
        status=Status(status),
        workflow_specific_fields=task,
        **more,
    )


def metadata(workflow_id: str | None = WORKFLOW, team_id: str = TEAM) -> dict[str, Any]:
    content = HarnessMetadata(harness_id=HARNESS, team_id=team_id, workflow_id=workflow_id).model_dump_json()
    return {"key": f"custom-harnesses/{HARNESS}/metadata.json", "sha256": "0" * 64, "content": content}


def session(turn_status: str | None = "running", number: int = 1, **more: Any) -> SessionState:
    turn = Turn(turn_id=f"turn-{number}", number=number, status=Status(turn_status)) if turn_status else None
    return SessionState.model_validate({"session_id": SESSION, "tenant": "tenant-1", "turn": turn, **more})


def seen(kind: str, identity: str, evidence: Evidence = "stopped") -> ResourceReceipt:
    return ResourceReceipt.model_validate(
        {"kind": kind, "name": "there", "identity": identity, "evidence": evidence, "gone_at": NOW}
    )
