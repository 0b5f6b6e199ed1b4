"""One evaluation that was cancelled with its Job, and what `drift` says of the stack that it is on."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.contract.stack import JOB, Jobs, Stack, evaluation_id, workflow_key
from worker.audit.drift import Drift, Report
from worker.audit.findings import Finding
from worker.client import Client, Result, prepare
from worker.errors import Unavailable
from worker.ports import JobIdentity

LABEL = "verdict-worker/evaluation-id"
BY_HAND = JobIdentity("local", "by-hand", "uid-by-hand")
KEY = f"evaluation/{evaluation_id()}"


class Cluster(Jobs):
    """Jobs, and those that somebody starts by hand under an evaluation's label."""

    def __init__(self) -> None:
        super().__init__()
        self.by_hand: dict[str, list[JobIdentity]] = {}

    async def find(self, evaluation_id: str) -> Sequence[JobIdentity]:
        if self.away:
            raise Unavailable("the cluster is away")
        return [job for job in self.by_hand.get(evaluation_id, []) if job.uid not in self.deleted]


@asynccontextmanager
async def cancelled(folder: Path, cluster: Cluster) -> AsyncIterator[Stack]:
    """A stack with that evaluation; its engine runs."""
    stack = Stack(folder, cluster)
    await stack.store.start()
    await stack.create(jobs=[JOB])
    await stack.engine.start()
    try:
        await stack.send("evaluation.cancel", "c1")
        [verdict] = await stack.results(1)
        assert verdict["code"] == "cancelled"
        yield stack
    finally:
        await stack.engine.stop()


async def look(stack: Stack, bound_seconds: float = 60) -> Report:
    return await Drift(stack.ports, LABEL, bound_seconds).look()


async def findings(stack: Stack, bound_seconds: float = 60) -> list[Finding]:
    return list((await look(stack, bound_seconds)).findings)


def kinds(found: list[Finding]) -> list[tuple[str, str | None]]:
    return [(each.kind, each.aggregate) for each in found]


async def settle(stack: Stack, found: list[Finding]) -> list[Result | None]:
    """What `--fix` does."""
    async with Client(stack.stream, stack.store) as client:
        return await client.ask([prepare(f.ask.type, f.ask.data, id=f.ask.id) for f in found if f.ask], 10)


async def edit(stack: Stack, **changes: object) -> None:
    """Somebody writes into the store behind the worker's back."""
    document = await stack.document()
    state = document.state.model_copy(update=changes)
    await stack.store.put(workflow_key(), document.model_copy(update={"state": state}).model_dump_json().encode())
