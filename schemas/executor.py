"""The HTTP protocol of turn executors: `POST {url}/v1/turns/{turn_id}/cancel`, small enough for anybody to serve.

Generated from here: `published/executor.openapi.json`, which also says what it means.  Knows no HTTP library.
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Model, SessionId, Token

TIMEOUT_SECONDS_MAX = 3600
ANSWER_BYTES_MAX = 64 * 1024

TurnOutcome = Literal["succeeded", "failed", "cancelled"]


class CancelTurn(Model):
    """Stop this turn, and say when it has stopped."""

    session_id: SessionId
    """The session that the turn belongs to, `<ulid>.<zone>`; for routing and logs: the turn alone is the identity."""
    timeout_seconds: Annotated[float, Field(ge=0, le=TIMEOUT_SECONDS_MAX, allow_inf_nan=False)]
    """How long the answer may wait for the turn's end, in seconds; after it answer `cancelling`."""


class TurnCancel(Model):
    """What became of the turn that was named."""

    turn_id: Token
    """The turn of the request; another one's id makes the answer worthless."""
    status: Literal["cancelled", "finished", "not_running", "cancelling"]
    """`cancelled`: it was running and has stopped. `finished`: it had ended by itself before. `not_running`: it does
    not run and never will, since it is unknown or another turn runs. `cancelling`: accepted, not stopped yet."""
    outcome: TurnOutcome | None = None
    """With `finished`: how it had ended, where that is known; then this outcome stands."""


class ExecutorError(Model):
    """Why the request was not carried out.  The worker decides by the HTTP status and logs no more than a line."""

    error: Annotated[str, Field(max_length=1024)]
    """For people; at most 1,024 characters."""
