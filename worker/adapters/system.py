"""The system's clock and randomness."""

import asyncio
import random
import secrets
import time
from datetime import UTC, datetime


class SystemClock:
    """Wall clock and monotonic clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemIds:
    """Random of the operating system for ids; a plain generator for jitter."""

    def fresh(self) -> str:
        return secrets.token_hex(16)

    def jitter(self) -> float:
        return random.random()  # noqa: S311  # no secret depends on it

    def nonce(self) -> bytes:
        return secrets.token_bytes(12)
