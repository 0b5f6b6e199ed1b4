"""The load: documents of running evaluations, `workflow.update` commands over them, and a stack that decides them."""

import asyncio
import json
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from schemas.audit import DecisionSettings
from schemas.cloudevents import headers
from tests.benchmarks.memory import MemoryLog, MemoryStore, MemoryStream
from worker.adapters.memory_jobs import MemoryJobs
from worker.adapters.memory_remote import MemoryAgents, MemoryExecutors
from worker.adapters.sqlite import Database, SqliteLog, SqliteStore, SqliteStream
from worker.adapters.system import SystemClock, SystemIds
from worker.ports import DocumentStore, EventStream, Outgoing, Ports, Topic
from worker.runtime.engine import Engine, EngineSettings

PARTITIONS = 4
POLL_SECONDS = 0.005
TEAM = "team-1"


@dataclass(frozen=True, slots=True)
class Spent:
    """From the start of the engine to the last committed verdict."""

    wall_seconds: float
    cpu_seconds: float


def evaluation_id(n: int) -> str:
    return f"{n:08x}-1111-4111-8111-111111111111"


def document_key(n: int) -> str:
    return f"workflows/{evaluation_id(n)}.json"


def update(i: int, n: int) -> Outgoing:
    """The i-th command: a new phase of evaluation n."""
    actor = {"subject": f"executor-{n % 50}", "team_ids": [TEAM], "permissions": ["workflow:report"]}
    data = {"actor": actor, "reason": "progress", "evaluation_id": evaluation_id(n), "phase": f"step {i}"}
    key = f"evaluation/{evaluation_id(n)}"
    ce = headers(id=f"command-{i}", type="workflow.update", time=datetime.now(UTC), subject=key, source="bench")
    return Outgoing(Topic.COMMANDS, key.encode(), json.dumps(data).encode(), ce)


def updates(count: int, keys: int, seed: int) -> list[Outgoing]:
    """Each key equally often, in an order that the seed decides."""
    order = [i % keys for i in range(count)]
    random.Random(seed).shuffle(order)  # noqa: S311  # an order, no secret
    return [update(i, n) for i, n in enumerate(order)]


async def create_documents(store: DocumentStore, numbers: Iterable[int]) -> None:
    """Running evaluations."""
    now = datetime.now(UTC).isoformat()

    async def create(n: int) -> None:
        state = {"kind": "workflow", "workflow_id": evaluation_id(n), "team_id": TEAM, "status": "running"}
        body = json.dumps({"state": {**state, "created_at": now, "started_at": now}})
        await store.create(document_key(n), body.encode())

    await asyncio.gather(*(create(n) for n in numbers))


def embedded(folder: Path) -> Ports:
    """The embedded stack, durable; nothing that could be stopped."""
    database = Database(folder / "worker.db", partitions=PARTITIONS)
    return _ports(SqliteLog(database), SqliteStream(database), SqliteStore(database))


def in_memory() -> Ports:
    """As cheap as it gets: see memory.py."""
    log = MemoryLog(PARTITIONS)
    return _ports(log, MemoryStream(log), MemoryStore())


def _ports(log: SqliteLog | MemoryLog, stream: EventStream, store: DocumentStore) -> Ports:
    clock = SystemClock()
    return Ports(
        log=log,
        stream=stream,
        store=store,
        jobs=MemoryJobs(clock),
        agents=MemoryAgents(clock, ()),
        executors=MemoryExecutors(clock, ()),
        clock=clock,
        ids=SystemIds(),
    )


async def decide_all(ports: Ports, *batches: Sequence[Outgoing]) -> Spent:
    """Publish a batch, start an engine, wait until all is answered, then the next batch; CPU of all threads."""
    first, *others = batches
    await ports.stream.publish(first)
    engine = Engine(ports, EngineSettings(decisions=DecisionSettings(), build="bench"))
    wall, cpu = time.perf_counter(), time.process_time()
    await engine.start()
    try:
        await answered(ports.stream, len(first))
        for done, batch in enumerate(others, start=1):
            await ports.stream.publish(batch)
            await answered(ports.stream, sum(map(len, batches[: done + 1])))
        return Spent(time.perf_counter() - wall, time.process_time() - cpu)
    finally:
        await engine.stop()


async def answered(stream: EventStream, count: int) -> None:
    """Until so many verdicts are committed."""
    while True:
        if sum(end for _, end in (await stream.bounds(Topic.RESULTS)).values()) >= count:
            return
        await asyncio.sleep(POLL_SECONDS)
