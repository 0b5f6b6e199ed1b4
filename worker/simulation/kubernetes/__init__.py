"""A Kubernetes cluster as a model: Jobs and pods that run and stop as real ones do, and an API server before them.

cluster       all of it put together: where to start
client        kubernetes_asyncio's client as the adapter uses it
server        requests as they arrive
registry      objects, their versions, and watches
deletion      propagation, finalizers, grace; the garbage collector
controllers   Jobs, their pods, their end; an owner above them
node          the processes below pods
strangers     what others do to Jobs
objects       what is true of all of these, and how the API tells it
"""

from worker.simulation.kubernetes.cluster import Cluster
from worker.simulation.kubernetes.objects import Job, JobWish, Pod
from worker.simulation.kubernetes.server import Delete

__all__ = ["Cluster", "Delete", "Job", "JobWish", "Pod"]
