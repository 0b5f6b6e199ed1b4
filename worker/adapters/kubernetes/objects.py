"""What a Job and its pods say, as a JobView.  Pure: objects of the API in, values of the port out."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from worker.errors import Refused
from worker.ports import JobIdentity, JobView, Pod

Object = dict[str, Any]
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
CONTROLLERS_OWN = frozenset({"foregroundDeletion", "orphan", "batch.kubernetes.io/job-tracking"})
"""Finalizers by which the garbage collector and the Job controller wait for pods: they hold nothing by themselves."""
OUTCOMES: dict[str, Literal["completed", "failed"]] = {"Complete": "completed", "Failed": "failed"}
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SEGMENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def segment(name: str) -> str:
    """A name as a part of a path: one that no object can have, such as `..`, would lead to another.  Raises Refused."""
    if not SEGMENT.fullmatch(name):
        raise Refused(f"no object of a cluster can be called {name!r}")
    return name


def pods_of(job: JobIdentity) -> str | None:
    """The selector of a Job's pods; None where no pod can be labelled with such a uid."""
    return f"{CONTROLLER_UID}={job.uid}" if LABEL_VALUE.fullmatch(job.uid) else None


def view(job: Object | None, pods: Sequence[Object]) -> JobView:
    """What is left of a Job: `job` as it is, or None where it is gone; its pods, dead ones included."""
    running = running_pods(pods)
    held = () if running else held_by(([job] if job else []) + list(pods))
    return JobView(exists=job is not None, pods=running, outcome=_outcome(job) if job else None, held_by=held)


def running_pods(pods: Sequence[Object]) -> tuple[Pod, ...]:
    """Those that have not ended, by name."""
    alive = [pod["metadata"] for pod in pods if not has_ended(pod)]
    found = (Pod(each["name"], each["uid"], terminating="deletionTimestamp" in each) for each in alive)
    return tuple(sorted(found, key=lambda pod: pod.name))


def has_ended(pod: Object) -> bool:
    """Whether a pod that still stands in the API runs no more: its end was observed by the node.

    The phase alone is no proof: for a pod on a lost node the control plane writes Failed, and its containers, whose
    statuses only the node writes, are still said to be running.
    """
    status = pod.get("status", {})
    return status.get("phase") in ("Succeeded", "Failed") and not any(
        "running" in container.get("state", {}) for container in _containers(status)
    )


def _containers(status: Object) -> Iterator[Object]:
    for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        yield from status.get(kind) or ()


def held_by(objects: Sequence[Object]) -> tuple[str, ...]:
    """Finalizers of others that keep what was deleted in the API."""
    deleted = [each["metadata"] for each in objects if "deletionTimestamp" in each["metadata"]]
    found = dict.fromkeys(name for metadata in deleted for name in metadata.get("finalizers") or ())
    return tuple(name for name in found if name not in CONTROLLERS_OWN)


def _outcome(job: Object) -> Literal["completed", "failed"] | None:
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["type"] in OUTCOMES and condition["status"] == "True":
            return OUTCOMES[condition["type"]]
    return None


def identity(job: Object) -> JobIdentity:
    """A Job's identity, with the controller above it, which would create it again."""
    metadata = job["metadata"]
    owner = next((owner_text(each) for each in owners(job) if each.get("controller")), None)
    return JobIdentity(metadata["namespace"], metadata["name"], metadata["uid"], owner)


def owners(of: Object) -> Sequence[Object]:
    """The owner references of an object."""
    return of["metadata"].get("ownerReferences") or ()


def owner_text(reference: Object) -> str:
    """apiVersion/kind/name/uid."""
    return "/".join(reference[part] for part in ("apiVersion", "kind", "name", "uid"))
