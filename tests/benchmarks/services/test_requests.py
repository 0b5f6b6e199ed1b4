"""Requests to the object store per update and per cancel, counted on the way to it, with documents that are cached.

An update is one conditional write; a cancel two: the intent, then the outcome with its verdict.  No document is read
again.  The real cluster is asked for Jobs (there are none), and partial data is looked for: that is the list.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from schemas.cloudevents import headers
from tests.benchmarks import load
from tests.benchmarks.report import Report
from tests.benchmarks.services.fleet import PARTITIONS, Fleet
from tests.benchmarks.services.keys import balanced
from tests.benchmarks.services.traffic import Traffic
from tests.services.cluster import Cluster
from worker.ports import Outgoing, Topic

EVALUATIONS = balanced(PARTITIONS, 25)
GOALS = {"update": {"PUT": 1.0, "GET": 0.05}, "cancel": {"PUT": 2.0, "GET": 0.05}}


async def test_requests_per_command(report: Report, fleet: Fleet, kubernetes: Cluster) -> None:
    await fleet.create_documents(EVALUATIONS)
    await fleet.hire(WORKER_KUBERNETES__KUBECONFIG=str(kubernetes.kubeconfig))
    count = len(EVALUATIONS)
    with Traffic(fleet.bootstrap_servers, fleet.topic_prefix, PARTITIONS) as traffic:

        async def requests(commands: Iterable[Outgoing]) -> Counter[str]:
            before = len(fleet.proxy.requests)
            await asyncio.to_thread(traffic.publish, commands)
            await asyncio.to_thread(traffic.await_verdicts, count)
            return Counter(operation(*request) for request in fleet.proxy.requests[before:])

        await requests(load.update(i, n) for i, n in enumerate(EVALUATIONS))  # documents are read, and cached from here
        updates = await requests(load.update(count + i, n) for i, n in enumerate(EVALUATIONS))
        cancels = await requests(map(cancel, EVALUATIONS))
        await asyncio.to_thread(traffic.check)
    assert traffic.codes == {"updated": 2 * count, "cancelled": count}
    for what, requested in ("update", updates), ("cancel", cancels):
        for name in sorted({"PUT", "GET"} | requested.keys()):
            report.add(f"S3 requests per {what}, warm: {name}", requested[name] / count, "", GOALS[what].get(name))


def operation(method: str, path: str) -> str:
    """A list is a GET of the bucket, and a batch of deletes a POST to it."""
    return "LIST" if method == "GET" and "list-type=" in path else method


def cancel(n: int) -> Outgoing:
    """Of evaluation n, by whoever updates it."""
    actor = {"subject": f"executor-{n % 50}", "team_ids": [load.TEAM], "permissions": ["agent:write"]}
    data = {"actor": actor, "reason": "too slow", "evaluation_id": load.evaluation_id(n)}
    key = f"evaluation/{load.evaluation_id(n)}"
    ce = headers(id=f"cancel-{n}", type="evaluation.cancel", time=datetime.now(UTC), subject=key, source="bench")
    return Outgoing(Topic.COMMANDS, key.encode(), json.dumps(data).encode(), ce)
