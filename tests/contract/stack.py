"""One worker over one SQLite file, with doubles of what is stopped, and faults between it and its store and log."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from schemas.audit import DecisionSettings
from schemas.cloudevents import headers
from schemas.documents import Document, WorkflowState
from worker.adapters.sqlite import Database, SqliteLog, SqliteStore, SqliteStream
from worker.adapters.system import SystemClock, SystemIds
from worker.errors import Unavailable
from worker.ports import (
    Assignment,
    Deletion,
    JobIdentity,
    JobView,
    Outgoing,
    Pod,
    Ports,
    Position,
    Record,
    Stored,
    Topic,
    Unchanged,
)
from worker.runtime.engine import Engine, EngineSettings

ACTOR = {"subject": "ada@test", "team_ids": ["team-1"], "permissions": ["agent:write", "workflow:report"]}
JOB = {"namespace": "local", "name": "job-1", "uid": "uid-1"}
Hook = Callable[[str], Awaitable[None]]


async def nothing(key: str) -> None:
    """The hook that does nothing."""


def evaluation_id(n: int = 1) -> str:
    return f"{n:08d}-1111-4111-8111-111111111111"


def workflow_key(n: int = 1) -> str:
    return f"workflows/{evaluation_id(n)}.json"


class Hooks:
    """What happens before and after a call, by method; `calls` tells which were made, in order."""

    def __init__(self) -> None:
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}
        self.calls: list[tuple[str, str]] = []

    async def enter(self, method: str, key: str) -> None:
        self.calls.append((method, key))
        await self.before.get(method, nothing)(key)

    async def leave(self, method: str, key: str) -> None:
        await self.after.get(method, nothing)(key)


class FaultyStore:
    """A document store with hooks around the calls that matter."""

    def __init__(self, store: SqliteStore, hooks: Hooks) -> None:
        self._store, self._hooks = store, hooks

    async def start(self) -> None:
        await self._store.start()

    async def load(self, key: str) -> Stored | None:
        await self._hooks.enter("load", key)
        stored = await self._store.load(key)
        await self._hooks.leave("load", key)
        return stored

    async def load_if_changed(self, key: str, version: str) -> Stored | Unchanged | None:
        await self._hooks.enter("load_if_changed", key)
        return await self._store.load_if_changed(key, version)

    async def create(self, key: str, body: bytes) -> str:
        await self._hooks.enter("create", key)
        return await self._store.create(key, body)

    async def replace(self, key: str, body: bytes, version: str) -> str:
        await self._hooks.enter("replace", key)
        new = await self._store.replace(key, body, version)
        await self._hooks.leave("replace", key)
        return new

    async def put(self, key: str, body: bytes) -> None:
        await self._hooks.enter("put", key)
        await self._store.put(key, body)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._hooks.enter("delete", keys[0] if keys else "")
        await self._store.delete(keys)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        await self._hooks.enter("list", prefix)
        return await self._store.list(prefix, after=after, limit=limit)

    async def stop(self) -> None:
        await self._store.stop()


class FaultyLog(SqliteLog):
    """A command log with hooks around the commit, and without the lock: so one worker can take over from another."""

    def __init__(self, database: Database, hooks: Hooks) -> None:
        super().__init__(database)
        self._hooks = hooks

    async def commit(self, assignment: Assignment, outgoing: Sequence[Outgoing], position: Position) -> None:
        await self._hooks.enter("commit", str(assignment.partition))
        await super().commit(assignment, outgoing, position)
        await self._hooks.leave("commit", str(assignment.partition))

    def _take_lock(self) -> None:
        self._lock = self._database.path.with_suffix(".nobody").open("a+")


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
        if job.uid not in self.deleted:
            return JobView(True, (Pod("pod", f"{job.uid}-pod"),))
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

    async def get(self, agent: str, task_id: str) -> Any:
        raise AssertionError("nobody is to be asked here")


class ShiftedClock(SystemClock):
    """The system's clock, some seconds ahead."""

    seconds = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)


