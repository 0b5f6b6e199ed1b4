"""How a client of aiokafka is ended, also one whose own `stop` does not return (K6, K13).

Such a `stop` waits for a broker, and cancelling it leaves the client's own tasks running.  They are found by what their
coroutine belongs to: the client, or an object that it holds.  Knows nothing of what the client was for.
"""

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient

ROUNDS_MAX = 20
CLOSE_SECONDS = 1.0


async def end(client: Any, timeout_seconds: float) -> None:
    """Stop a consumer, producer or admin client; after the time-out its tasks and connections are cut.

    Raises nothing: what it was used for is over, whatever became of it.  Tolerates a second call.
    """
    stopping = asyncio.create_task(client.close() if hasattr(client, "close") else client.stop())
    try:
        await asyncio.wait([stopping], timeout=timeout_seconds)
    finally:
        if not stopping.done() or stopping.cancelled() or stopping.exception():
            await _cut(client, stopping)


async def _cut(client: Any, stopping: "asyncio.Task[None]") -> None:
    """A task may answer to a cancellation by waiting for another one, so all are cancelled, until none is left."""
    for _ in range(ROUNDS_MAX):
        left = [task for task in (stopping, *_tasks_of(client)) if not task.done()]
        if not left:
            break
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CLOSE_SECONDS)
    for part in vars(client).values():
        if isinstance(part, AIOKafkaClient):
            closing = asyncio.create_task(part.close())
            await asyncio.wait([closing], timeout=CLOSE_SECONDS)
            closing.cancel()


def _tasks_of(client: Any) -> list["asyncio.Task[Any]"]:
    """In the order in which they were made, which is that of the names which asyncio gives: it has them in a set."""
    parts = [client, *(part for part in vars(client).values() if not isinstance(part, asyncio.AbstractEventLoop))]
    owned = [task for task in asyncio.all_tasks() if any(_owner(task) is part for part in parts)]
    return sorted(owned, key=lambda task: (len(task.get_name()), task.get_name()))


def _owner(task: "asyncio.Task[Any]") -> object:
    """The object whose method the task runs; itself where it runs none."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame.f_locals.get("self", task) if frame else task
