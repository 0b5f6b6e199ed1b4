"""`drift` on the embedded stack: what runs, lies about or takes too long is named, and settled where it may be."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.commands import Aggregate
from schemas.documents import Document, SessionState, Turn, Unsettled, aggregate_of_state
from schemas.status import Status
from tests.contract.drifted import BY_HAND, KEY, LABEL, Cluster, cancelled, findings, kinds, look, settle
from tests.contract.stack import JOB, Stack, evaluation_id
from tests.contract.test_musts_audit import put_creation
from tests.unit.given import HARNESS
from worker.adapters.memory_remote import AgentTask, MemoryAgents
from worker.audit.lookout import Lookout
from worker.client import prepare
from worker.ports import TaskState
from worker.runtime.engine import Engine, EngineSettings

ULID = "01jd8m4k7x2v9qf3n6t0w5rbgz"
PARTIAL = f"teams/team-1/evaluations/{evaluation_id()}/partial/"


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def stack(tmp_path: Path, cluster: Cluster) -> AsyncIterator[Stack]:
    async with cancelled(tmp_path, cluster) as stack:
        yield stack


async def test_a_job_started_by_hand_is_reported_and_torn_down(stack: Stack, cluster: Cluster) -> None:
    cluster.by_hand[evaluation_id()] = [BY_HAND]
    found = await findings(stack)
    assert kinds(found) == [("still_running", KEY)]
    assert found[0].what == "Job local/by-hand, uid-by-hand"
    [result] = await settle(stack, found)
    assert result is not None
    assert (result.verdict.code, result.verdict.receipt is not None) == ("updated", True)
    assert BY_HAND.uid in cluster.deleted
    assert await findings(stack) == []
    [again] = await settle(stack, found)
    assert again is not None
    assert again.body == result.body, "asked twice, it is asked once"


async def test_a_job_that_was_seen_gone_and_is_there_again_is_for_a_person(stack: Stack, cluster: Cluster) -> None:
    cluster.deleted.clear()
    [found] = await findings(stack)
    assert (found.kind, found.what, found.ask) == ("still_running", "Job local/job-1, uid-1", None)


async def test_partial_data_after_the_receipt_is_named(stack: Stack) -> None:
    await stack.store.put(f"{PARTIAL}1", b"late")
    [found] = await findings(stack)
    assert (found.kind, found.what, found.ask) == ("partial_left", PARTIAL, None)


@pytest.mark.parametrize(("hours", "asks"), [(1, None), (-1, ["workflow.resume"])])
async def test_a_sweep_that_is_not_due_yet_is_waited_for(stack: Stack, hours: int, asks: list[str] | None) -> None:
    await stack.store.put(f"{PARTIAL}1", b"late")
    owed = Unsettled(audit_seq=3, why="sweep", due_at=stack.clock.now() + timedelta(hours=hours))
    document = await stack.document()
    swept = document.model_copy(update={"state": document.state.model_copy(update={"unsettled": (owed,)})})
    found = await Lookout(stack.ports, LABEL, 60).things(swept, aggregate_of_state(swept.state), "cancelled", None)
    assert [each.ask and each.ask.type for each in found] == (asks or [])
    assert all(each.ask and each.ask.data["marker"] == f"unsettled/{KEY}/3" for each in found)


async def test_what_an_open_command_is_about_is_being_seen_to(stack: Stack, cluster: Cluster) -> None:
    cluster.by_hand[evaluation_id()] = [BY_HAND]
    cluster.away = True
    late = {**JOB, "uid": "uid-2", "labels": {LABEL: evaluation_id()}}
    await stack.send("workflow.update", "late", job=late)
    async with asyncio.timeout(5):
        while not (await stack.document()).state.open:  # noqa: ASYNC110  # a store tells nobody
            await asyncio.sleep(0.005)
    report = await look(stack)
    assert (report.findings, report.unreachable) == ((), ())
    cluster.away = False


async def test_partial_data_that_nobody_asked_to_remove_is_none_of_ours(stack: Stack) -> None:
    await stack.create(2)
    await stack.send("evaluation.cancel", "c2", 2, cleanup=False)
    await stack.results(2)
    await stack.store.put(PARTIAL.replace(evaluation_id(), evaluation_id(2)) + "1", b"kept")
    assert await findings(stack) == []


async def test_a_cancel_that_takes_too_long_is_resumed(stack: Stack, cluster: Cluster) -> None:
    await stack.create(2, jobs=[{**JOB, "uid": "uid-2"}])
    cluster.away = True
    await stack.send("evaluation.cancel", "c2", 2)
    await stack.reaches("cancelling", 2)
    assert await findings(stack, bound_seconds=60) == []
    found = await findings(stack, bound_seconds=0)
    assert kinds(found) == [("cancelling_too_long", f"evaluation/{evaluation_id(2)}")]
    settling = asyncio.create_task(settle(stack, found))
    async with asyncio.timeout(5):
        while len((await stack.document(2)).state.open) < 2:  # noqa: ASYNC110  # a store tells nobody
            await asyncio.sleep(0.005)
    cluster.away = False
    [result] = await settling
    assert result is not None
    assert (result.verdict.command.type, result.verdict.code) == ("workflow.resume", "resumed")
    assert await findings(stack, bound_seconds=0) == []


async def test_a_task_that_works_on_is_named(stack: Stack) -> None:
    agents = MemoryAgents(stack.clock, ["scribe"])
    agents.run("scribe", "task-1", AgentTask(says=[TaskState.CANCELED]))
    await stack.crash()
    ports = replace(stack.ports, agents=agents)
    stack.ports, stack.engine = ports, Engine(ports, EngineSettings(decisions=stack.settings, build="test"))
    await put_creation(stack)
    await stack.engine.start()
    await stack.send(
        "workflow.update",
        "t1",
        evaluation_id=None,
        harness_id=HARNESS,
        status="running",
        task={"agent": "scribe", "task_id": "task-1"},
    )
    await stack.send("custom_harness.cancel", "t2", harness_id=HARNESS, team_id="team-1")
    assert [verdict["code"] for verdict in await stack.results(3)] == ["cancelled", "updated", "cancelled"]
    [found] = await findings(stack)
    assert (found.aggregate, found.what, found.ask) == (
        f"custom-harness/{HARNESS}",
        "task task-1 at agent scribe",
        None,
    )


async def test_a_turn_that_takes_too_long_is_resumed_and_a_cancelled_one_cannot_be_asked_about(stack: Stack) -> None:
    lookout = Lookout(stack.ports, LABEL, 60)
    of = Aggregate(type="session", id=f"{ULID}.eu-1")
    for status, kinds_found in ((Status.CANCELLING, ["cancelling_too_long"]), (Status.CANCELLED, [])):
        turn = Turn(turn_id="turn-1", number=1, status=status)
        document = Document(state=SessionState(session_id=of.id, turn=turn))
        found = await lookout.things(document, of, status, None)
        assert [each.kind for each in found] == kinds_found
        for each in found:
            assert each.ask is not None
            assert prepare(each.ask.type, each.ask.data, id=each.ask.id).type == "session.resume"
    assert lookout.unasked == 1


async def test_a_cluster_that_cannot_be_asked_is_said(stack: Stack, cluster: Cluster) -> None:
    cluster.away = True
    report = await look(stack)
    assert (report.findings, report.unreachable) == ((), ("jobs: the cluster is away",))
