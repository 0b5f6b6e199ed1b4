"""OpenAPI 3.1 of the HTTP protocol that turn executors serve, from `schemas.executor`.  Knows no file."""

from typing import Any

from schemas import examples
from schemas.cloudevents import SCHEMA_MAJOR
from schemas.executor import CancelTurn, ExecutorError, TurnCancel
from schemas.export.json_schema import Schema, schema_of

PROTOCOL = """\
What a turn executor serves, so that a worker can stop a turn and know that it has stopped.

- **Identity.** The turn's id names one turn for ever and is never used again. Never stop "the running turn" in its \
place: when another turn is running, the one asked for does not run, and the answer is `not_running`.
- **Idempotent.** The worker asks until it has a final answer (`cancelled`, `finished`, `not_running`), after a \
crash too, and more than one request for a turn may be under way. Each is answered by what is true then; \
`cancelled` once more is a good answer to a second request.
- **Waiting.** The answer may wait up to `timeout_seconds` for the turn's end; the worker's own patience is 2 seconds \
more. Whoever accepts and cannot tell yet answers `cancelling` in time, goes on stopping it, and is asked again. \
Nothing is taken back when the connection is lost.
- **Evidence.** `cancelled` and `not_running` are recorded as proof that the turn does not run and never will. Where \
that is not certain, answer `cancelling` or 503. `not_running` may come with 200, 404 (unknown turn) or 409 (another \
turn runs); a 404 or 409 without this body proves nothing, as any proxy may send it, and counts as no answer.
- **Outcome.** A turn that had succeeded or failed before is answered `finished` with its outcome, which then stands.
- Answers over 64 KiB, redirects, and answers about another turn are no answer. Unknown keys are ignored, both ways.
"""


def openapi() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Turn executor",
            "version": f"{SCHEMA_MAJOR}.0.0",
            "summary": "Stop a turn, and say when it has stopped.",
            "description": PROTOCOL,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {
                "url": "{url}",
                "description": "One per zone, in the worker's settings.",
                "variables": {"url": {"default": "http://localhost:8090", "description": "Base URL of a zone."}},
            }
        ],
        "security": [{"credential": []}, {}],
        "paths": {"/v1/turns/{turn_id}/cancel": {"post": _cancel()}},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "credential": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "As the worker's settings say; header and scheme can be others, or none at all.",
                }
            },
        },
    }


def _cancel() -> dict[str, Any]:
    answer = examples.load("executor.answer").payload
    not_running = {**answer, "status": "not_running"}
    return {
        "operationId": "cancelTurn",
        "summary": "Stop this turn, and say when it has stopped.",
        "parameters": [
            {
                "name": "turn_id",
                "in": "path",
                "required": True,
                "description": "The turn, percent-encoded: 1 to 128 characters of letters, digits and `._:-`.",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"},
            }
        ],
        "requestBody": {"required": True, "content": _json("CancelTurn", examples.load("executor.request").payload)},
        "responses": {
            "200": {
                "description": "What became of the turn.",
                "content": _json("TurnCancel", answer),
            },
            "401": _error("The credential is missing or wrong. The cancel fails with `executor_refused`."),
            "403": _error("The credential may not do this. The cancel fails with `executor_refused`."),
            "404": {
                "description": "The turn is unknown here: it does not run and never will.",
                "content": _json("TurnCancel", not_running),
            },
            "409": {
                "description": "Another turn of the session is running, so this one is not.",
                "content": _json("TurnCancel", not_running),
            },
            "429": _error("Too many requests. The worker waits as `Retry-After` says, and asks again.", retry=True),
            "503": _error("It cannot be told now. The worker waits as `Retry-After` says, and asks again.", retry=True),
        },
    }


def _error(description: str, *, retry: bool = False) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description, "content": _json("ExecutorError")}
    if retry:
        response["headers"] = {
            "Retry-After": {
                "description": "Whole seconds, or an HTTP date; the worker waits at most a minute, and at the latest to"
                " the cancel's deadline. Left out: the worker's own backoff.",
                "schema": {"type": "string"},
            }
        }
    return response


def _json(model: str, example: Any = None) -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{model}"}}
    return {"application/json": content if example is None else content | {"example": example}}


def _schemas() -> dict[str, Schema]:
    return {model.__name__: schema_of(model) for model in (CancelTurn, TurnCancel, ExecutorError)}
