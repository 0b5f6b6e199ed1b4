"""Real Jobs for evaluations, made shortly before their stories begin; and those that nobody may touch.

Goes straight to the API server and tries again when it is away: names follow from the seed, so nothing is made twice.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes_asyncio.client import ApiClient, ApiException, BatchV1Api, CoreV1Api

from tests.acceptance.load import JOB_LABEL
from tests.chaos.cast import Evaluation, Wanted
from tests.chaos.stage import NAMESPACE, NEXT_DOOR
from tests.integration.workload import POLITE

AHEAD = 16
"""Evaluations whose Jobs run although their stories have not begun."""
AT_ONCE = 6
TRIES_SECONDS = 90.0
READY_SECONDS = 300.0
TRAP_SECONDS = 0.2
"""The node says Running before the shell has read its first line."""


@dataclass(frozen=True, slots=True)
class Bystander:
    """A Job that must be left alone: looks like one of a cancelled evaluation, and is not."""

    namespace: str
    name: str
    uid: str
    pods: tuple[str, ...]


class Jobs:
    """Makes Jobs; `uids` by name of those whose pods run."""

    def __init__(self, client: ApiClient) -> None:
        self._batch: Any = BatchV1Api(client)
        self._core: Any = CoreV1Api(client)
        self.uids: dict[str, str] = {}
        self._seen: dict[str, Bystander] = {}
        self._ready: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._begun: set[str] = set()
        self._room = asyncio.Semaphore(AHEAD)

    @asynccontextmanager
    async def prepared(
        self, evaluations: Sequence[Evaluation], put: Callable[[dict[str, bytes]], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Meanwhile the Jobs and then the documents of these are made, in this order, some ahead of their stories."""
        queue = iter(evaluations)

        async def prepare() -> None:
            for evaluation in queue:
                await self._room.acquire()
                uids = [await self.run(NAMESPACE, job, {JOB_LABEL: evaluation.name}) for job in evaluation.jobs]
                await put(evaluation.objects(dict(zip([job.name for job in evaluation.jobs], uids, strict=True))))
                self._ready.add(evaluation.name)

        self._tasks = [asyncio.create_task(prepare(), name="prepares Jobs") for _ in range(AT_ONCE)]
        try:
            yield
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def is_ready(self, evaluation: Evaluation) -> bool:
        """Whether all of its Jobs run.  Raises what keeps any evaluation from it."""
        for task in self._tasks:
            if task.done() and (error := task.exception()):
                raise error
        return evaluation.name in self._ready

    def begins(self, evaluation: Evaluation) -> None:
        """Its story does: the first time makes room for one more ahead."""
        if evaluation.name in self._ready - self._begun:
            self._begun.add(evaluation.name)
            self._room.release()

    async def run(
        self, namespace: str, job: Wanted, labels: dict[str, str], pod_labels: dict[str, str] | None = None
    ) -> str:
        """Make it, -> its uid once its pod runs and has set its trap."""
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": job.grace_seconds,
            "containers": [{"name": "main", "image": "any", "command": ["/bin/sh", "-c", job.script]}],
        }
        body = {
            "metadata": {"name": job.name, "labels": labels},
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": pod_labels or {}}, "spec": pod}},
        }
        uid = str(await self._again(lambda: self._create(namespace, job.name, body)))
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._again(lambda: self._running(namespace, job.name)):  # noqa: ASYNC110  # elsewhere
                    await asyncio.sleep(0.25)
        except TimeoutError as error:
            raise RuntimeError(f"Job {namespace}/{job.name} has no pod that runs after {READY_SECONDS:g} s") from error
        await asyncio.sleep(TRAP_SECONDS)
        pods = await self._again(lambda: self._running(namespace, job.name))
        self.uids[job.name], self._seen[job.name] = uid, Bystander(namespace, job.name, uid, tuple(pods))
        return uid

    def bystander(self, name: str) -> Bystander:
        """As it was when it began to run."""
        return self._seen[name]

    async def _create(self, namespace: str, name: str, body: dict[str, Any]) -> str:
        try:
            made = await self._batch.create_namespaced_job(namespace, body)
        except ApiException as error:
            if error.status != 409:
                raise
            made = await self._batch.read_namespaced_job(name, namespace)
        return str(made.metadata.uid)

    async def _running(self, namespace: str, name: str) -> list[str]:
        """-> uids of the Job's pods that run."""
        pods = (await self._core.list_namespaced_pod(namespace, label_selector=f"job-name={name}")).items
        return [pod.metadata.uid for pod in pods if pod.status.phase == "Running"]

    async def _again(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """As often as it takes while the API server is away."""
        async with asyncio.timeout(TRIES_SECONDS):
            while True:
                try:
                    return await asyncio.wait_for(ask(), 10)
                except (aiohttp.ClientError, TimeoutError, OSError, ApiException) as error:
                    if isinstance(error, ApiException) and error.status and error.status < 429:
                        raise
                    await asyncio.sleep(0.3)


async def bystanders(jobs: Jobs, doomed: Sequence[Evaluation], count: int) -> list[Bystander]:
    """Each looks like a Job of an evaluation that will be cancelled, in another way."""
    looks: tuple[Callable[[str], tuple[str, dict[str, str], dict[str, str]]], ...] = (
        lambda name: (NEXT_DOOR, {JOB_LABEL: name}, {}),  # its label, where the worker may touch nothing
        lambda name: (NAMESPACE, {f"{JOB_LABEL}-of": name}, {}),  # another label
        lambda name: (NAMESPACE, {JOB_LABEL: name[:-1]}, {}),  # nearly its id
        lambda name: (
            NAMESPACE,
            {"app": "chaos"},
            {JOB_LABEL: name},
        ),  # on the pods only (a Job without labels gets theirs)
        lambda name: (NAMESPACE, {JOB_LABEL: name.upper()}, {}),  # its id in capitals
    )

    async def make(number: int) -> Bystander:
        namespace, labels, pod_labels = looks[number % len(looks)](doomed[number % len(doomed)].name)
        job = Wanted(f"bystander-{number}", POLITE, 30, recorded=False)
        await jobs.run(namespace, job, labels, pod_labels)
        return jobs.bystander(job.name)

    return list(await asyncio.gather(*(make(number) for number in range(count))))


def manifest(found: Sequence[Bystander]) -> bytes:
    """What the checker reads: who must be left as it was."""
    return json.dumps(
        [{"namespace": b.namespace, "name": b.name, "uid": b.uid, "pods": list(b.pods)} for b in found]
    ).encode()
