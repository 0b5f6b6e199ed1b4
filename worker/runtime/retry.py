"""Backoff: jittered, growing, bounded; over the Clock and Ids ports only."""

from worker.errors import Unavailable
from worker.ports import Clock, Ids

FIRST_SECONDS = 0.05
MAX_SECONDS = 5.0
RETRY_AFTER_MAX_SECONDS = 60.0


class Backoff:
    """One per repeated step: `await pause(error)` before the next try, `reset()` after a success."""

    def __init__(
        self, clock: Clock, ids: Ids, first_seconds: float = FIRST_SECONDS, max_seconds: float = MAX_SECONDS
    ) -> None:
        self._clock, self._ids = clock, ids
        self._first_seconds, self._max_seconds = first_seconds, max_seconds
        self.tries = 0

    def seconds(self, error: BaseException | None = None) -> float:
        """Half of the step fixed, half random; at least what the other side asked for."""
        step: float = min(self._max_seconds, self._first_seconds * 2.0 ** min(self.tries, 20))
        cause = error if isinstance(error, Unavailable) else error.__cause__ if error else None
        asked = cause.retry_after_seconds if isinstance(cause, Unavailable) else None
        return max(step * (0.5 + self._ids.jitter() / 2), min(asked or 0.0, RETRY_AFTER_MAX_SECONDS))

    async def pause(self, error: BaseException | None = None) -> None:
        seconds = self.seconds(error)
        self.tries += 1
        await self._clock.sleep(seconds)

    def reset(self) -> None:
        self.tries = 0
