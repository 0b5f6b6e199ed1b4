"""The whole way of a command on the embedded log, stream and store; what is stopped is a double in this file."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from schemas.audit import DecisionSettings
from schemas.cloudevents import headers
from schemas.documents import Document, WorkflowState
from worker.adapters.sqlite import Database, SqliteLog, SqliteStore, SqliteStream
from worker.adapters.system import SystemClock, SystemIds
from worker.errors import Unavailable
from worker.ports import (
    Deletion,
    JobIdentity,
    JobView,
    Outgoing,
    Pod,
    Ports,
    Record,
    TaskAnswer,
    TaskState,
    Topic,
)
from worker.runtime.engine import Engine, EngineSettings

ACTOR = {"subject": "ada@test", "team_ids": ["team-1"], "permissions": ["agent:write", "workflow:report"]}


def evaluation_id(n: int = 1) -> str:
    return f"{n:08d}-1111-4111-8111-111111111111"


class Jobs:
    """Jobs with one pod each, gone `delay_seconds` after they were deleted."""

    def __init__(self) -> None:
        self.delay_seconds = 0.0
        self.deleted: dict[str, float] = {}
        self.away = False

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def find(self, evaluation_id: str) -> Sequence[JobIdentity]:
        return []

    async def delete(self, job: JobIdentity) -> Deletion:
        if self.away:
            raise Unavailable("the cluster is away")
        self.deleted.setdefault(job.uid, asyncio.get_running_loop().time())
        return Deletion.ACCEPTED

    async def observe(self, job: JobIdentity, *, since: JobView | None = None, timeout_seconds: float = 0) -> JobView:
        left = self.deleted[job.uid] + self.delay_seconds - asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, min(left, timeout_seconds)))
        return JobView(False) if left <= timeout_seconds else JobView(True, (Pod("pod", f"{job.uid}-pod"),))

    async def delete_pod(self, job: JobIdentity, pod: Pod, grace_period_seconds: Literal[0, 1]) -> Deletion:
        return Deletion.ACCEPTED


class Nobody:
    """No agents, no executors."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def cancel(self, *_: Any) -> Any:
        raise AssertionError("nobody is to be cancelled here")

    async def get(self, agent: str, task_id: str) -> TaskState | TaskAnswer:
        raise AssertionError("nobody is to be asked here")


class Stack:
    """One worker over one file; `restart` is a crash and a new worker."""

    def __init__(self, folder: Path) -> None:
        self.path, self.jobs = folder / "worker.db", Jobs()
        self.open()

    def open(self) -> None:
        database = Database(self.path, partitions=1)
        self.store, self.stream = SqliteStore(database), SqliteStream(database)
        nobody: Any = Nobody()
        ports = Ports(
            log=SqliteLog(database),
            stream=self.stream,
            store=self.store,
            jobs=self.jobs,
            agents=nobody,
            executors=nobody,
            clock=SystemClock(),
            ids=SystemIds(),
        )
        self.engine = Engine(ports, EngineSettings(decisions=DecisionSettings(), build="test"))

    async def crash(self) -> None:
        await self.engine.stop(drain=False)
        self.open()
        await self.store.start()

    async def create(self, n: int = 1, **state: Any) -> str:
        name = evaluation_id(n)
        whole = {"workflow_id": name, "team_id": "team-1", "status": "running", **state}
        document = {"state": WorkflowState.model_validate(whole).model_dump(mode="json")}
        await self.store.create(f"workflows/{name}.json", json.dumps(document).encode())
        return name

    async def send(self, kind: str, command_id: str, n: int = 1, **data: Any) -> None:
        await self.stream.publish([message(kind, command_id, n, **data)])

    async def results(self, count: int, seconds: float = 5) -> list[dict[str, Any]]:
        found: list[Record] = []
        async with asyncio.timeout(seconds):
            async for record in self.stream.read(Topic.RESULTS, {0: 0}, follow=True):
                found.append(record)
                if len(found) == count:
                    break
        return [json.loads(record.value or b"") for record in found]

    async def all(self, topic: Topic) -> list[Record]:
        return [record async for record in self.stream.read(topic, {0: 0}, follow=False)]

    async def document(self, n: int = 1) -> Document:
        stored = await self.store.load(f"workflows/{evaluation_id(n)}.json")
        assert stored is not None
        return Document.model_validate_json(stored.body)


def message(kind: str, command_id: str, n: int = 1, **data: Any) -> Outgoing:
    body = {"actor": ACTOR, "reason": "because", "evaluation_id": evaluation_id(n), **data}
    key = f"evaluation/{evaluation_id(n)}"
    ce = headers(id=command_id, type=kind, time=datetime.now(UTC), subject=key, source="test")
    return Outgoing(Topic.COMMANDS, key.encode(), json.dumps(body).encode(), ce)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path)
    await stack.store.start()
    yield stack
    await stack.engine.stop()


JOB = {"namespace": "local", "name": "job-1", "uid": "uid-1"}


