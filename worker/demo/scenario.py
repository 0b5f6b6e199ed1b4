"""The scenario: every command of the demo, and the answer that the contract promises.  Read it as documentation.

Commands of one scene are published at once, in this order; a scene ends with its last verdict.  Targets are names of
cast.py.  Knows nothing of how a command is published.
"""

from typing import Any

from worker.demo.cast import BOB, EVE, HARNESS_IDS, RECONCILER
from worker.demo.step import Expected, Scene, Step


def cancelled(**more: Any) -> Expected:
    """Applied, with the proof that it stopped."""
    return Expected(200, "cancelled", "stopped", "cancelled", **more)


# fmt: off
STOPPING = Scene(
    "Evaluations: processes of this machine are stopped",
    (
        Step("evaluation.cancel", "obedient", "runs, and has partial data",
             cancelled(processes_min=1, objects_removed=3), id="obedient"),
        Step("evaluation.cancel", "deaf", "ignores SIGTERM: killed after its grace",
             cancelled(escalations_min=1), {"grace_period_seconds": 1}),
        Step("evaluation.cancel", "family", "has grandchildren, one called setsid", cancelled(processes_min=4)),
        Step("evaluation.cancel", "unrecorded", "its document names no Job", cancelled(processes_min=1)),
        Step("evaluation.cancel", "slow", "takes a while to stop",
             cancelled(), {"grace_period_seconds": 20}, id="slow"),
        Step("evaluation.cancel", "slow", "sent twice: the second waits for the first",
             cancelled(same_bytes=True), id="slow", again=True),
        Step("workflow.update", "slow", "says meanwhile that it succeeded",
             Expected(200, "superseded", status_after="cancelling"), {"status": "Completed"}),
        Step("evaluation.cancel", "forced", "a patient cancel", cancelled(), {"grace_period_seconds": 600}),
        Step("evaluation.cancel", "forced", "a second cancel joins, with force", cancelled(), {"mode": "force"}),
        Step("evaluation.cancel", "late", "has not started anything yet", cancelled()),
    ),
)

REFUSED = Scene(
    "Refusals: the bystander must not be touched",
    (
        Step("evaluation.cancel", "unknown", "no such evaluation", Expected(404, "not_found")),
        Step("evaluation.cancel", "bystander", "another team's", Expected(404, "not_found"), actor=EVE),
        Step("evaluation.cancel", "bystander", "no permission", Expected(403, "permission_denied"), actor=BOB),
        Step("evaluation.cancel", "malformed", "an id that is no UUID", Expected(422, "invalid_command")),
        Step("evaluation.cancel", "bystander", "expired",
             Expected(410, "expired"), {"expires_at": "2020-01-01T00:00:00Z"}),
        Step("evaluation.cancel", "bystander", "another version was expected",
             Expected(409, "version_conflict"), {"expected_version": 99}),
        Step("evaluation.cancel", "bystander", "from the future", Expected(422, "time_in_future"), ahead_seconds=3600),
        Step("evaluation.cancel", "bystander", "only asks what would happen",
             Expected(200, "cancelled", would=True), {"dry_run": True}),
        Step("workflow.update", "bystander", "reports a Job without its label",
             Expected(422, "job_not_attributable"),
             {"job": {"namespace": "local", "name": "somebody-elses", "uid": "uid-1"}}),
        Step("evaluation.cancel", "finished", "has ended already", Expected(400, "already_terminal")),
        Step("evaluation.cancel", "bystander", "a record without an envelope",
             Expected(422, "invalid_command"), form="broken"),
    ),
)

REPORTS = Scene(
    "Reports of executors",
    (
        Step("workflow.update", "bystander", "a finer step",
             Expected(200, "updated", status_after="running"), {"phase": "scoring"}),
        Step("workflow.update", "bystander", "the same again",
             Expected(200, "unchanged", status_after="running"), {"phase": "scoring"}),
        Step("workflow.update", "bystander", "backward",
             Expected(409, "illegal_transition", status_after="running"), {"status": "starting"}),
        Step("workflow.update", "reported", "forward, as a structured CloudEvent",
             Expected(200, "updated", status_after="succeeded"), {"status": "done"}, form="structured"),
        Step("workflow.update", "abandoned", "cancelled, it says, but its process runs",
             Expected(200, "updated", "stopped", "cancelled", processes_min=1), {"status": "canceled"}),
    ),
)

AGENTS = Scene(
    "Custom harnesses: tasks at an A2A agent",
    (
        Step("custom_harness.cancel", "at-the-agent", "its task runs at the agent", cancelled()),
        Step("custom_harness.cancel", "without-task", "has no task", Expected(200, "cancelled", None, "cancelled")),
        Step("custom_harness.cancel", "already-done", "the agent says that it had finished before",
             Expected(400, "too_late", "stopped", "succeeded")),
        Step("custom_harness.cancel", "reluctant", "not cancelable for now",
             Expected(504, "unconfirmed", "unconfirmed", "cancelling"), {"deadline_seconds": 2}),
        Step("custom_harness.cancel", "endless", "never cancelable",
             Expected(504, "unconfirmed", "unconfirmed", "cancelling"), {"deadline_seconds": 2}),
        Step("custom_harness.cancel", "elsewhere", "its agent is not in the settings",
             Expected(502, "agent_refused", "unconfirmed", "cancelling")),
        Step("custom_harness.cancel", "draft", "no workflow yet", Expected(400, "no_workflow")),
        Step("custom_harness.cancel", "at-the-agent", "another team's", Expected(404, "not_found"), actor=EVE),
    ),
)

