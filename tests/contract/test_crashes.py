"""Crashes, zombies and lost replies, at the awaits where they could break a promise (musts 2 to 7 and 9)."""

import asyncio
import hashlib
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from schemas.audit import DecisionSettings
from tests.contract.stack import JOB, Gate, Jobs, Once, Stack, evaluation_id, message, workflow_key
from worker.errors import AssignmentLost, Conflict, OutcomeUnknown, Unavailable
from worker.ports import Deletion, JobIdentity, JobView, Outgoing, Pod, Topic


async def chain_is_whole(stack: Stack) -> None:
    """First occurrences in order, each with the hash of the one before; repetitions byte for byte."""
    first: dict[int, bytes] = {}
    for record in await stack.all(Topic.AUDIT):
        body, value = json.loads(record.value or b""), record.value or b""
        if body["kind"] == "refused" or body["aggregate"]["id"] != evaluation_id():
            continue
        sequence = body["audit_seq"]
        if sequence in first:
            assert first[sequence] == value
            continue
        assert sequence == len(first) + 1
        before = hashlib.sha256(first[sequence - 1]).hexdigest() if first else None
        assert body.get("previous_sha256") == before
        first[sequence] = value
    assert (await stack.document()).chain.audit_seq == len(first)


async def versions_are_whole(stack: Stack) -> list[str]:
    """Status events without a gap in versions at their first occurrence; -> the statuses."""
    seen: dict[int, str] = {}
    for record in await stack.all(Topic.STATUS):
        body = json.loads(record.value or b"")
        assert seen.setdefault(body["version"], body["after"]) == body["after"]
        assert list(seen) == sorted(seen)
    return list(seen.values())


# ------------------------------------------------------------------------------------ the store


@pytest.mark.parametrize("error", [OutcomeUnknown("reply lost"), Unavailable("reply lost")])
async def test_a_write_whose_reply_is_lost_is_decided_once(stack: Stack, error: Exception) -> None:
    await stack.create()
    stack.hooks.after["replace"] = Once(error)
    await stack.engine.start()
    await stack.send("workflow.update", "u1", phase="scoring")
    [verdict] = await stack.results(1)
    assert (verdict["code"], verdict["aggregate"]["version"]) == ("updated", 1)
    document = await stack.document()
    assert (document.revision, document.chain.audit_seq, document.state.version) == (1, 2, 1)
    await chain_is_whole(stack)


