"""The whole way of a command on the embedded log, stream and store."""

import asyncio
import hashlib
import json

from tests.contract.stack import JOB, Stack, message
from worker.ports import Outgoing, Topic


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
