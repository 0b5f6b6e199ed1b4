"""Who waits for a change of one Job is woken when the Job, or one of its pods, changes.

One watch on Jobs and one on their pods per namespace serves everybody, from the first who waits there until the stop.
A watch is only a bell: what it tells is not believed, whoever is woken looks afresh.  So it may end, start late or miss
something: everybody is woken whenever it stands again, and looks from time to time anyway, more often while it is down.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from worker.adapters.kubernetes.cluster import Cluster, Object
from worker.adapters.kubernetes.objects import CONTROLLER_UID, segment
from worker.errors import Refused, Transient

LOOK_SECONDS, LOOK_WITHOUT_WATCH_SECONDS = 5.0, 0.5
REOPEN_SECONDS_MIN, REOPEN_SECONDS_MAX = 0.1, 30.0


class Bell:
    """Rings for one Job."""

    def __init__(self, watches: "Watches") -> None:
        self._watches = watches
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Until it rings, or it is time to look anyway; what rang before the wait counts, once."""
        patience = LOOK_SECONDS if self._watches.stand else LOOK_WITHOUT_WATCH_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, patience)):
                await self._rung.wait()
        self._rung.clear()


class Watches:
    """The two watches of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._bells: dict[str, set[Bell]] = {}
        self._standing = 0
        within = f"namespaces/{segment(namespace)}"
        self._tasks = (
            self._begin(f"/apis/batch/v1/{within}/jobs", "", _uid_of_job),
            self._begin(f"/api/v1/{within}/pods", CONTROLLER_UID, _job_uid_of_pod),
        )

    def _begin(self, path: str, labels: str, job_uid: Callable[[Object], str]) -> "asyncio.Task[None]":
        return asyncio.create_task(self._run(path, labels, job_uid), name=f"watch {path}")

    @property
    def stand(self) -> bool:
        """Whether both are open."""
        return self._standing == len(self._tasks)

    @contextmanager
    def bell(self, job_uid: str) -> Iterator[Bell]:
        """Rings from now on."""
        bell = Bell(self)
        self._bells.setdefault(job_uid, set()).add(bell)
        try:
            yield bell
        finally:
            self._bells[job_uid].discard(bell)
            if not self._bells[job_uid]:
                del self._bells[job_uid]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, path: str, labels: str, job_uid: Callable[[Object], str]) -> None:
        pause = REOPEN_SECONDS_MIN
        while True:
            with suppress(Transient, Refused):  # whoever waits meets the same error when he looks
                async with self._cluster.watch(path, labels=labels) as changes:
                    self._standing += 1
                    try:
                        self._ring_all()  # what changed between his look and now is not told
                        async for changed in changes:
                            pause = REOPEN_SECONDS_MIN
                            self._ring(job_uid(changed))
                    finally:
                        self._standing -= 1
            self._ring_all()
            await asyncio.sleep(pause)
            pause = min(pause * 2, REOPEN_SECONDS_MAX)

    def _ring(self, job_uid: str) -> None:
        for bell in self._bells.get(job_uid, ()):
            bell.ring()

    def _ring_all(self) -> None:
        for job_uid in self._bells:
            self._ring(job_uid)


def _uid_of_job(job: Object) -> str:
    return str(job["metadata"]["uid"])


def _job_uid_of_pod(pod: Object) -> str:
    return str(pod["metadata"].get("labels", {}).get(CONTROLLER_UID, ""))
