"""An example executor: turns as child processes, and the cancel protocol that the worker speaks to it.

`python -m worker.demo.executor --port 0` prints `listening on PORT`.  `POST /v1/turns` starts a turn and
`GET /v1/turns/{turn_id}` looks at it, for demonstration; `POST /v1/turns/{turn_id}/cancel` is the published protocol
(schemas/executor.py), and all that a real executor has to serve.  Knows nothing of the worker: it is the other side.
"""

import argparse
import asyncio
import contextlib
import hmac
import os
import signal
import sys
from typing import Annotated, Literal

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.base import SessionId, Token
from schemas.executor import CancelTurn, ExecutorError, TurnCancel

Seconds = Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)]


class StartTurn(BaseModel):
    """A turn to run, and how it behaves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    turn_id: Token
    """Its identity, never used again."""
    session_id: SessionId
    """The session that it belongs to."""
    finishes_after_seconds: Seconds = 3600.0
    """When it ends by itself."""
    outcome: Literal["succeeded", "failed"] = "succeeded"
    """How it ended, if by itself."""
    ignores_cancel_seconds: Seconds = 0.0
    """How long it goes on after the first cancel."""
    silent: bool = False
    """Whether a cancel is neither carried out nor answered."""
    environment: dict[str, str] = {}
    """Added to the environment of its process, so that others find it in the process table."""


class Turn:
    """A turn that was started: one child process, waited for by one task."""

    def __init__(self, wish: StartTurn, process: asyncio.subprocess.Process) -> None:
        self.wish, self.process = wish, process
        self.status: Literal["running", "cancelling", "cancelled", "finished"] = "running"
        self.outcome: Literal["succeeded", "failed"] | None = None
        self.ended = asyncio.create_task(self._wait(), name=f"turn {wish.turn_id}")

    @classmethod
    async def start(cls, wish: StartTurn) -> "Turn":
        seconds = str(wish.finishes_after_seconds)
        process = await asyncio.create_subprocess_exec("sleep", seconds, env=os.environ | wish.environment)
        return cls(wish, process)

    def cancel(self) -> None:
        """Ask it to stop; idempotent, and nothing to a turn that ended."""
        if self.status == "running":
            self.status = "cancelling"
            asyncio.get_running_loop().call_later(self.wish.ignores_cancel_seconds, self.terminate)

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def answer(self) -> TurnCancel:
        """What a cancel is answered with now."""
        assert self.status != "running", "it was asked to stop, or had ended"
        return TurnCancel(turn_id=self.wish.turn_id, status=self.status, outcome=self.outcome)

    async def _wait(self) -> None:
        """How the process ended decides, whatever was asked: a turn may finish although it is being cancelled."""
        code = await self.process.wait()
        if code != 0 and self.status == "cancelling":
            self.status = "cancelled"
        else:
            self.status, self.outcome = "finished", self.wish.outcome if code == 0 else "failed"


class Executor:
    """The turns of one executor, and its HTTP routes."""

    def __init__(self) -> None:
        self.turns: dict[str, Turn] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/turns", self.start),
            web.get("/v1/turns/{turn_id}", self.look),
            web.post("/v1/turns/{turn_id}/cancel", self.cancel),
        ]

    async def start(self, request: web.Request) -> web.Response:
        wish = StartTurn.model_validate_json(await request.read())
        if wish.turn_id in self.turns:
            return _json(ExecutorError(error="a turn id is never used again"), 409)
        turn = self.turns[wish.turn_id] = await Turn.start(wish)
        return web.json_response({"turn_id": wish.turn_id, "status": turn.status, "pid": turn.process.pid}, status=201)

    async def look(self, request: web.Request) -> web.Response:
        turn = self.turns.get(request.match_info["turn_id"])
        if turn is None:
            return _json(ExecutorError(error="no such turn"), 404)
        return web.json_response({"turn_id": turn.wish.turn_id, "status": turn.status, "pid": turn.process.pid})

    async def cancel(self, request: web.Request) -> web.Response:
        """The protocol: stop the turn that was named, and say so once it has stopped, or when the time is up."""
        asked = CancelTurn.model_validate_json(await request.read())
        turn_id = request.match_info["turn_id"]
        turn = self.turns.get(turn_id)
        if turn is None:
            session = (turn for turn in self.turns.values() if turn.wish.session_id == asked.session_id)
            busy = any(not turn.ended.done() for turn in session)
            return _json(TurnCancel(turn_id=turn_id, status="not_running"), 409 if busy else 404)
        if turn.wish.silent:
            await asyncio.Event().wait()
        turn.cancel()
        await asyncio.wait([turn.ended], timeout=asked.timeout_seconds)
        return _json(turn.answer())

    async def close(self, _: web.Application) -> None:
        """No turn outlives its executor."""
        for turn in self.turns.values():
            turn.terminate()
        await asyncio.gather(*(turn.ended for turn in self.turns.values()))


def _json(body: TurnCancel | ExecutorError, status: int = 200) -> web.Response:
    return web.Response(text=body.model_dump_json(exclude_none=True), status=status, content_type="application/json")


def application(credential: str | None = None) -> web.Application:
    """The executor as an aiohttp application; with a credential only requests that carry it are served."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if credential is not None and not hmac.compare_digest(given, f"Bearer {credential}".encode()):
            return _json(ExecutorError(error="a bearer credential is needed"), 401)
        try:
            return await handler(request)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            return _json(ExecutorError(error=f"{where}: {first['msg']}"), 422)

    executor = Executor()
    app = web.Application(middlewares=[guard])
    app.add_routes(executor.routes())
    app.on_cleanup.append(executor.close)
    return app


async def serve(port: int, credential: str | None) -> None:
    """On the loopback interface, until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    runner = web.AppRunner(application(credential), handler_cancellation=True, shutdown_timeout=1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        sys.stdout.write(f"listening on {runner.addresses[0][1]}\n")  # whoever started it reads the port
        sys.stdout.flush()
        await stopping.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Serve until SIGTERM; exit code 2 where the credential is not set."""
    parser = argparse.ArgumentParser(description="an example executor of turns")
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0: any free one")
    parser.add_argument("--credential-from", metavar="NAME", help="environment variable with the bearer credential")
    given = parser.parse_args()
    credential = os.environ.get(given.credential_from, "") if given.credential_from else None
    if credential == "":
        parser.error(f"the environment variable {given.credential_from} is not set")
    asyncio.run(serve(given.port, credential))


if __name__ == "__main__":
    main()
