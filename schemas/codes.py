"""Every code that a verdict may carry, with its outcome and HTTP status: one table.

The HTTP status is what the page of the operation says (contract, sections 2 to 6); `failed` says that a teardown is
recorded and not confirmed.
"""

from typing import Literal, NamedTuple

Outcome = Literal["applied", "unchanged", "superseded", "rejected", "failed"]


class Code(NamedTuple):
    """One row: what a client may rely on."""

    outcome: Outcome
    http_status: int
    meaning: str


CODES: dict[str, Code] = {
    # done
    "cancelled": Code("applied", 200, "everything that ran for it was seen stopped"),
    "updated": Code("applied", 200, "the report or change was applied"),
    "resumed": Code("applied", 200, "an unsettled teardown was brought to its end"),
    "unchanged": Code("unchanged", 200, "there was nothing to change"),
    "no_running_turn": Code("unchanged", 200, "no turn, or not the named one, was running"),
    "turn_already_finished": Code("unchanged", 200, "the executor says that the turn had finished before"),
    "superseded": Code("superseded", 200, "recorded, but a later or stronger decision stands"),
    # refused before any intent
    "invalid_command": Code("rejected", 422, "a field is missing or breaks a rule; `errors` names it"),
    "time_in_future": Code("rejected", 422, "ce_time is more than 5 minutes after the record's timestamp"),
    "command_id_reused": Code("rejected", 422, "this id was used before for another command"),
    "job_not_attributable": Code("rejected", 422, "the reported Job lacks the label, or its namespace is not allowed"),
    "permission_denied": Code("rejected", 403, "the actor lacks the permission"),
    "not_found": Code("rejected", 404, "unknown, or another team's, org's or tenant's"),
    "too_old_to_tell": Code("rejected", 409, "older than the memory of answered commands"),
    "expired": Code("rejected", 410, "expires_at has passed"),
    "version_conflict": Code("rejected", 409, "the aggregate has another version than expected_version"),
    "illegal_transition": Code("rejected", 409, "the lifecycle has no such arrow"),
    "turn_still_running": Code("rejected", 409, "a turn is reported while another one still runs"),
    "already_terminal": Code("rejected", 400, "it has ended already"),
    "no_workflow": Code("rejected", 400, "the harness has no creation workflow yet"),
    "invalid_session_id": Code("rejected", 400, "the session id is malformed, or its zone is not configured"),
    "session_unusable": Code("rejected", 412, "expired, closed, deleted, unknown, or another tenant's"),
    "too_late": Code("rejected", 400, "the remote side had finished before; its outcome stands"),
    "invalid_harness_id": Code("rejected", 400, "not `harness_` and 32 lowercase hex digits"),
    "invalid_field": Code("rejected", 400, "a field breaks a rule; `errors` names it"),
    "status_forbidden": Code("rejected", 403, "a harness cannot be deleted by an update"),
    "built_in": Code("rejected", 400, "built-in harnesses are read-only"),
    "not_active": Code("rejected", 400, "archived or deleted harnesses cannot be changed"),
    "name_taken": Code("rejected", 409, "another harness of the org has this name"),
    "capability_unknown": Code("rejected", 404, "a capability is not known to the org"),
    "model_unknown": Code("rejected", 404, "the model is not known to the org"),
    "parent_not_found": Code("rejected", 404, "the parent does not exist in this org"),
    "invalid_parent": Code("rejected", 400, "the parent is itself, inactive, or would form a cycle"),
    "still_inherited": Code("rejected", 409, "other harnesses inherit from it"),
    "is_default": Code("rejected", 409, "it is the org's default"),
    "org_full": Code("rejected", 409, "the org's directory has reached the bound of the settings"),
    # recorded, and not confirmed
    "unconfirmed": Code("failed", 504, "not seen stopped by the deadline; status stays `cancelling`"),
    "executor_timeout": Code("failed", 424, "the executor did not confirm in time; the intent stays"),
    "forbidden_by_cluster": Code("failed", 502, "the cluster forbids it; status stays `cancelling`"),
    "agent_refused": Code("failed", 502, "the agent is not in the settings, or refuses our credentials"),
    "executor_refused": Code("failed", 502, "the executor refuses our credentials"),
    "internal_error": Code("failed", 500, "a bug; the record is kept as a dead letter"),
}
