"""How one client asks the broker: a time-out per request, and the errors that aiokafka's own client raises.

Lives in the process of its client.  Knows nothing of what is asked.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka import errors

from worker.simulation.kafka.broker import Broker
from worker.simulation.world import current

T = TypeVar("T")
BACKOFF_SECONDS = 0.1
BACKOFF_SECONDS_MAX = 1.0
SEEN_BROKEN = 0.5
"""How often a client sees that its connection broke, in place of waiting for the time-out."""


def _not_ready() -> errors.KafkaError:
    return errors.NodeNotReadyError("Attempt to send a request to node which is not ready (node id 0).")


def _closed() -> errors.KafkaError:
    return errors.KafkaConnectionError("Connection at broker:9092 closed")


class Link:
    """One client's; `ask` may be called by several of its tasks at once.  `host` is the process's name."""

    def __init__(self, broker: Broker, client_id: str, timeout_seconds: float) -> None:
        self.broker, self.client_id, self.timeout_seconds = broker, client_id, timeout_seconds
        process = current()
        self.host = process.name if process else "world"
        self._deadlines = Deadlines(timeout_seconds)
        self._coordinator: int | None = None
        self._refused = 0

    async def bootstrap(self) -> None:
        """Raises KafkaConnectionError where no broker answers."""
        try:
            await self.ask("Metadata", lambda: None)
        except errors.KafkaError as error:
            raise errors.KafkaConnectionError("Unable to bootstrap from [('broker', 9092, 0)]") from error

    async def ask(self, what: str, serve: Callable[[], T], detail: str = "") -> T:
        """Raises RequestTimedOutError, KafkaConnectionError, NodeNotReadyError; what `serve` raises."""
        broken = _closed if self.broker.chance.random() < SEEN_BROKEN else None
        call = self.broker.wire.call(what, serve, detail, refused=_not_ready, broken=broken)
        try:
            answer = await self._deadlines.keep(call)
        except errors.NodeNotReadyError:
            self._refused += 1
            raise
        self._refused = 0
        return answer

    async def ask_coordinator(self, what: str, serve: Callable[[], T], detail: str = "") -> T:
        """Of the group, or of transactions; it is looked up where it is not known.

        Raises NotCoordinatorError, CoordinatorLoadInProgressError as well.
        """
        wire = self.broker.wire
        if self._coordinator is None:
            self._coordinator = await self.ask("FindCoordinator", lambda: wire.coordinators)
        known = self._coordinator

        def checked() -> T:
            wire.check_coordinator(known)
            return serve()

        try:
            return await self.ask(what, checked, detail)
        except (errors.NotCoordinatorError, errors.RequestTimedOutError, errors.NodeNotReadyError):
            self._coordinator = None
            raise

    async def waited(self, answer: "asyncio.Future[T]") -> T:
        """An answer for which the broker has to wait.  Raises RequestTimedOutError, KafkaConnectionError."""
        self.broker.wire.park(answer)
        return await self._deadlines.keep(answer)

    def forget_coordinator(self) -> None:
        """The next request looks it up."""
        self._coordinator = None

    async def back_off(self) -> None:
        """`retry_backoff_ms`; a broker that is away is asked less often (connecting takes its time, too)."""
        await asyncio.sleep(min(BACKOFF_SECONDS * (1 + self._refused), BACKOFF_SECONDS_MAX))


class Deadlines:
    """One time-out for many requests, with a single timer: of thousands hardly one is ever reached."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._open: deque[Deadline] = deque()
        self._armed = False

    async def keep(self, work: Awaitable[T]) -> T:
        """As `asyncio.timeout` does it.  Raises RequestTimedOutError once the time is up."""
        task = asyncio.current_task()
        assert task is not None, "clients run in tasks"
        deadline = Deadline(self._loop.time() + self._seconds, task)
        self._open.append(deadline)
        if not self._armed:
            self._arm(self._seconds)
        try:
            return await work
        except asyncio.CancelledError as error:
            if deadline.reached and task.uncancel() <= deadline.cancelling:
                raise errors.RequestTimedOutError from error
            raise
        finally:
            deadline.task = None

    def _arm(self, seconds: float) -> None:
        self._armed = True
        self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._armed = False
        now, deadlines = self._loop.time(), self._open
        while deadlines and (deadlines[0].task is None or deadlines[0].seconds <= now):
            deadlines.popleft().reach()
        if deadlines:
            self._arm(deadlines[0].seconds - now)


class Deadline:
    """Of one request; `task` None: it was answered."""

    __slots__ = ("cancelling", "reached", "seconds", "task")

    def __init__(self, seconds: float, task: "asyncio.Task[Any]") -> None:
        self.seconds = seconds
        self.task: asyncio.Task[Any] | None = task
        self.cancelling = task.cancelling()
        self.reached = False

    def reach(self) -> None:
        if self.task is not None:
            self.reached = True
            self.task.cancel()