async def test_a_cancel_is_answered_with_a_receipt_once_its_job_is_gone(stack: Stack) -> None:
    name = await stack.create(jobs=[JOB])
    for i in range(3):
        await stack.store.put(f"teams/team-1/evaluations/{name}/partial/{i}", b"x")
    await stack.store.put(f"teams/team-1/evaluations/{name}/request.json", b"kept")
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    [verdict] = await stack.results(1)
    assert (verdict["code"], verdict["command"]["subject"], verdict["receipt"]["evidence"]) == (
        "cancelled",
        "ada@test",
        "stopped",
    )
    assert verdict["receipt"]["objects_removed"] == 3
    assert await stack.store.load(f"teams/team-1/evaluations/{name}/request.json") is not None
    assert (await stack.document()).state.status.value == "cancelled"  # type: ignore[union-attr]  # a workflow
    changes = [json.loads(record.value or b"") for record in await stack.all(Topic.STATUS)]
    assert [(c["version"], c["after"]) for c in changes] == [(1, "cancelling"), (2, "cancelled")]


async def test_the_same_command_again_gets_the_same_bytes(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    again = message("workflow.update", "u1", status="succeeded")
    await stack.stream.publish([again, again])
    first, second = await stack.results(2)
    assert first == second
    await stack.stream.publish([again])
    assert (await stack.results(3))[2] == first
    records = [record.value for record in await stack.all(Topic.RESULTS)]
    assert len(set(records)) == 1


async def test_updates_pass_a_cancel_that_is_still_running(stack: Stack) -> None:
    await stack.create(1, jobs=[JOB])
    await stack.create(2)
    stack.jobs.delay_seconds = 1.0
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await stack.send("workflow.update", "u1", 2, phase="scoring")
    await stack.send("workflow.update", "u2", 1, status="succeeded")
    verdicts = await stack.results(3)
    assert sorted(v["command"]["id"] for v in verdicts[:2]) == ["u1", "u2"]
    assert {v["command"]["id"]: v["code"] for v in verdicts} == {
        "u1": "updated",
        "u2": "superseded",
        "c1": "cancelled",
    }


async def test_a_crash_between_intent_and_outcome_resumes_from_the_document(stack: Stack) -> None:
    await stack.create(1, jobs=[JOB])
    await stack.create(2)
    stack.jobs.delay_seconds = 0.5
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await stack.send("workflow.update", "u1", 2, phase="scoring")
    await stack.results(1)
    await stack.crash()
    assert (await stack.document()).state.status.value == "cancelling"  # type: ignore[union-attr]  # a workflow
    await stack.engine.start()
    verdicts = await stack.results(2)
    assert [(v["command"]["id"], v["code"]) for v in verdicts] == [("u1", "updated"), ("c1", "cancelled")]
    assert len(await stack.all(Topic.RESULTS)) == 2


async def test_an_outage_of_the_cluster_is_waited_out(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    stack.jobs.away = True
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await asyncio.sleep(0.3)
    assert await stack.all(Topic.RESULTS) == []
    stack.jobs.away = False
    [verdict] = await stack.results(1)
    assert verdict["code"] == "cancelled"
    assert await stack.all(Topic.DEAD_LETTERS) == []


async def test_poison_is_a_dead_letter_with_its_bytes_and_blocks_nothing(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    poison = Outgoing(Topic.COMMANDS, b"k", b"\x00", (("ce_id", b"p1"),))
    await stack.stream.publish([poison, message("workflow.update", "u1", phase="scoring")])
    verdicts = await stack.results(2)
    assert {v["command"]["id"]: v["http_status"] for v in verdicts} == {"p1": 422, "u1": 200}
    [letter] = await stack.all(Topic.DEAD_LETTERS)
    assert letter.value == b"\x00"
    assert dict(letter.headers)["original-ce_id"] == b"p1"


async def test_the_audit_chain_holds_every_decision_and_no_personal_text(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await stack.send("evaluation.cancel", "c2", mode="force")
    await stack.results(2)
    records = [record.value or b"" for record in await stack.all(Topic.AUDIT)]
    first: dict[int, bytes] = {}
    for raw in records:
        first.setdefault(json.loads(raw)["audit_seq"], raw)
    assert sorted(first) == list(range(1, len(first) + 1))
    assert all(b"ada@" not in raw and b"because" not in raw for raw in records)
    for sequence in range(2, len(first) + 1):
        assert json.loads(first[sequence])["previous_sha256"] == hashlib.sha256(first[sequence - 1]).hexdigest()


async def test_a_refusal_is_decided_on_what_the_store_holds_now(stack: Stack) -> None:
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    [verdict] = await stack.results(1)
    assert (verdict["http_status"], verdict.get("aggregate")) == (404, None)
    await stack.create(jobs=[JOB])
    await stack.send("evaluation.cancel", "c1")
    assert (await stack.results(2))[1]["code"] == "cancelled"
