"""The Kubernetes adapter's watches: they tell at once, break at any time, and are never needed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.contract.scripted_cluster import (
    JOB,
    POD,
    Api,
    a_job,
    a_pod,
    always,
    controller,
    listed,
    scripted,
)
from worker.adapters.kubernetes import KubernetesController
from worker.ports import JobView


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with scripted(tmp_path) as api:
        yield api


@pytest.fixture
async def jobs(api: Api) -> AsyncIterator[KubernetesController]:
    async with controller(api) as jobs:
        yield jobs


class Stream:
    """A watch whose events the test sends; `path_end` says of what."""

    def __init__(self, path_end: str) -> None:
        self.path_end = path_end
        self.opened = asyncio.Semaphore(0)
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def tell(self, kind: str, obj: dict[str, Any]) -> None:
        self._queue.put_nowait(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    def tell_half(self) -> None:
        self._queue.put_nowait(b'{"type": "MODI')
        self.cut()

    def cut(self) -> None:
        self._queue.put_nowait(None)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if not request.path.endswith(self.path_end):
            await asyncio.sleep(60)
        self.opened.release()
        while event := await self._queue.get():
            await response.write(event)
        assert request.transport is not None
        request.transport.close()
        return response


async def seconds_until_seen(
    jobs: KubernetesController, change: Callable[[], None], stream: Stream, timeout_seconds: float = 4
) -> float:
    """How long after the change an observation of `JOB` tells it."""
    before = await jobs.observe(JOB)
    watching = asyncio.create_task(jobs.observe(JOB, since=before, timeout_seconds=timeout_seconds))
    await stream.opened.acquire()
    await asyncio.sleep(0.2)  # it looks once more when a watch stands
    assert not watching.done()
    began = time.monotonic()
    change()
    assert await watching != before
    return time.monotonic() - began


async def test_a_change_is_seen_when_the_watch_tells_it(api: Api, jobs: KubernetesController) -> None:
    stream = api.watches = Stream("/pods")
    api.pods = always(lambda: listed(a_pod()))

    def gone() -> None:
        api.pods = None
        labels = {"batch.kubernetes.io/controller-uid": JOB.uid}
        stream.tell("DELETED", {"metadata": {"name": POD.name, "uid": POD.uid, "labels": labels}})

    assert await seconds_until_seen(jobs, gone, stream) < 0.4
    assert api.count("GET", "/pods", watch="true", resourceVersion="7") == 1


async def test_events_of_other_jobs_wake_nobody(api: Api, jobs: KubernetesController) -> None:
    stream = api.watches = Stream("/jobs")
    before = await jobs.observe(JOB)
    watching = asyncio.create_task(jobs.observe(JOB, since=before, timeout_seconds=1))
    await stream.opened.acquire()
    await asyncio.sleep(0.2)
    looked = len(api.asked)
    stream.tell("MODIFIED", {"metadata": {"uid": "another"}})
    await asyncio.sleep(0.2)
    assert len(api.asked) == looked
    stream.tell("MODIFIED", {"metadata": {"uid": JOB.uid}})
    await asyncio.sleep(0.2)
    assert len(api.asked) == looked + 2
    assert await watching == before


async def test_a_version_that_is_too_old_begins_the_watch_again(api: Api, jobs: KubernetesController) -> None:
    stream = api.watches = Stream("/jobs")

    def too_old() -> None:
        api.jobs = always(lambda: listed(a_job()))
        stream.tell("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})

    assert await seconds_until_seen(jobs, too_old, stream) < 0.4
    await asyncio.wait_for(stream.opened.acquire(), 2)


@pytest.mark.parametrize("how", [Stream.cut, Stream.tell_half])
async def test_a_watch_that_breaks_is_a_reason_to_look_and_is_opened_again(
    api: Api, jobs: KubernetesController, how: Callable[[Stream], None]
) -> None:
    stream = api.watches = Stream("/pods")

    def broken() -> None:
        api.pods = always(lambda: listed(a_pod()))
        how(stream)

    assert await seconds_until_seen(jobs, broken, stream) < 0.4
    await asyncio.wait_for(stream.opened.acquire(), 2)


async def test_without_a_watch_lists_show_the_change(api: Api, jobs: KubernetesController) -> None:
    before = await jobs.observe(JOB)
    watching = asyncio.create_task(jobs.observe(JOB, since=before, timeout_seconds=4))
    await asyncio.sleep(0.3)
    api.jobs = always(lambda: listed(a_job()))
    began = time.monotonic()
    assert await watching == JobView(exists=True)
    assert time.monotonic() - began < 1
