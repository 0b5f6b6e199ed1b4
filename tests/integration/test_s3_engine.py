"""The worker over S3: replies lost and the server killed under load, and how many requests a command costs."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.contract.stack import JOB, evaluation_id, message
from tests.integration.proxy import Proxy
from tests.integration.s3_stack import S3Stack
from tests.integration.s3_world import settings_of
from tests.services.object_store import ObjectStore
from worker.ports import Topic

COMMANDS = 40


@asynccontextmanager
async def running(folder: Path, s3: ObjectStore, bucket: str, **changed: Any) -> AsyncIterator[S3Stack]:
    stack = S3Stack(folder, settings_of(s3, bucket, **changed))
    await stack.engine.start()
    try:
        yield stack
    finally:
        await stack.engine.stop()


async def answered_once(stack: S3Stack, count: int) -> None:
    """One verdict per command record, all of them 200, and no dead letter."""
    verdicts = await stack.results(count, seconds=60)
    assert Counter(verdict["http_status"] for verdict in verdicts) == {200: count}
    assert len({verdict["command"]["id"] for verdict in verdicts}) == count
    await asyncio.sleep(0.1)
    assert len(await stack.all(Topic.RESULTS)) == count
    assert await stack.all(Topic.DEAD_LETTERS) == []


async def test_with_replies_lost_each_write_is_sent_once_and_each_command_decided_once(
    s3: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    """A PUT that is repeated behind our back would be refused: more PUTs than revisions."""
    chance = random.Random(4)  # noqa: S311  # which replies, not a secret
    async with Proxy(s3.endpoint_url) as proxy, running(tmp_path, s3, bucket, endpoint_url=proxy.url) as stack:
        for n in range(COMMANDS):
            await stack.create(n, jobs=[{**JOB, "uid": f"uid-{n}"}])
        proxy.requests.clear()
        proxy.loses = lambda method, path: method == "PUT" and "workflows/" in path and chance.random() < 0.3
        await stack.stream.publish([message("evaluation.cancel", f"c-{n}", n) for n in range(COMMANDS)])
        await answered_once(stack, COMMANDS)
        proxy.loses = lambda method, path: False
        assert len(proxy.lost) > COMMANDS / 4
        for n in range(COMMANDS):
            document = await stack.document(n)
            assert (await stack.workflow(n)).status == "cancelled"
            assert proxy.count("PUT", evaluation_id(n)) == document.revision
        assert sorted(stack.jobs.deleted) == sorted(f"uid-{n}" for n in range(COMMANDS))


async def test_a_server_killed_and_started_under_load_is_waited_out_and_nothing_is_lost(
    s3: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    async with running(tmp_path, s3, bucket) as stack:
        for n in range(COMMANDS):
            await stack.create(n, jobs=[{**JOB, "uid": f"uid-{n}"}])
        stack.jobs.delay_seconds = 0.5
        for half in (range(COMMANDS // 2), range(COMMANDS // 2, COMMANDS)):
            await stack.stream.publish([message("evaluation.cancel", f"c-{n}", n) for n in half])
            await stack.reaches("cancelling", half[0], seconds=30)
            await s3.kill()
            assert len(await stack.all(Topic.RESULTS)) < half.stop, "it was killed while work was in flight"
            await asyncio.sleep(0.5)
            await s3.start()
        await answered_once(stack, COMMANDS)
        for n in range(COMMANDS):
            assert (await stack.workflow(n)).status == "cancelled"


async def test_a_server_that_hangs_under_load_is_waited_out(s3: ObjectStore, bucket: str, tmp_path: Path) -> None:
    """Requests time out meanwhile; some of them are carried out when it goes on."""
    async with running(tmp_path, s3, bucket, read_timeout_seconds=0.3) as stack:
        await stack.create(1, jobs=[JOB])
        await s3.pause()
        await stack.send("evaluation.cancel", "c-1", 1)
        await asyncio.sleep(1.5)
        assert await stack.all(Topic.RESULTS) == []
        await s3.unpause()
        await answered_once(stack, 1)


async def test_warm_an_update_costs_one_put_and_a_cancel_two(s3: ObjectStore, bucket: str, tmp_path: Path) -> None:
    """And at most 0.05 GET; a cancel that cleans up lists what there is to remove, once."""
    async with Proxy(s3.endpoint_url) as proxy, running(tmp_path, s3, bucket, endpoint_url=proxy.url) as stack:
        for n in range(COMMANDS):
            await stack.create(n, jobs=[{**JOB, "uid": f"uid-{n}"}])
        sent = 0

        async def send(kind: str, name: str, **data: Any) -> Counter[str]:
            nonlocal sent
            proxy.requests.clear()
            await stack.stream.publish([message(kind, f"{name}-{n}", n, **data) for n in range(COMMANDS)])
            sent += COMMANDS
            await stack.results(sent, seconds=60)
            return Counter(f"{method} {'list' if 'list-type' in path else 'object'}" for method, path in proxy.requests)

        await send("workflow.update", "cold", status="running", phase="first")
        updates = await send("workflow.update", "warm", status="running", phase="second")
        cancels = await send("evaluation.cancel", "cancel")
        assert updates == {"PUT object": COMMANDS}
        assert cancels == {"PUT object": 2 * COMMANDS, "GET list": COMMANDS}
