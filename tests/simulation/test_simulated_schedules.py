"""Schedules of late comers and zombies, each of them once the trace that breaks a promise: given, when, then."""

import asyncio

import pytest

from tests.simulation.steering import (
    EVALUATION,
    OF_THE_GROUP,
    OF_TRANSACTIONS,
    SESSION_KEY,
    ZONE,
    Json,
    Scene,
    play,
    seeds,
    session_path,
    workflow_body,
    workflow_path,
)
from worker.ports import JobIdentity, Topic
from worker.simulation.kubernetes import JobWish
from worker.simulation.process import Process
from worker.simulation.remote import TurnWish


def reported(scene: Scene, job: JobIdentity) -> Json:
    """A Job as an executor reports it."""
    labels = {scene.settings.decisions.job_label: EVALUATION}
    return {"namespace": job.namespace, "name": job.name, "uid": job.uid, "labels": labels}


# ------------------------------------------------------------------------------ a Job reported after its cancel


@seeds
@pytest.mark.parametrize("trouble", ["none", "a crash", "a takeover"])
def test_a_job_reported_after_its_cancel_is_stopped(seed: str, trouble: str) -> None:
    """Whatever happens to the worker right before it acts."""

    async def script(scene: Scene) -> None:
        scene.evaluation()
        first = await scene.begins(0)
        cancelled = await scene.verdict(scene.cancel("c1"))
        late = scene.job()
        strike = {"none": scene.at, "a crash": scene.dies, "a takeover": scene.falls_asleep}[trouble]
        struck = strike(first, "DELETE", late.uid)
        report = scene.report("r1", job=reported(scene, late))
        await struck
        if trouble == "a takeover":
            await scene.begins(1)
        verdict = await scene.verdict(report)
        if trouble == "a takeover":
            scene.wakes(first)

        assert cancelled["code"] == "cancelled"
        assert late.uid not in [each["identity"] for each in cancelled["receipt"]["resources"]]
        assert verdict["code"] == "updated"
        assert verdict["aggregate"]["status_after"] == "cancelled"
        stopped = {each["identity"]: each["evidence"] for each in verdict["receipt"]["resources"]}
        assert stopped[late.uid] == "stopped"
        assert not scene.cluster.jobs[late.uid].running

    outcome = play(seed, script)
    assert outcome.faults == {"F35": 1}


# ------------------------------------------------------------------------------ zombies before their effect


async def sleeps_before_its_effect(scene: Scene, turn: Json) -> Process:
    """The first worker has published the intent to cancel a turn, and sleeps; the second one cancels it, and goes on.

    -> the sleeper.
    """
    zombie = await scene.begins(0)
    scene.remote.zone(ZONE).service.away = True  # the first one finds nobody, and will ask again
    cancel = scene.send("session.cancel", "c1", key=SESSION_KEY)
    await scene.until(lambda: scene.published(Topic.STATUS), "the intent is published")
    await asyncio.sleep(0.2)  # and it knows that
    scene.sleeps(zombie)
    await asyncio.sleep(1.0)  # what is on its way finds nobody, either
    scene.remote.zone(ZONE).service.away = False
    await scene.begins(1)
    assert (await scene.verdict(cancel))["code"] == "cancelled"
    await scene.verdict(scene.send("turn.update", "r1", key=SESSION_KEY, status="running", **turn))
    return zombie


@seeds
def test_a_zombie_that_wakes_before_its_effect_leaves_the_next_turn_alone(seed: str) -> None:
    async def script(scene: Scene) -> None:
        scene.session()
        zombie = await sleeps_before_its_effect(scene, {"turn_id": "turn-2", "turn_number": 2})
        turn = scene.turn("turn-2")
        scene.wakes(zombie, OF_THE_GROUP + OF_TRANSACTIONS)
        await scene.until(lambda: not scene.wire.parted, "the broker hears it again")

        assert [each.id for each in scene.remote.asked] == ["turn-1", "turn-1"]
        assert scene.remote.asked[1].process == zombie.name
        assert scene.remote.asked[1].seconds > turn.started_at
        assert turn.running(scene.world.now)
        assert scene.bucket.answers(zombie, session_path()).count(200) == 1
        assert scene.state(session_path())["turn"]["status"] == "running"

    play(seed, script)


@seeds
def test_what_a_zombie_has_seen_of_a_turn_ends_no_later_one(seed: str) -> None:
    """The next turn is being cancelled as well when the zombie reports that its own has stopped."""

    async def script(scene: Scene) -> None:
        scene.session()
        zombie = await sleeps_before_its_effect(scene, {"turn_id": "turn-2", "turn_number": 2})
        turn = scene.turn("turn-2", TurnWish(stops_after_seconds=30.0))
        cancel = scene.send("session.cancel", "c2", key=SESSION_KEY)
        await scene.until(lambda: turn.asked_at < scene.world.now, "the owner asks the second turn to stop")
        reads = scene.at(zombie, "s3.GET", session_path())
        scene.wakes(zombie, OF_THE_GROUP + OF_TRANSACTIONS)
        await reads
        await scene.until(lambda: not scene.wire.parted, "the broker hears it again")
        heard = scene.world.now
        verdict = await scene.verdict(cancel)

        assert "turn-1" in [each.id for each in scene.remote.asked if each.process == zombie.name]
        assert heard < turn.ends_at < scene.world.now
        assert verdict["code"] == "cancelled"
        assert [each["identity"] for each in verdict["receipt"]["resources"]] == ["turn-2"]

    play(seed, script)


