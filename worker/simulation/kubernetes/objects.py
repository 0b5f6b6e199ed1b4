"""Objects of the cluster's API, and the processes below pods: what is true of them, and how the API tells it.

Knows nothing of requests, controllers and nodes.
"""

from asyncio import TimerHandle
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, NamedTuple

Json = dict[str, Any]
JOB_TRACKING = "batch.kubernetes.io/job-tracking"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class Kind(NamedTuple):
    """Where objects of a kind are in the API."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def base(self) -> str:
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"


JOBS = Kind("batch", "v1", "Job", "jobs")
PODS = Kind("", "v1", "Pod", "pods")
FARMS = Kind("acme.test", "v1", "Farm", "farms")
"""A kind of somebody's own, whose controller keeps one Job for each."""
KINDS = (JOBS, PODS, FARMS)


@dataclass(frozen=True, slots=True)
class JobWish:
    """How a Job and its pods behave, in seconds of the simulation; `inf`: never."""

    pods: int = 1
    grace_seconds: int = 30
    stops_after_seconds: float = 0.0
    """How long its processes take to end at SIGTERM."""
    stubborn: bool = False
    """Whether they ignore it."""
    ends_after_seconds: float = inf
    """When they end by themselves."""
    succeeds: bool = True
    """Whether they end well then."""
    ttl_seconds: float = inf
    """How long the Job stays after its end."""
    owned: bool = False
    """Whether there is an object above it whose controller makes it again."""
    finalizers: tuple[str, ...] = ()
    """Of the Job."""
    pod_finalizers: tuple[str, ...] = ()
    """Of each pod."""
    node_shortens: bool = True
    """Whether its node shortens the grace of a pod that is terminating already."""


@dataclass(slots=True, eq=False)
class Thing:
    """An object of the API; `exists` until it is removed, and its uid is never used again."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    owner: "Thing | None" = None
    finalizers: tuple[str, ...] = ()
    version: int = 0
    exists: bool = True
    deleted_at: float | None = None
    """Since when it is terminating, in the API's eyes."""
    dependents: list["Thing"] = field(default_factory=list)

    @property
    def terminating(self) -> bool:
        return self.deleted_at is not None

    def metadata(self) -> Json:
        """As it is now: who was given it sees no later change."""
        told: Json = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "resourceVersion": str(self.version),
            "labels": dict(self.labels),
        }
        if self.owner is not None:
            reference = {"apiVersion": self.owner.kind.api_version, "kind": self.owner.kind.kind}
            reference |= {"name": self.owner.name, "uid": self.owner.uid}
            told["ownerReferences"] = [{**reference, "controller": True, "blockOwnerDeletion": True}]
        if self.finalizers:
            told["finalizers"] = list(self.finalizers)
        if self.deleted_at is not None:
            told["deletionTimestamp"] = f"{self.deleted_at:.0f}"
        return told

    def status(self) -> Json:
        return {}

    def told(self) -> Json:
        """The whole object."""
        head = {"apiVersion": self.kind.api_version, "kind": self.kind.kind}
        return {**head, "metadata": self.metadata(), "status": self.status()}


@dataclass(slots=True, eq=False)
class Job(Thing):
    """A Job: `evaluation_id` stands in its label; `wish` says how its pods behave."""

    evaluation_id: str = ""
    wish: JobWish = JobWish()
    outcome: Literal["Complete", "Failed"] | None = None
    late: bool = False
    """Whether it was made after somebody had looked for Jobs of its evaluation."""
    held: bool = False
    """Whether it has met the finalizer of somebody else."""
    pods: list["Pod"] = field(default_factory=list)
    """All that it ever had."""

    @property
    def running(self) -> bool:
        """The truth, whatever the API says."""
        return any(pod.alive for pod in self.pods)

    @property
    def ended_at(self) -> float:
        """When the last of its processes has ended; `inf`: one runs."""
        return max((pod.ended_at for pod in self.pods), default=0.0)

    def status(self) -> Json:
        return {"conditions": [{"type": self.outcome, "status": "True"}]} if self.outcome else {}


@dataclass(slots=True, eq=False)
class Pod(Thing):
    """A pod, and the process below it: `alive` is the truth, `phase` what the API says."""

    job: Job | None = None
    phase: Literal["Pending", "Running", "Succeeded", "Failed"] = "Pending"
    alive: bool = False
    ended_at: float = 0.0
    """When its process has ended; `inf`: it runs; 0: it never began."""
    grace_seconds: float | None = None
    """What it is given, since it is terminating."""
    end: TimerHandle | None = None
    """When its process ends, as things are."""

    @property
    def wish(self) -> JobWish:
        assert self.job is not None, "a pod here is made for a Job"
        return self.job.wish

    @property
    def has_ended(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    def metadata(self) -> Json:
        told = Thing.metadata(self)
        return told if self.grace_seconds is None else told | {"deletionGracePeriodSeconds": self.grace_seconds}

    def status(self) -> Json:
        states: dict[str, Json] = {"Pending": {"waiting": {}}, "Running": {"running": {}}}
        state = states.get(self.phase, {"terminated": {"exitCode": 0 if self.phase == "Succeeded" else 137}})
        return {"phase": self.phase, "containerStatuses": [{"name": "main", "state": state}]}
