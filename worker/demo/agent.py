"""An A2A agent made with the official a2a-sdk, in a process of its own: `python -m worker.demo.agent --port 0`.

Prints `listening on PORT`.  The text of a message is JSON that says how its task behaves; see `Wish`.  A task that runs
is a real child process, so that whether a cancel reached it can be seen in the process table.  Knows nothing of the
worker: it is the other side.
"""

import argparse
import asyncio
import contextlib
import os
import socket
import sys
import time
from typing import Any

import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    CancelTaskRequest,
    Task,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import TaskNotCancelableError
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette

from worker.demo.census import THING_MARKER


class Wish(BaseModel):
    """How a task behaves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thing: str
    """Name of its child process in the process table."""
    finishes: bool = False
    """Completed at once, without a process."""
    not_cancelable_seconds: float = 0
    """From the first cancel on, the answer is "not cancelable" for so long."""


class Runner(AgentExecutor):
    """Runs each task as a child process until it is cancelled."""

    def __init__(self) -> None:
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._not_cancelable_seconds: dict[str, float] = {}
        self._first_asked: dict[str, float] = {}

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        wish = Wish.model_validate_json(context.get_user_input())
        task_id, context_id = str(context.task_id), str(context.context_id)
        working = TaskStatus(state=TaskState.TASK_STATE_WORKING)
        await event_queue.enqueue_event(Task(id=task_id, context_id=context_id, status=working))
        if wish.finishes:
            await TaskUpdater(event_queue, task_id, context_id).complete()
            return
        self._not_cancelable_seconds[task_id] = wish.not_cancelable_seconds
        marked = os.environ | {THING_MARKER: wish.thing}
        process = await asyncio.create_subprocess_exec("sleep", "3600", env=marked)
        self._processes[task_id] = process
        await process.wait()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Says `canceled` only once the process has ended."""
        task_id, context_id = str(context.task_id), str(context.context_id)
        process = self._processes.pop(task_id, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        await TaskUpdater(event_queue, task_id, context_id).cancel()

    def is_cancelable(self, task_id: str) -> bool:
        """A cancel is asked for: whether the time that the task's wish said has passed since the first one."""
        asked = self._first_asked.setdefault(task_id, time.monotonic())
        return time.monotonic() >= asked + self._not_cancelable_seconds.get(task_id, 0.0)


class Handler(DefaultRequestHandler):
    """The SDK's handler, and a policy: some tasks are not cancelable, and go on."""

    def __init__(self, runner: Runner, card: AgentCard) -> None:
        super().__init__(agent_executor=runner, task_store=InMemoryTaskStore(), agent_card=card)
        self._runner = runner

    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task | None:
        if not self._runner.is_cancelable(params.id):
            raise TaskNotCancelableError
        answered: Task | None = await super().on_cancel_task(params, context)
        return answered


def application(port: int) -> Starlette:
    """The agent as an ASGI application; its JSON-RPC endpoint is `/`."""
    interface = AgentInterface(url=f"http://127.0.0.1:{port}/", protocol_binding="JSONRPC", protocol_version="1.0")
    card = AgentCard(
        name="demo agent",
        description="Runs tasks until they are cancelled.",
        version="1",
        supported_interfaces=[interface],
        capabilities=AgentCapabilities(streaming=False),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="run", name="run", description="Runs until it is cancelled.", tags=["demo"])],
    )
    routes: list[Any] = create_jsonrpc_routes(Handler(Runner(), card), "/")
    return Starlette(routes=routes)


def main() -> None:
    """Serve on the loopback interface until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0: any free one")
    wanted = parser.parse_args().port
    with socket.create_server(("127.0.0.1", wanted)) as listener:
        port = listener.getsockname()[1]
        sys.stdout.write(f"listening on {port}\n")  # whoever started it reads the port
        sys.stdout.flush()
        config = uvicorn.Config(application(port), log_level="warning", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
