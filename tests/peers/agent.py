"""An agent made with the official a2a-sdk, in whichever release this interpreter has: 0.2, 0.3 or 1.x.

Run as a process of its own (`python agent.py`); prints `listening on PORT`, ends with its standard input.  Beside the
SDK's JSON-RPC endpoint stands a door for tests: start a task that behaves as asked, see whether its work still runs,
read what was asked of the agent.  Knows nothing of the worker.
"""

import asyncio
import json
import socket
import sys
import uuid
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LATE_SECONDS = 0.5
MODERN = int(version("a2a-sdk").split(".")[0]) >= 1

# The type checker knows at most one release, so the SDK is Any to it.
types: Any = import_module("a2a.types")
execution: Any = import_module("a2a.server.agent_execution")
handlers: Any = import_module("a2a.server.request_handlers")
tasks: Any = import_module("a2a.server.tasks")
errors: Any = import_module("a2a.utils.errors")
server_context: Any = import_module("a2a.server.context")


@dataclass
class Script:
    """How a task behaves."""

    ends_after_seconds: float = 3600.0
    """When it reaches `outcome` by itself."""
    outcome: str = "completed"
    on_cancel: str = "stops"
    """`stops` | `stops_later` (answered with the task as it is, done half a second later) | `not_cancelable` |
    `unsupported` | `silent` (never answered)."""


@dataclass
class Work:
    """What became of one task, as the agent itself knows it."""

    script: Script
    started: asyncio.Event = field(default_factory=asyncio.Event)
    task_id: str = ""
    running: bool = False


by_message: dict[str, Work] = {}
by_task: dict[str, Work] = {}
asked: list[dict[str, Any]] = []
background: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Any) -> None:
    task = asyncio.create_task(coroutine)
    background.add(task)
    task.add_done_callback(background.discard)


def state(word: str) -> Any:
    """A task state by its word in 0.x."""
    if MODERN:
        return types.TaskState.Value("TASK_STATE_" + word.upper().replace("-", "_"))
    return types.TaskState(word)


def failure(name: str) -> Exception:
    """What the SDK turns into a JSON-RPC error."""
    if MODERN:
        return getattr(errors, name)()  # type: ignore[no-any-return]
    return errors.ServerError(error=getattr(types, name)())  # type: ignore[no-any-return]


ENDED = [state(word) for word in ("completed", "canceled", "failed", "rejected")]


class Executor(execution.AgentExecutor):  # type: ignore[misc]
    """The agent's work: it waits, and knows whether it does."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        work = by_message[context.message.message_id]
        work.task_id = context.task_id
        by_task[work.task_id] = work
        status = types.TaskStatus(state=state("submitted"))
        task = types.Task(id=context.task_id, context_id=context.context_id, status=status)
        await event_queue.enqueue_event(task)
        updater = tasks.TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        work.running = True
        work.started.set()
        try:
            await asyncio.sleep(work.script.ends_after_seconds)
        finally:
            work.running = False
        await updater.update_status(state(work.script.outcome))

    async def cancel(self, context: Any, event_queue: Any) -> None:
        """The SDK ends `execute` itself; a task that ended is refused here, since 0.2 leaves that to the agent."""
        if context.current_task.status.state in ENDED:
            raise failure("TaskNotCancelableError")
        await tasks.TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


class Handler(handlers.DefaultRequestHandler):  # type: ignore[misc]
    """The SDK's handler; where a script says so, the cancel never reaches it."""

    async def on_cancel_task(self, params: Any, context: Any = None) -> Any:
        work = by_task.get(params.id)
        match work.script.on_cancel if work else "stops":
            case "not_cancelable":
                raise failure("TaskNotCancelableError")
            case "unsupported":
                raise failure("UnsupportedOperationError")
            case "silent":
                await asyncio.sleep(3600)
            case "stops_later":
                spawn(self._cancel_later(params, context))
                kind = types.GetTaskRequest if MODERN else types.TaskQueryParams
                return await self.on_get_task(kind(id=params.id), context)
            case _:
                pass
        return await super().on_cancel_task(params, context)

    async def _cancel_later(self, params: Any, context: Any) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await super().on_cancel_task(params, context)


def routes(handler: Any) -> list[BaseRoute]:
    """The SDK's endpoint at `/`; a 1.x release serves the older dialect as well, at `/both`."""
    if MODERN:
        create: Any = import_module("a2a.server.routes").create_jsonrpc_routes
        return [*create(handler, "/"), *create(handler, "/both", enable_v0_3_compat=True)]
    application: Any = import_module("a2a.server.apps").A2AStarletteApplication
    return list(application(agent_card=card(), http_handler=handler).routes())


def card() -> Any:
    if MODERN:
        return types.AgentCard(name="peer")
    return types.AgentCard(
        name="peer",
        description="an agent that waits",
        url="http://localhost/",
        version="1",
        capabilities=types.AgentCapabilities(),
        default_input_modes=["text"],
        default_output_modes=["text"],
        skills=[],
    )


def first_message(message_id: str) -> Any:
    """The request that makes a task."""
    if MODERN:
        message = types.Message(message_id=message_id, role="ROLE_USER", parts=[types.Part(text="work")])
        configuration = types.SendMessageConfiguration(return_immediately=True)
        return types.SendMessageRequest(message=message, configuration=configuration)
    parts = [types.Part(root=types.TextPart(text="work"))]
    message = types.Message(message_id=message_id, role="user", parts=parts)
    return types.MessageSendParams(message=message)


class Door:
    """What a test asks of this process beside the protocol."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/tests/tasks", self.start, methods=["POST"]),
            Route("/tests/tasks/{task_id}", self.look),
            Route("/tests/asked", self.asked),
        ]

    async def start(self, request: Request) -> Response:
        """-> the id of a task that runs; the SDK's own handler made it."""
        message_id = uuid.uuid4().hex
        work = by_message[message_id] = Work(Script(**await request.json()))
        context = server_context.ServerCallContext()
        spawn(self._handler.on_message_send(first_message(message_id), context))
        await work.started.wait()
        return JSONResponse({"task_id": work.task_id})

    async def look(self, request: Request) -> Response:
        return JSONResponse({"running": by_task[request.path_params["task_id"]].running})

    async def asked(self, request: Request) -> Response:
        """Every call of a method so far: method, params, the header A2A-Version."""
        return JSONResponse(asked)


class Recorder:
    """Writes down each call as it came over the wire."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/tests/"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = b""

        async def listen() -> Message:
            nonlocal body
            message = await receive()
            if message["type"] == "http.request":
                body += message.get("body", b"")
                if not message.get("more_body"):
                    called = json.loads(body)
                    asked.append({key: called.get(key) for key in ("method", "params")} | {"headers": headers})
            return message

        await self._app(scope, listen, send)


async def main() -> None:
    handler = Handler(agent_executor=Executor(), task_store=tasks.InMemoryTaskStore(), **modern_card())
    app = Recorder(Starlette(routes=[*routes(handler), *Door(handler).routes()]))
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's delay of 40 ms on
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    asyncio.get_running_loop().add_reader(sys.stdin, lambda: setattr(server, "should_exit", True))
    sys.stdout.write(f"listening on {listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve(sockets=[listener])


def modern_card() -> dict[str, Any]:
    return {"agent_card": card()} if MODERN else {}


if __name__ == "__main__":
    asyncio.run(main())
