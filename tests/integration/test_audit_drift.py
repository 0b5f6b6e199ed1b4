"""`drift` on real Kafka, S3 and Kubernetes: what was done behind the worker is named, and settled where it may be.

What runs is asked of the API server by a client of its own.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kubernetes_asyncio.client import ApiClient

from schemas.audit import DecisionSettings
from schemas.documents import WorkflowState
from tests.contract.stack import Nobody, evaluation_id, message, workflow_key
from tests.integration.kafka_world import KafkaWorld
from tests.integration.s3_world import settings_of
from tests.integration.workload import LABEL, Workload, controller, until
from tests.services.broker import Broker
from tests.services.cluster import Cluster
from tests.services.object_store import ObjectStore
from worker.adapters.s3 import S3Store
from worker.adapters.system import SystemClock, SystemIds
from worker.audit.drift import Drift, Report
from worker.client import Client, Message, prepare
from worker.ports import JobIdentity, Ports
from worker.runtime.engine import Engine, EngineSettings

RUNNING, EDITED, DELETED, KEPT = 1, 2, 3, 4


@asynccontextmanager
async def worker(world: KafkaWorld, store: S3Store, kubeconfig: Path, namespace: str) -> AsyncIterator[Ports]:
    """A worker that runs over all three; -> its ports."""
    nobody: Any = Nobody()
    async with controller(kubeconfig, namespace) as jobs:
        clock, ids = SystemClock(), SystemIds()
        ports = Ports(world.log, world.stream, store, jobs, nobody, nobody, clock, ids)
        decisions = DecisionSettings(namespaces=(namespace,), deadline_seconds_min=0)
        engine = Engine(ports, EngineSettings(decisions=decisions, build="test"))
        await engine.start()
        try:
            yield ports
        finally:
            await engine.stop()
            await world.stop()


async def create(ports: Ports, n: int, job: JobIdentity | None = None) -> None:
    jobs = [{"namespace": job.namespace, "name": job.name, "uid": job.uid}] if job else []
    whole = {"workflow_id": evaluation_id(n), "team_id": "team-1", "status": "running", "jobs": jobs}
    document = {"state": WorkflowState.model_validate(whole).model_dump(mode="json")}
    await ports.store.create(workflow_key(n), json.dumps(document).encode())


def cancel(n: int) -> Message:
    sent = message("evaluation.cancel", f"cancel-{n}", n)
    return prepare("evaluation.cancel", json.loads(sent.value), id=f"cancel-{n}")


async def look(ports: Ports) -> Report:
    return await Drift(ports, LABEL, bound_seconds=600).look()


def named(report: Report) -> set[tuple[str, str | None]]:
    return {(found.kind, found.aggregate) for found in report.findings}


async def test_what_was_done_behind_its_back_is_named_and_settled_where_it_may_be(
    kafka: Broker,
    topic_prefix: str,
    group: str,
    s3: ObjectStore,
    bucket: str,
    kubernetes: Cluster,
    kubernetes_client: ApiClient,
    namespace: str,
) -> None:
    world = KafkaWorld(kafka, topic_prefix, group, partitions=2)
    store = S3Store(settings_of(s3, bucket), SystemClock(), SystemIds())
    workload = Workload(kubernetes_client, namespace)
    await world.create()
    async with worker(world, store, kubernetes.kubeconfig, namespace) as ports, Client(ports.stream, store) as client:
        job = await workload.job(evaluation_id(RUNNING))
        for n in (RUNNING, EDITED, DELETED, KEPT):
            await create(ports, n, job if n == RUNNING else None)
        results = await client.ask([cancel(n) for n in (RUNNING, EDITED, DELETED)], 60)
        assert [result and result.verdict.code for result in results] == ["cancelled"] * 3
        assert named(await look(ports)) == set()

        by_hand = await workload.job(evaluation_id(RUNNING))
        stored = await store.load(workflow_key(EDITED))
        assert stored is not None
        await store.put(workflow_key(EDITED), stored.body.replace(b'"status":"cancelled"', b'"status":"failed"'))
        await store.delete([workflow_key(DELETED)])
        behind = {
            ("document_changed", f"evaluation/{evaluation_id(EDITED)}"),
            ("document_deleted", f"evaluation/{evaluation_id(DELETED)}"),
        }
        report = await look(ports)
        assert named(report) == behind | {("still_running", f"evaluation/{evaluation_id(RUNNING)}")}

        [ask] = [found.ask for found in report.findings if found.ask]
        [result] = await client.ask([prepare(ask.type, ask.data, id=ask.id)], 60)
        assert result is not None
        assert result.verdict.receipt is not None
        receipts = {each.identity: each.evidence for each in result.verdict.receipt.resources}
        assert receipts == {job.uid: "stopped", by_hand.uid: "stopped"}
        await until(workload.left, [])
        assert named(await look(ports)) == behind
