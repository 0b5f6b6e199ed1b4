"""What an API tier does: commands out through the event stream, beside the worker; verdicts in, by their record.

Knows the event stream and the published language only.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.base import time_text
from schemas.cloudevents import headers
from worker.demo.step import Step
from worker.ports import EventStream, Outgoing, Topic

SOURCE = "verdict-worker-demo"
At = tuple[int, int]
"""Coordinates of a command record: partition and offset."""


def message(step: Step, command_id: str, address: Mapping[str, str], extra: Mapping[str, Any]) -> Outgoing:
    """The command as a record: key of its aggregate, binary or structured mode, or broken on purpose."""
    data = {"actor": step.actor, "reason": step.story, **address, **step.data, **extra}
    key = record_key(address)
    time = datetime.now(UTC) + timedelta(seconds=step.ahead_seconds)
    match step.form:
        case "binary":
            ce = headers(id=command_id, type=step.type, time=time, subject=key, source=SOURCE)
            return Outgoing(Topic.COMMANDS, key.encode(), json.dumps(data).encode(), ce)
        case "structured":
            event: dict[str, Any] = {"specversion": "1.0", "id": command_id, "type": step.type, "source": SOURCE}
            event |= {"time": time_text(time), "subject": key, "data": data}
            content_type = (("content-type", b"application/cloudevents+json"),)
            return Outgoing(Topic.COMMANDS, key.encode(), json.dumps(event).encode(), content_type)
        case "broken":
            return Outgoing(Topic.COMMANDS, key.encode(), b"\x00 no JSON", (("ce_id", command_id.encode()),))


def record_key(address: Mapping[str, str]) -> str:
    """The aggregate that a command with these ids acts on."""
    if "org_id" in address:
        return f"org/{address['org_id']}"
    if "session_id" in address:
        return f"session/{address['session_id']}"
    if "harness_id" in address:
        return f"custom-harness/{address['harness_id']}"
    return f"evaluation/{address['evaluation_id']}"


class Verdicts:
    """All verdicts since `start`, by the command record that each one answers."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._found: dict[At, list[bytes]] = {}
        self._news = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read, from the start of the topic."""
        start = {partition: first for partition, (first, _) in (await self._stream.bounds(Topic.RESULTS)).items()}
        self._reading = asyncio.create_task(self._read(start))

    async def stop(self) -> None:
        """Raises what ended the reading before, if anything did."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    async def of(self, at: At, timeout_seconds: float) -> bytes | None:
        """The first verdict on this record; None where there was none in time."""
        try:
            async with asyncio.timeout(timeout_seconds), self._news:
                await self._news.wait_for(lambda: at in self._found)
        except TimeoutError:
            return None
        return self._found[at][0]

    def count(self, at: At) -> int:
        """How many verdict records answer this record; one is right."""
        return len(self._found.get(at, ()))

    async def _read(self, start: Mapping[int, int]) -> None:
        async for record in self._stream.read(Topic.RESULTS, start, follow=True):
            named = dict(record.headers)
            at = int(named["verdict-partition"]), int(named["verdict-offset"])
            async with self._news:
                self._found.setdefault(at, []).append(record.value or b"")
                self._news.notify_all()
