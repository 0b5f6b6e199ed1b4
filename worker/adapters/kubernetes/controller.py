"""Jobs of a cluster: what is asked of a Job, its pods and its owner, and what the answers mean (rules N1 to N6).

The Job is always read before its pods: once it is gone nothing makes new ones, so an empty list after that is proof.
Knows nothing of commands, verdicts, grace periods or deadlines.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from worker.adapters.kubernetes.cluster import Answer, Cluster, Object
from worker.adapters.kubernetes.connection import Connect, connector
from worker.adapters.kubernetes.objects import NAMESPACE, identity, owners, pods_of, running_pods, segment, view
from worker.adapters.kubernetes.owners import Owner, Owners
from worker.adapters.kubernetes.watching import Watches
from worker.errors import Misconfigured, Refused, Unavailable
from worker.ports import Deletion, JobIdentity, JobView, Pod
from worker.settings import KubernetesSettings

FOREGROUND = {"propagationPolicy": "Foreground"}
RETURN_SECONDS = 2.0


class KubernetesController:
    """Jobs in the allowed namespaces of one cluster; `label` is what holds the evaluation's id."""

    def __init__(
        self, settings: KubernetesSettings, *, namespaces: Sequence[str], label: str, connect: Connect | None = None
    ) -> None:
        self._cluster = Cluster(
            connect or connector(settings),
            connect_timeout_seconds=settings.connect_timeout_seconds,
            request_timeout_seconds=settings.request_timeout_seconds,
        )
        self._owners = Owners(self._cluster)
        self._namespaces, self._label = tuple(namespaces), label
        self._watches: dict[str, Watches] = {}
        self._may_return: set[str] = set()

    async def start(self) -> None:
        """Load the credentials; a cluster that is away is waited out later.  Raises Misconfigured."""
        if not self._namespaces:
            example = "the namespaces in which Jobs may be, such as '[\"evaluations\"]'"
            raise Misconfigured(f"WORKER_DECISIONS__NAMESPACES: must be set where WORKER_STACK=services: {example}")
        for namespace in self._namespaces:
            if not NAMESPACE.fullmatch(namespace):
                raise Misconfigured(f"WORKER_DECISIONS__NAMESPACES: no namespace can be called {namespace!r}")
        await self._cluster.start()

    async def stop(self) -> None:
        watches, self._watches = self._watches, {}
        await asyncio.gather(*(each.stop() for each in watches.values()))
        await self._cluster.stop()

    async def find(self, evaluation_id: str) -> Sequence[JobIdentity]:
        """Each with the controller above it, unless that has Jobs of other evaluations as well: it is left alone then.

        A controller that may make a deleted Job again is given time to do so first.
        """
        if evaluation_id in self._may_return:
            await asyncio.sleep(RETURN_SECONDS)
            self._may_return.discard(evaluation_id)
        found: list[JobIdentity] = []
        for namespace in self._namespaces:
            jobs = await self._list(namespace, _jobs(namespace), labels=f"{self._label}={evaluation_id}")
            found += await self._without_shared_owners(namespace, evaluation_id, [identity(job) for job in jobs])
        return found

    async def delete(self, job: JobIdentity) -> Deletion:
        """The owner first, if it has one; then the Job; then, where it is gone already, the pods that it has left."""
        self._expect_allowed(job)
        above = await self._delete_owner(job, Owner.parse(job.owner)) if job.owner else Deletion.GONE
        path = f"{_jobs(job.namespace)}/{segment(job.name)}"
        answer = await self._delete(job.namespace, path, job.uid, FOREGROUND)
        deletion = _meaning(answer)
        if deletion == Deletion.ACCEPTED and not job.owner:
            self._expect_return(answer.body)
        if deletion == Deletion.NOT_OURS and await self._job(job):
            raise Unavailable(f"the cluster answered a conflict, but {job.namespace}/{job.name} is still the same Job")
        if deletion != Deletion.ACCEPTED and await self._delete_orphans(job):
            return Deletion.ACCEPTED
        return Deletion.ACCEPTED if above == Deletion.ACCEPTED else deletion

    async def observe(self, job: JobIdentity, *, since: JobView | None = None, timeout_seconds: float = 0) -> JobView:
        self._expect_allowed(job)
        if since is None or timeout_seconds <= 0:
            return await self._look(job)
        time = asyncio.get_running_loop().time
        until = time() + timeout_seconds
        with self._watched(job.namespace).bell(job.uid) as bell:
            while True:
                seen = await self._look(job)
                left = until - time()
                if seen != since or left <= 0:
                    return seen
                await bell.wait(left)

    async def delete_pod(self, job: JobIdentity, pod: Pod, grace_period_seconds: Literal[0, 1]) -> Deletion:
        self._expect_allowed(job)
        if all(pod.uid != known.uid for known in running_pods(await self._pods(job))):
            return Deletion.GONE
        options = {"gracePeriodSeconds": grace_period_seconds}
        answer = await self._delete(job.namespace, _pod(job.namespace, pod), pod.uid, options)
        if _meaning(answer) != Deletion.ACCEPTED:
            return Deletion.GONE
        return Deletion.ACCEPTED if grace_period_seconds else Deletion.REMOVED

    def _expect_allowed(self, job: JobIdentity) -> None:
        """A namespace that is none of ours is not touched, and that nothing is found there proves nothing."""
        if job.namespace not in self._namespaces:
            raise Refused(f"namespace {job.namespace} is not one of WORKER_DECISIONS__NAMESPACES")

    # ------------------------------------------------------------------------------ looking

    async def _look(self, job: JobIdentity) -> JobView:
        found = await self._job(job)
        return view(found, await self._pods(job))

    async def _job(self, job: JobIdentity) -> Object | None:
        """The Job with this uid; None where it is gone, or its name is another's."""
        found = await self._list(job.namespace, _jobs(job.namespace), fields=f"metadata.name={segment(job.name)}")
        return next((each for each in found if each["metadata"]["uid"] == job.uid), None)

    async def _without_shared_owners(
        self, namespace: str, evaluation_id: str, jobs: Sequence[JobIdentity]
    ) -> Sequence[JobIdentity]:
        """Nobody named these owners: one that is deleted must not take the Jobs of another evaluation with it."""
        if not any(job.owner for job in jobs):
            return jobs
        of_others = f"{self._label},{self._label}!={evaluation_id}"
        others = await self._list(namespace, _jobs(namespace), labels=of_others, whole=False)
        shared = {reference["uid"] for job in others for reference in owners(job)}
        return [replace(job, owner=None) if job.owner and Owner.parse(job.owner).uid in shared else job for job in jobs]

    async def _pods(self, job: JobIdentity) -> list[Object]:
        labels = pods_of(job)
        return await self._list(job.namespace, _pods(job.namespace), labels=labels) if labels else []

    async def _list(
        self, namespace: str, path: str, *, labels: str = "", fields: str = "", whole: bool = True
    ) -> list[Object]:
        try:
            return await self._cluster.list(path, labels=labels, fields=fields, whole=whole)
        except Refused as refused:
            await self._expect_gone(namespace, refused)
            return []

    def _watched(self, namespace: str) -> Watches:
        if namespace not in self._watches:
            self._watches[namespace] = Watches(self._cluster, namespace)
        return self._watches[namespace]

    # ------------------------------------------------------------------------------ deleting

    async def _delete(self, namespace: str, path: str, uid: str, options: Object) -> Answer:
        """Everything stands in the body, where the server looks once there is one (N1); the uid is its condition."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}, **options}
        try:
            return await self._cluster.call("DELETE", path, body=body)
        except Refused as refused:
            await self._expect_gone(namespace, refused)
            return Answer(404, {})

    def _expect_return(self, deleted: Object) -> None:
        """A controller that the document does not name, and that is therefore left alone, may make its Job again."""
        evaluation_id = deleted.get("metadata", {}).get("labels", {}).get(self._label)
        if evaluation_id and identity(deleted).owner:
            self._may_return.add(evaluation_id)

    async def _delete_owner(self, job: JobIdentity, owner: Owner) -> Deletion:
        """By uid.  Once the Job is gone nothing can vouch for its owner but the document, which named it."""
        if found := await self._job(job):
            await self._owners.vouch(found, owner)
        path = await self._owners.path(owner, job.namespace)
        return _meaning(await self._delete(job.namespace, path, owner.uid, FOREGROUND)) if path else Deletion.GONE

    async def _delete_orphans(self, job: JobIdentity) -> bool:
        """Ask the pods of a Job that is gone to stop, with their own grace period; -> whether there were any."""
        pods = running_pods(await self._pods(job))
        for pod in pods:
            if not pod.terminating:
                await self._delete(job.namespace, _pod(job.namespace, pod), pod.uid, {})
        return bool(pods)

    async def _expect_gone(self, namespace: str, refused: Refused) -> None:
        """A namespace takes the worker's Role with it: what is forbidden there may just be gone.

        Returns where the namespace is no more.  Raises Unavailable while it is going, else what was refused.
        """
        try:
            answer = await self._cluster.call("GET", f"/api/v1/namespaces/{segment(namespace)}")
        except Refused:
            raise refused from None
        if answer.status == 404:
            return
        if answer.body.get("status", {}).get("phase") == "Terminating":
            raise Unavailable(f"namespace {namespace} is being deleted: {refused}") from refused
        raise refused


def _meaning(answer: Answer) -> Deletion:
    return {404: Deletion.GONE, 409: Deletion.NOT_OURS}.get(answer.status, Deletion.ACCEPTED)


def _jobs(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{segment(namespace)}/jobs"


def _pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{segment(namespace)}/pods"


def _pod(namespace: str, pod: Pod) -> str:
    return f"{_pods(namespace)}/{segment(pod.name)}"