async def test_a_lost_compare_and_set_is_repeated_on_what_the_winner_wrote(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u1", phase="scoring")
    await stack.results(1)
    document = await stack.document()
    foreign = document.model_copy(update={"state": document.state.model_copy(update={"phase": "foreign"})})
    await stack.store.put(workflow_key(), foreign.model_dump_json().encode())
    await stack.send("workflow.update", "u2", error_message="odd")
    verdict = (await stack.results(2))[1]
    state = await stack.workflow()
    assert (verdict["code"], state.phase, state.error_message) == ("updated", "foreign", "odd")
    adopted = [json.loads(r.value or b"") for r in await stack.all(Topic.AUDIT)]
    assert [a["kind"] for a in adopted if a["audit_seq"] in (3, 4)] == ["adopted", "decided"]
    await chain_is_whole(stack)


async def test_no_effect_begins_before_its_intent_is_durable(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    stack.hooks.before["replace"] = Once(Unavailable("away"), times=1_000)
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await asyncio.sleep(0.3)
    assert (stack.jobs.deleted, (await stack.workflow()).status.value) == ({}, "running")
    assert await stack.all(Topic.DEAD_LETTERS) == []
    del stack.hooks.before["replace"]
    [verdict] = await stack.results(1)
    assert (verdict["code"], list(stack.jobs.deleted)) == ("cancelled", ["uid-1"])


@pytest.mark.parametrize("method", ["load", "put", "delete", "list"])
async def test_an_outage_of_the_store_is_waited_out_and_dead_letters_nothing(stack: Stack, method: str) -> None:
    name = await stack.create(jobs=[JOB])
    await stack.store.put(f"teams/team-1/evaluations/{name}/partial/1", b"x")
    await stack.engine.start()
    stack.hooks.before[method] = Once(Unavailable("away"), times=2)
    await stack.send("evaluation.cancel", "c1")
    [verdict] = await stack.results(1)
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    assert await stack.all(Topic.DEAD_LETTERS) == []


async def test_an_unclassified_error_is_a_dead_letter_with_a_500_and_blocks_nothing(stack: Stack) -> None:
    await stack.create(1)
    await stack.create(2)
    stack.hooks.before["load"] = Once(ZeroDivisionError("a bug"), part=workflow_key(1), times=3)
    await stack.engine.start()
    await stack.send("workflow.update", "u1", 1, phase="scoring")
    await stack.send("workflow.update", "u2", 2, phase="scoring")
    verdicts = {v["command"]["id"]: v["http_status"] for v in await stack.results(2)}
    assert verdicts == {"u1": 500, "u2": 200}
    [letter] = await stack.all(Topic.DEAD_LETTERS)
    assert dict(letter.headers)["dead-letter-reason"] == b"a bug: ZeroDivisionError"


async def test_a_bug_in_deciding_an_observation_leaves_a_marker_from_which_the_cancel_is_resumed(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    stack.jobs.delay_seconds = 0.2
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await stack.reaches("cancelling")
    stack.hooks.before["replace"] = Once(ZeroDivisionError("a bug"), times=3)
    verdicts = {v["command"]["type"]: v["code"] for v in await stack.results(2)}
    assert verdicts == {"evaluation.cancel": "internal_error", "workflow.resume": "resumed"}
    assert (await stack.workflow()).status.value == "cancelled"
    await stack.settles()


async def test_a_bug_after_the_write_took_effect_is_no_500(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    stack.hooks.after["replace"] = Once(ZeroDivisionError("a bug"), times=1_000)
    await stack.send("workflow.update", "u1", phase="scoring")
    [verdict] = await stack.results(1)
    assert (verdict["code"], (await stack.workflow()).phase) == ("updated", "scoring")
    assert await stack.all(Topic.DEAD_LETTERS) == []


async def test_a_dead_letter_of_a_bug_is_not_overtaken_by_a_later_write(stack: Stack) -> None:
    """A crash before its commit would decide the two in the other order (must 6)."""
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="0")
    await stack.results(1)
    gate = Gate()
    stack.hooks.before["commit"] = gate
    stack.hooks.before["replace"] = Once(ZeroDivisionError("a bug"), times=3)
    await stack.send("workflow.update", "u1", phase="1")
    await gate.reached.wait()
    await stack.send("workflow.update", "u2", phase="2")
    await asyncio.sleep(0.3)
    await stack.crash()
    await stack.engine.start()
    await stack.results(3)
    assert (await stack.workflow()).phase == "2"


async def test_a_verdict_whose_document_was_forgotten_waits_for_its_reload_and_no_longer(stack: Stack) -> None:
    """A conflict, then reads that fail: the verdict that was decided before still goes out."""
    await stack.create(1)
    await stack.create(2)
    await stack.engine.start()
    await stack.send("workflow.update", "u0", 1, phase="0")
    await stack.results(1)
    gate = Gate()
    stack.hooks.before["commit"] = gate
    await stack.send("workflow.update", "x", 2, phase="0")
    await gate.reached.wait()
    await stack.send("workflow.update", "u1", 1, phase="1")
    async with asyncio.timeout(5):
        while (await stack.workflow()).phase != "1":  # noqa: ASYNC110  # a store tells nobody
            await asyncio.sleep(0.01)
    document = (await stack.document()).model_copy(update={"write_id": "foreign"})
    await stack.store.put(workflow_key(), document.model_dump_json().encode())
    stack.hooks.before["load"] = Once(ValueError("a corrupt body"), times=4)
    await stack.send("workflow.update", "u2", 1, phase="2")
    await asyncio.sleep(0.3)
    gate.opened.set()
    assert {v["command"]["id"] for v in await stack.results(4)} == {"u0", "u1", "u2", "x"}
    await chain_is_whole(stack)


# ------------------------------------------------------------------------------------ the commit


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_commit_of_unknown_outcome_is_a_new_assignment_and_no_verdict_is_doubled(
    stack: Stack, where: str
) -> None:
    await stack.create(1, jobs=[JOB])
    await stack.create(2)
    stack.jobs.delay_seconds = 0.3
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1", 1)
    getattr(stack.hooks, where)["commit"] = Once(AssignmentLost("unknown"), times=2)
    for i in range(20):
        await stack.send("workflow.update", f"u{i}", 2, phase=f"step {i}")
    verdicts = await stack.results(21, seconds=10)
    await asyncio.sleep(0.1)
    counted = Counter(v["command"]["id"] for v in verdicts)
    assert (len(counted), len(await stack.all(Topic.RESULTS))) == (21, 21)
    assert {v["code"] for v in verdicts} == {"updated", "cancelled"}
    await chain_is_whole(stack)
    assert await versions_are_whole(stack) == ["cancelling", "cancelled"]


async def test_what_the_outbox_holds_is_published_though_its_writer_died_before_the_commit(stack: Stack) -> None:
    await stack.create(jobs=[JOB])
    stack.jobs.delay_seconds = 0.5
    await stack.engine.start()
    gate = Gate()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.results(1)
    stack.hooks.before["commit"] = gate
    await stack.send("evaluation.cancel", "c1")
    await stack.reaches("cancelling")
    await stack.crash()
    assert await versions_are_whole(stack) == []
    await stack.engine.start()
    await stack.results(2)
    assert await versions_are_whole(stack) == ["cancelling", "cancelled"]
    await chain_is_whole(stack)


async def test_a_trimmed_outbox_was_published(stack: Stack) -> None:
    """Many writes of one document between two commits: nothing leaves the outbox before it is known to be read."""
    await stack.create()
    await stack.engine.start()
    await stack.stream.publish([message("workflow.update", f"u{i}", phase=f"step {i}") for i in range(200)])
    await stack.results(200, seconds=10)
    await chain_is_whole(stack)
    assert len((await stack.document()).outbox) < 200


# ------------------------------------------------------------------------------------ zombies


async def test_a_zombie_cannot_apply_what_the_owner_has_refused(stack: Stack) -> None:
    """The zombie reads the document only after the owner has answered 404 and somebody has created it (must 3)."""
    gate = Gate(workflow_key())
    stack.hooks.before["load"] = gate
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    await gate.reached.wait()
    rival = stack.rival()
    await rival.engine.start()
    [verdict] = await rival.results(1)
    assert verdict["http_status"] == 404
    await rival.engine.stop()
    await stack.create(jobs=[JOB])
    gate.opened.set()
    await asyncio.sleep(0.5)
    assert (await stack.workflow()).status.value == "running"
    assert (stack.jobs.deleted, len(await stack.all(Topic.RESULTS))) == ({}, 1)


async def test_only_a_transaction_that_began_after_the_read_lets_a_write_go(stack: Stack) -> None:
    """The zombie's read is answered late; a transaction of its own that began before is no proof (must 3)."""
    await stack.create(1)
    gate = Gate(workflow_key(2))
    stack.hooks.before["load"] = gate
    await stack.engine.start()
    await stack.send("workflow.update", "c2", 2, phase="x")
    await gate.reached.wait()
    await stack.send("workflow.update", "u1", 1, phase="y")
    await stack.results(1)
    rival = stack.rival()
    await rival.engine.start()
    verdicts = await rival.results(2)
    assert verdicts[1]["http_status"] == 404
    await stack.create(2)
    gate.opened.set()
    await asyncio.sleep(0.3)
    assert (await stack.document(2)).revision == 0
    await rival.engine.stop()


async def test_a_refusal_by_the_clock_does_not_swallow_the_adoption(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    past = (stack.clock.now() - timedelta(seconds=5)).isoformat()
    await stack.send("workflow.update", "u1", phase="a", expires_at=past)
    await stack.results(1)
    await stack.send("workflow.update", "u2", phase="b")
    await stack.results(2)
    kinds = [json.loads(record.value or b"")["kind"] for record in await stack.all(Topic.AUDIT)]
    assert kinds == ["refused", "adopted", "decided"]


async def test_a_write_that_was_under_way_cannot_follow_a_refusal_by_the_clock(stack: Stack) -> None:
    """The zombie's write is sent and held up; the owner finds the command expired; the write arrives (must 9)."""
    await stack.create(jobs=[JOB])
    gate = Gate(workflow_key())
    stack.hooks.before["replace"] = gate
    await stack.engine.start()
    expires_at = (stack.clock.now() + timedelta(seconds=5)).isoformat()
    await stack.send("evaluation.cancel", "c1", expires_at=expires_at)
    await gate.reached.wait()
    rival = stack.rival()
    rival.clock.seconds = 10
    await rival.engine.start()
    [verdict] = await rival.results(1)
    assert verdict["code"] == "expired"
    gate.opened.set()
    await asyncio.sleep(0.5)
    assert ((await stack.workflow()).status.value, stack.jobs.deleted) == ("running", {})
    await rival.engine.stop()


async def test_a_zombies_write_that_wins_is_published_by_the_owner_and_answered_once(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", phase="warm")
    await stack.results(1)
    gate = Gate()
    stack.hooks.before["commit"] = gate
    await stack.send("workflow.update", "u1", status="succeeded")
    await stack.reaches("succeeded")
    rival = stack.rival()
    await rival.engine.start()
    verdicts = await rival.results(2)
    gate.opened.set()
    await asyncio.sleep(0.5)
    assert [v["command"]["id"] for v in verdicts] == ["u0", "u1"]
    assert len(await stack.all(Topic.RESULTS)) == 2
    assert await versions_are_whole(stack) == ["succeeded"]
    await chain_is_whole(stack)
    await rival.engine.stop()


# ------------------------------------------------------------------------------------ order


async def test_a_write_waits_until_earlier_refusals_of_its_key_are_committed(stack: Stack) -> None:
    """Else a crash could decide the two in the other order (must 6)."""
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "u0", status="running")
    await stack.results(1)
    gate = Gate()
    stack.hooks.before["commit"] = gate
    await stack.send("workflow.update", "r1", expected_version=7, phase="never")
    await gate.reached.wait()
    await stack.send("workflow.update", "u2", phase="after")
    await asyncio.sleep(0.3)
    assert (await stack.workflow()).phase is None
    gate.opened.set()
    verdicts = await stack.results(3)
    assert [v["code"] for v in verdicts] == ["unchanged", "version_conflict", "updated"]


async def test_decisions_of_a_key_follow_the_order_of_its_records(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    statuses = ["starting", "running", "starting", "succeeded", "failed"]
    await stack.stream.publish([message("workflow.update", f"u{i}", status=s) for i, s in enumerate(statuses)])
    codes = {v["command"]["id"]: v["code"] for v in await stack.results(5)}
    assert codes == {
        "u0": "illegal_transition",
        "u1": "unchanged",
        "u2": "illegal_transition",
        "u3": "updated",
        "u4": "superseded",
    }


async def test_an_unfinished_cancel_is_taken_up_again_and_finished_ones_are_not(stack: Stack) -> None:
    """The position is the first unfinished offset and the set of those above it (must 6)."""
    await stack.create(1, jobs=[JOB])
    await stack.create(2)
    stack.jobs.delay_seconds = 60
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1", 1)
    for i in range(50):
        await stack.send("workflow.update", f"u{i}", 2, phase=f"step {i}")
    await stack.results(50)
    await stack.crash()
    stack.jobs.delay_seconds = 0
    await stack.engine.start()
    verdicts = await stack.results(51)
    await asyncio.sleep(0.1)
    assert (verdicts[-1]["command"]["id"], len(await stack.all(Topic.RESULTS))) == ("c1", 51)


async def test_a_stream_of_other_commands_does_not_make_a_teardown_begin_again(stack: Stack) -> None:
    await stack.create(jobs=[JOB, {**JOB, "name": "job-2", "uid": "uid-2"}])
    stack.jobs.delay_seconds = 0.2
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")

    async def chatter() -> None:
        for i in range(1000):
            await stack.send("workflow.update", f"u{i}", status="cancelling")
            await asyncio.sleep(0.01)

    talking = asyncio.create_task(chatter())
    await stack.reaches("cancelled")
    talking.cancel()
    await asyncio.gather(talking, return_exceptions=True)


# ------------------------------------------------------------------------------------ sizes


async def test_a_large_dead_letter_travels_as_reference(stack: Stack) -> None:
    await stack.engine.start()
    body = b"\x00" * 100_000
    await stack.stream.publish([Outgoing(Topic.COMMANDS, b"k", body, (("ce_id", b"p1"),))])
    await stack.results(1)
    [letter] = await stack.all(Topic.DEAD_LETTERS)
    reference = dict(letter.headers)["ce_dataref"].decode()
    stored = await stack.store.load(reference)
    assert stored is not None
    assert (stored.body, json.loads(letter.value or b"")["bytes"]) == (body, 100_000)
    assert reference == f"blobs/{hashlib.sha256(body).hexdigest()}"


async def test_a_refused_command_of_many_bytes_is_in_the_audit_log_by_reference(stack: Stack) -> None:
    await stack.engine.start()
    labels = {f"label-{i}": "x" * 2_000 for i in range(60)}
    await stack.send("workflow.update", "u1", job={**JOB, "labels": labels})
    [verdict] = await stack.results(1)
    assert verdict["http_status"] == 404
    [record] = await stack.all(Topic.AUDIT)
    given: dict[str, Any] = json.loads(record.value or b"")["input"]
    assert await stack.store.load(f"blobs/{given['sha256']}") is not None
    assert len(record.value or b"") < 64 * 1024


async def test_a_decision_with_many_events_is_in_the_audit_log_by_reference(stack: Stack) -> None:
    jobs = [{**JOB, "name": f"job-{i}-{'x' * 200}", "uid": f"uid-{i}"} for i in range(300)]
    await stack.create(jobs=jobs)
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1")
    [verdict] = await stack.results(1, seconds=10)
    assert verdict["bytes"] > 64 * 1024
    records = await stack.all(Topic.AUDIT)
    assert max(len(record.value or b"") for record in records) <= 64 * 1024
    last = json.loads(records[-1].value or b"")
    stored = await stack.store.load(f"blobs/{last['events']['sha256']}")
    assert stored is not None
    assert len(json.loads(stored.body)) > 300
    await chain_is_whole(stack)


async def test_a_refusal_on_a_state_that_no_record_holds_yet_records_it(stack: Stack) -> None:
    await stack.create()
    await stack.engine.start()
    await stack.send("workflow.update", "r1", expected_version=7, phase="never")
    await stack.results(1)
    await stack.send("workflow.update", "u1", phase="x")
    await stack.results(2)
    await stack.send("workflow.update", "r2", expected_version=7, phase="never")
    await stack.results(3)
    bodies = [json.loads(record.value or b"") for record in await stack.all(Topic.AUDIT)]
    assert [(body["kind"], "found" in body) for body in bodies] == [
        ("refused", True),
        ("adopted", True),
        ("decided", False),
        ("refused", False),
    ]


async def test_a_conflict_for_ones_own_success_is_no_verdict(stack: Stack) -> None:
    await stack.create()
    stack.hooks.after["replace"] = Once(Conflict("412 for one's own write"))
    await stack.engine.start()
    await stack.send("workflow.update", "u1", phase="scoring")
    [verdict] = await stack.results(1)
    assert (verdict["code"], (await stack.document()).revision) == ("updated", 1)


# ------------------------------------------------------------------------------------ a removal without proof


class NodeAway(Jobs):
    """Nothing but grace 0 takes a pod out of the view; from then on it stays there until `says_so`."""

    def __init__(self) -> None:
        super().__init__()
        self.removed = asyncio.Event()
        self.says_so = True

    async def observe(self, job: JobIdentity, *, since: JobView | None = None, timeout_seconds: float = 0) -> JobView:
        if self.removed.is_set() and self.says_so:
            return JobView(False)
        await asyncio.sleep(0.01)
        if self.removed.is_set():
            raise Unavailable("the cluster is away")
        return JobView(True, (Pod("pod", "pod-uid"),))

    async def delete_pod(self, job: JobIdentity, pod: Pod, grace_period_seconds: Literal[0, 1]) -> Deletion:
        if grace_period_seconds:
            return Deletion.ACCEPTED
        self.removed.set()
        return Deletion.REMOVED


async def test_a_pod_that_was_removed_before_a_crash_is_not_called_stopped_by_the_next_owner(tmp_path: Path) -> None:
    jobs = NodeAway()
    stack = Stack(tmp_path, jobs, DecisionSettings(deadline_seconds_min=0))
    await stack.store.start()
    await stack.create(jobs=[JOB])
    jobs.says_so = False
    await stack.engine.start()
    await stack.send("evaluation.cancel", "c1", grace_period_seconds=0, deadline_seconds=2)
    async with asyncio.timeout(5):
        await jobs.removed.wait()
    [job] = (await stack.workflow()).jobs
    assert job.gone is not None
    assert [escalation.grace_period_seconds for escalation in job.gone.escalations] == [1, 0]
    await stack.crash()
    jobs.says_so = True
    await stack.engine.start()
    [verdict] = await stack.results(1)
    unsettled = (await stack.workflow()).unsettled
    await stack.engine.stop()
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "forced")
    assert [marker.why for marker in unsettled] == ["sweep"]
