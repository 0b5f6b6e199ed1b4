"""The engine seals what it published, at its interval and once more when it is drained; nothing waits for it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schemas.checkpoints import Checkpoint, SignedCheckpoint
from tests.contract.stack import Stack
from tests.unit.chained import KEYS, SIGNED, judged
from worker.audit.checkpoints import seals
from worker.errors import Unavailable
from worker.ports import Topic
from worker.runtime.engine import Engine, EngineSettings


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Seals every 50 ms, with a key."""
    stack = Stack(tmp_path)
    settings = EngineSettings(decisions=stack.settings, build="test", checkpoint_interval_seconds=0.05, signers=SIGNED)
    stack.engine = Engine(stack.ports, settings)
    await stack.store.start()
    await stack.create()
    yield stack
    await stack.engine.stop()
    await stack.store.stop()


async def made(stack: Stack) -> list[Checkpoint]:
    return [SignedCheckpoint.model_validate_json(r.value or b"").checkpoint for r in await stack.all(Topic.CHECKPOINTS)]


async def sealed_to(stack: Stack, offset: int) -> None:
    async with asyncio.timeout(5):
        while not any(c.end_offset >= offset for c in await made(stack)):  # noqa: ASYNC110  # a log tells nobody
            await asyncio.sleep(0.01)


async def verified(stack: Stack) -> list[tuple[str, str]]:
    log = [(record.offset, record.value or b"") for record in await stack.all(Topic.AUDIT)]
    return judged(await seals(stack.stream, [KEYS["a"].public]), log, len(log))


async def test_what_was_decided_is_sealed_at_the_interval(stack: Stack) -> None:
    await stack.engine.start()
    await stack.send("workflow.update", "u1", phase="one")
    await stack.results(1)
    await sealed_to(stack, 2)
    await stack.send("workflow.update", "u2", phase="two")
    await stack.results(2)
    await sealed_to(stack, 3)
    assert await verified(stack) == []


async def test_a_drain_seals_what_is_left_and_the_next_worker_goes_on(stack: Stack) -> None:
    await stack.engine.start()
    await stack.send("workflow.update", "u1", phase="one")
    await stack.results(1)
    await stack.engine.drain()
    assert (await made(stack))[-1].end_offset == 2
    await stack.crash()
    stack.engine = Engine(stack.ports, EngineSettings(decisions=stack.settings, build="test", signers=SIGNED))
    await stack.engine.start()
    await stack.send("workflow.update", "u2", phase="two")
    await stack.results(2)
    await stack.engine.drain()
    assert [c.sequence for c in await made(stack)] == list(range(1, len(await made(stack)) + 1))
    assert (await made(stack))[-1].end_offset == len(await stack.all(Topic.AUDIT))
    assert await verified(stack) == []


class Deaf:
    """A stream whose audit log cannot be looked at."""

    def __init__(self, stack: Stack) -> None:
        self._stream = stack.stream
        self.publish, self.read, self.stop = self._stream.publish, self._stream.read, self._stream.stop
        self.asked = 0

    async def bounds(self, topic: Topic) -> dict[int, tuple[int, int]]:
        self.asked += 1
        raise Unavailable("nobody answers")


async def test_a_log_that_cannot_be_sealed_holds_no_command_up(stack: Stack) -> None:
    deaf = Deaf(stack)
    settings = EngineSettings(decisions=stack.settings, build="test", checkpoint_interval_seconds=0.01)
    stack.engine = Engine(replace(stack.ports, stream=deaf), settings)
    with capture_logs() as lines:
        await stack.engine.start()
        await stack.send("workflow.update", "u1", phase="one")
        assert [verdict["code"] for verdict in await stack.results(1)] == ["updated"]
        async with asyncio.timeout(5):
            while deaf.asked < 3:  # noqa: ASYNC110  # it is asked by nobody whom one could wait for
                await asyncio.sleep(0.005)
        await stack.engine.drain()
    events = [line["event"] for line in lines]
    assert events.count("checkpoint.unsigned") == 1
    assert events.count("checkpoint.failed") >= 3