class Stack:
    """One worker over one file; `crash` is a crash and a new worker; `rival` is another worker on the same file."""

    def __init__(self, folder: Path, jobs: Jobs | None = None, settings: DecisionSettings | None = None) -> None:
        self.path, self.jobs, self.settings = folder / "worker.db", jobs or Jobs(), settings or DecisionSettings()
        self.open()

    def open(self) -> None:
        database = Database(self.path, partitions=1)
        self.hooks, self.clock = Hooks(), ShiftedClock()
        self.store, self.stream = SqliteStore(database), SqliteStream(database)
        nobody: Any = Nobody()
        self.ports = Ports(
            log=FaultyLog(database, self.hooks),
            stream=self.stream,
            store=FaultyStore(self.store, self.hooks),
            jobs=self.jobs,
            agents=nobody,
            executors=nobody,
            clock=self.clock,
            ids=SystemIds(),
        )
        chosen = EngineSettings(decisions=self.settings, build="test", reconcile_interval_seconds=0.05)
        self.engine = Engine(self.ports, chosen)

    def rival(self) -> "Stack":
        return Stack(self.path.parent, self.jobs, self.settings)

    async def crash(self) -> None:
        await self.engine.stop()
        self.open()
        await self.store.start()

    async def create(self, n: int = 1, **state: Any) -> str:
        name = evaluation_id(n)
        whole = {"workflow_id": name, "team_id": "team-1", "status": "running", **state}
        document = {"state": WorkflowState.model_validate(whole).model_dump(mode="json")}
        await self.store.create(workflow_key(n), json.dumps(document).encode())
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

    async def verdicts(self) -> list[dict[str, Any]]:
        """All that there are now."""
        return [json.loads(record.value or b"") for record in await self.all(Topic.RESULTS)]

    async def all(self, topic: Topic) -> list[Record]:
        return [record async for record in self.stream.read(topic, {0: 0}, follow=False)]

    async def document(self, n: int = 1) -> Document:
        stored = await self.store.load(workflow_key(n))
        assert stored is not None
        return Document.model_validate_json(stored.body)

    async def reaches(self, status: str, n: int = 1, seconds: float = 5) -> None:
        """Wait until the workflow's document has this status."""
        async with asyncio.timeout(seconds):
            while (await self.workflow(n)).status.value != status:  # noqa: ASYNC110  # a store tells nobody
                await asyncio.sleep(0.005)

    async def settles(self, seconds: float = 5) -> None:
        """Wait until no marker is left."""
        async with asyncio.timeout(seconds):
            while await self.store.list("unsettled/"):  # noqa: ASYNC110  # a store tells nobody
                await asyncio.sleep(0.02)

    async def workflow(self, n: int = 1) -> WorkflowState:
        state = (await self.document(n)).state
        assert isinstance(state, WorkflowState)
        return state


def message(kind: str, command_id: str, n: int = 1, extra: Mapping[str, str] | None = None, **data: Any) -> Outgoing:
    body = {"actor": ACTOR, "reason": "because", "evaluation_id": evaluation_id(n), **data}
    key = f"evaluation/{evaluation_id(n)}"
    ce = headers(id=command_id, type=kind, time=datetime.now(UTC), subject=key, source="test")
    record = Outgoing(Topic.COMMANDS, key.encode(), json.dumps(body).encode(), ce)
    return replace(record, headers=(*ce, *((name, value.encode()) for name, value in (extra or {}).items())))


class Once:
    """A hook that raises (or waits) the first `times` that it is called for a key that contains `part`."""

    def __init__(self, error: Exception, part: str = "", times: int = 1) -> None:
        self._error, self._part, self.left = error, part, times

    async def __call__(self, key: str) -> None:
        if self.left and self._part in key:
            self.left -= 1
            raise self._error


class Gate:
    """A hook that holds everybody whose key contains `part` until it is opened; `reached` tells that somebody waits."""

    def __init__(self, part: str = "") -> None:
        self._part = part
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    async def __call__(self, key: str) -> None:
        if self._part in key:
            self.reached.set()
            await self.opened.wait()