# ------------------------------------------------------------------------------ zombies and their producers


@seeds
def test_a_fenced_producer_is_made_again_without_the_progress_in_memory(seed: str) -> None:
    """The zombie was about to commit a verdict, with a position that its successor has left behind (facts, K3)."""

    async def script(scene: Scene) -> None:
        scene.evaluation()
        zombie = await scene.begins(0)
        await scene.verdict(scene.report("r1", phase="one"))
        asleep = scene.falls_asleep(zombie, "EndTxn")
        second = scene.report("r2", phase="two")
        await asleep
        await scene.begins(1)
        third = scene.report("r3", phase="three")
        await scene.verdict(third)
        before = len(scene.broker.history)
        scene.wakes(zombie)
        await scene.until(lambda: scene.times_told(zombie, "partition.assigned") == 2, "its producer is made again")
        fourth = scene.report("r4", phase="four")
        await scene.verdict(fourth)

        assert [len(scene.verdicts(offset)) for offset in (0, second, third, fourth)] == [1, 1, 1, 1]
        committed = [ended for ended in scene.broker.history[before:] if ended.committed]
        positions = [offset for ended in committed for _, _, (offset, _) in ended.positions]
        assert positions == sorted(positions)
        assert positions[0] >= third + 1
        assert scene.has_told(zombie, "assignment.lost")

    play(seed, script)


@seeds
@pytest.mark.parametrize("loses", [False, True], ids=["the owner finds it", "the owner's own write loses"])
def test_a_zombies_write_that_wins_is_published_by_the_owner(seed: str, *, loses: bool) -> None:
    async def script(scene: Scene) -> None:
        scene.evaluation(status="created")
        zombie = await scene.begins(0)
        late = scene.keeps_back(zombie, workflow_path(), lambda: scene.sleeps(zombie))
        report = scene.report("r1", status="running")
        write = await late
        if loses:
            about_to_write = scene.at_next("s3.PUT", workflow_path(), write.arrives)
            owner = await scene.begins(1)
            await about_to_write
        else:
            write.arrives()
            owner = await scene.begins(1)
        verdict = await scene.verdict(report)
        scene.wakes(zombie)
        await scene.until(lambda: scene.has_told(zombie, "assignment.lost"), "the zombie hears that it is fenced")

        assert verdict["code"] == "updated"
        assert scene.bucket.answers(zombie, workflow_path()) == [200]
        assert scene.bucket.answers(owner, workflow_path()) == ([412] if loses else [])
        assert [event["after"] for event in scene.published(Topic.STATUS)] == ["running"]
        assert scene.state(workflow_path())["version"] == 1
        assert len(scene.verdicts(report)) == 1

    play(seed, script)


@seeds
def test_an_intent_that_a_zombie_wrote_is_published_by_the_owner_while_its_effects_run(seed: str) -> None:
    async def script(scene: Scene) -> None:
        job = scene.evaluation(JobWish(stops_after_seconds=20.0))
        zombie = await scene.begins(0)
        late = scene.keeps_back(zombie, workflow_path(), lambda: scene.sleeps(zombie))
        cancel = scene.cancel("c1")
        write = await late
        write.arrives()
        owner = await scene.begins(1)
        await scene.until(lambda: scene.published(Topic.STATUS), "the intent is published")
        running = job.uid in scene.cluster.running()
        scene.wakes(zombie)
        verdict = await scene.verdict(cancel)

        assert running
        assert scene.bucket.answers(zombie, workflow_path())[0] == 200
        assert {delete.process for delete in scene.cluster.deletes} >= {owner.name}
        assert verdict["code"] == "cancelled"
        changes = dict.fromkeys(event["after"] for event in scene.published(Topic.STATUS))
        assert list(changes) == ["cancelling", "cancelled"]

    play(seed, script)


# ------------------------------------------------------------------------------ refused, and sent again


@seeds
@pytest.mark.parametrize("by", ["the same worker", "another one"])
def test_an_id_refused_before_its_document_existed_is_decided_when_it_is_sent_again(seed: str, by: str) -> None:
    async def script(scene: Scene) -> None:
        first = await scene.begins(0)
        job, time = scene.job(), scene.clock
        refused = scene.cancel("c1", time=time)
        assert (await scene.verdict(refused))["code"] == "not_found"
        if by == "another one":
            scene.sleeps(first)
            await scene.begins(1)
        scene.bucket.write(workflow_path(), workflow_body())
        again = scene.cancel("c1", time=time)
        verdict = await scene.verdict(again)
        twice = scene.cancel("c1", time=time)

        assert verdict["code"] == "cancelled"
        assert [each["identity"] for each in verdict["receipt"]["resources"]] == [job.uid]
        assert await scene.verdict(twice) == verdict
        assert [scene.verdicts(refused)[0]["code"], len(scene.verdicts(refused))] == ["not_found", 1]

    play(seed, script)
