"""The system's clock and randomness."""

import asyncio
import random
import secrets
import time
from datetime import UTC, datetime

PAGE_BYTES = 4096


class SystemClock:
    """Wall clock and monotonic clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemIds:
    """Random of the operating system for ids, drawn by the page (a call for each id costs more than the id's use)."""

    def __init__(self) -> None:
        self._drawn = b""
        self._used = 0

    def fresh(self) -> str:
        return self._draw(16).hex()

    def jitter(self) -> float:
        return random.random()  # noqa: S311  # no secret depends on it

    def nonce(self) -> bytes:
        return self._draw(12)

    def _draw(self, count: int) -> bytes:
        if self._used + count > len(self._drawn):
            self._drawn, self._used = secrets.token_bytes(PAGE_BYTES), 0
        self._used += count
        return self._drawn[self._used - count : self._used]