SESSIONS = Scene(
    "Sessions: turns at an executor",
    (
        Step("session.cancel", "talk", "aimed at an earlier turn",
             Expected(200, "no_running_turn", status_after="running"), {"turn_id": "turn-of-yesterday"}),
        Step("turn.update", "talk", "an earlier turn is reported done",
             Expected(200, "superseded", status_after="running"),
             {"turn_id": "turn-of-yesterday", "turn_number": 2, "status": "done"}),
        Step("turn.update", "talk", "a new turn, while one runs",
             Expected(409, "turn_still_running"),
             {"turn_id": "turn-of-tomorrow", "turn_number": 4, "status": "running"}),
        Step("session.cancel", "talk", "its turn runs at the executor", cancelled()),
        Step("session.cancel", "over", "the executor says that it had finished",
             Expected(200, "turn_already_finished", "stopped", "succeeded")),
        Step("session.cancel", "silent", "the executor is silent",
             Expected(424, "executor_timeout", "unconfirmed", "cancelling"), {"deadline_seconds": 2}),
        Step("session.cancel", "unhurried", "the turn goes on for a while",
             Expected(424, "executor_timeout", "unconfirmed", "cancelling"), {"deadline_seconds": 2}),
        Step("session.cancel", "idle", "its last turn has ended",
             Expected(200, "no_running_turn", status_after="succeeded")),
        Step("turn.update", "idle", "a new turn",
             Expected(200, "updated", status_after="running"),
             {"turn_id": "turn-of-today", "turn_number": 3, "status": "running"}),
        Step("session.update", "closed", "closed",
             Expected(200, "updated", status_after="closed"), {"status": "closed"}),
        Step("session.cancel", "closed", "a closed session", Expected(412, "session_unusable")),
        Step("session.cancel", "talk", "another tenant's", Expected(412, "session_unusable"), actor=EVE),
        Step("session.cancel", "malformed session", "an id without a zone", Expected(400, "invalid_session_id")),
        Step("session.cancel", "other zone", "a zone that nobody configured", Expected(400, "invalid_session_id")),
    ),
)

HARNESSES = Scene(
    "Harnesses of an org",
    (
        Step("harness.update", "writer", "a change",
             Expected(200, "updated", status_after="active", harness={"name": "writer", "description": "Writes."}),
             {"changes": {"description": "Writes.", "network_access": {"allowed": ["*.acme.test"]}}}),
        Step("harness.update", "writer", "a name that is taken",
             Expected(409, "name_taken"), {"changes": {"name": "reviewer"}}),
        Step("harness.update", "writer", "a bad field",
             Expected(400, "invalid_field"), {"changes": {"name": "Not OK"}}),
        Step("harness.update", "base", "nothing to change is a success",
             Expected(200, "updated", status_after="active", harness={"name": "base"}), {"changes": {}}),
        Step("harness.update", "base", "its child as its parent",
             Expected(400, "invalid_parent"), {"changes": {"parent_harness_id": HARNESS_IDS["writer"]}}),
        Step("harness.update", "writer", "another version was expected",
             Expected(409, "version_conflict"), {"changes": {"tags": ["late"]}, "expected_version": 0}),
        Step("harness.update", "base", "archived while another inherits from it",
             Expected(409, "still_inherited"), {"changes": {"status": "archived"}}),
        Step("harness.update", "reviewer", "archived",
             Expected(200, "updated", status_after="archived", harness={"name": "reviewer", "status": "archived"}),
             {"changes": {"status": "archived"}}),
        Step("harness.update", "writer", "the name of the archived one is still taken",
             Expected(409, "name_taken"), {"changes": {"name": "reviewer"}}),
        Step("harness.update", "31 digits", "an id one digit short",
             Expected(400, "invalid_harness_id"), {"changes": {}}),
    ),
)

AFTERWARDS = Scene(
    "Afterwards: what comes too late, comes twice, or was left unsettled",
    (
        Step("evaluation.cancel", "obedient", "the same record again",
             cancelled(processes_min=1, objects_removed=3, same_bytes=True), id="obedient", again=True),
        Step("evaluation.cancel", "obedient", "its id for another command",
             Expected(422, "command_id_reused"), {"mode": "force"}, id="obedient"),
        Step("evaluation.cancel", "obedient", "cancelled once more", Expected(400, "already_terminal")),
        Step("workflow.update", "slow", "says after its cancel that it succeeded",
             Expected(200, "superseded", status_after="cancelled"), {"status": "succeeded"}),
        Step("workflow.update", "late", "a Job that started after the cancel is torn down",
             Expected(200, "updated", "stopped", "cancelled", processes_min=1), starts_job=True),
        Step("turn.update", "silent", "the silent one's turn is reported done",
             Expected(200, "superseded", status_after="cancelling"),
             {"turn_id": "turn-silent", "turn_number": 1, "status": "done"}),
        Step("session.resume", "unhurried", "the reconciler goes on with a turn",
             Expected(200, "resumed", "stopped", "cancelled"), actor=RECONCILER),
        Step("workflow.resume", "reluctant", "the reconciler goes on with a task",
             Expected(200, "resumed", "stopped", "cancelled"), actor=RECONCILER),
        Step("workflow.resume", "endless", "nobody else may do that", Expected(403, "permission_denied")),
    ),
)
# fmt: on

SCENES = (STOPPING, REFUSED, REPORTS, AGENTS, SESSIONS, HARNESSES, AFTERWARDS)
