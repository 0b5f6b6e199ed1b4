"""Jobs in a Kubernetes cluster: the JobController port over kubernetes_asyncio.

    controller.py   the port: what is asked of a Job, its pods and its owner, and what the answers mean
    owners.py       the object above a Job, found by discovery and deleted by uid
    watching.py     who waits for a change of one Job is woken by one watch per namespace
    objects.py      what a Job and its pods say, as a JobView; pure
    cluster.py      one request: its errors, credentials that were rotated, pages, a watch
    connection.py   from the settings to a client, by kubeconfig or in the cluster

The rules N1 to N6 are kept here: policy and uid precondition in the body of every delete; another uid is not ours; a
Job that is gone leaves pods that may not be; an owner is acted on first; escalation is on pods.  Knows nothing of
commands, verdicts or deadlines.
"""

from worker.adapters.kubernetes.controller import KubernetesController

__all__ = ["KubernetesController"]
