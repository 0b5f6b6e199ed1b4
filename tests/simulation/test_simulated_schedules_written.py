"""The four traces of the model's group `written`: what came to pass before the protocol had its amendments.

Each of them needs one rule of must 3, 6 or 9 (tests/model, `Configuration.amended`).
"""

import asyncio
from datetime import timedelta

import pytest

from tests.simulation.steering import Scene, play, seeds, workflow_body, workflow_path
from worker.ports import Topic
from worker.simulation.kubernetes import JobWish


@seeds
def test_a_zombie_does_not_apply_what_the_owner_has_refused(seed: str) -> None:
    """Rule `verified`: the zombie reads a document that was created after the refusal."""

    async def script(scene: Scene) -> None:
        zombie = await scene.begins(0)
        job, time = scene.job(), scene.clock
        asleep = scene.falls_asleep(zombie, "s3.GET", workflow_path())
        refused = scene.cancel("c1", time=time)
        await asleep
        await scene.begins(1)
        assert (await scene.verdict(refused))["code"] == "not_found"
        scene.bucket.write(workflow_path(), workflow_body())
        reads = scene.at(zombie, "s3.GET", workflow_path())
        scene.wakes(zombie)
        await reads
        await scene.until(lambda: scene.has_told(zombie, "assignment.lost"), "it hears that it is fenced")

        assert scene.bucket.answers(zombie, workflow_path()) == []
        assert scene.state(workflow_path())["status"] == "running"
        assert job.uid in scene.cluster.running()
        assert len(scene.verdicts(refused)) == 1

    play(seed, script)


@seeds
@pytest.mark.parametrize("found", [False, True], ids=["it arrives after the refusal", "it arrives before the refusal"])
def test_a_late_write_is_not_applied_after_its_command_was_refused_as_expired(seed: str, *, found: bool) -> None:
    """Rule `refusals fence`: a refusal by the clock moves the ETag first; that notices a write that came before it."""

    async def script(scene: Scene) -> None:
        scene.evaluation()
        worker = await scene.begins(0)
        await scene.verdict(scene.report("r1", phase="one"))
        late = scene.keeps_back(worker, workflow_path())
        asleep = scene.falls_asleep(worker, "s3.GET", workflow_path())
        cancel = scene.cancel("c1", expires_at=(scene.clock + timedelta(seconds=1)).isoformat())
        write = await late
        await asleep
        await asyncio.sleep(2.0)  # the command has expired, the worker's session has not
        if found:
            fences = scene.at(worker, "s3.PUT", workflow_path(), write.arrives)
            scene.wakes(worker, ())
            await fences
            verdict = await scene.verdict(cancel)
        else:
            scene.wakes(worker, ())
            verdict = await scene.verdict(cancel)
            write.arrives()

        statuses = scene.bucket.answers(worker, workflow_path())
        assert statuses[:3] == [200, 200, 412]
        assert verdict["code"] == ("cancelled" if found else "expired")
        assert scene.state(workflow_path())["status"] == ("cancelled" if found else "running")

    play(seed, script)


@seeds
@pytest.mark.parametrize("worker_dies", [False, True], ids=["the worker lives on", "the worker dies"])
def test_a_failure_whose_write_was_late_is_not_forgotten(seed: str, *, worker_dies: bool) -> None:
    """Rule `failures kept`: what the document says of the record is its verdict, whoever reads it."""

    async def script(scene: Scene) -> None:
        job = scene.evaluation(JobWish(finalizers=("acme.test/hold",)))
        worker = await scene.begins(0)
        cancel = scene.cancel("c1", deadline_seconds=10, expected_version=0)
        await scene.until(lambda: scene.published(Topic.STATUS), "the intent is published")
        act = (lambda: scene.world.kill(worker, "while it writes")) if worker_dies else (lambda: None)
        write = await scene.keeps_back(worker, workflow_path(), act)
        write.arrives()
        verdict = await scene.verdict(cancel)
        scene.cluster.release(job.uid)
        await scene.until(lambda: scene.state(workflow_path())["status"] == "cancelled", "the reconciler goes on")

        assert scene.bucket.answers(worker, workflow_path())[:2] == [200, 200]
        assert (verdict["code"], verdict["http_status"]) == ("unconfirmed", 504)
        assert len(scene.verdicts(cancel)) == 1

    play(seed, script)


@seeds
@pytest.mark.parametrize("trouble", ["a crash", "a takeover"])
def test_a_refusal_and_a_later_write_keep_their_order(seed: str, trouble: str) -> None:
    """Rule `refusals first`: the write waits until the refusal is committed, which here it never is."""

    async def script(scene: Scene) -> None:
        scene.evaluation()
        worker = await scene.begins(0)
        await scene.verdict(scene.report("r0", phase="zero"))
        strike = scene.dies if trouble == "a crash" else scene.falls_asleep
        struck = strike(worker, "EndTxn")
        refused = scene.report("r1", phase="one", expected_version=2)
        applied = scene.report("r2", phase="two")
        await struck
        written = list(scene.bucket.answers(worker, workflow_path()))
        if trouble == "a takeover":
            await scene.begins(1)
        codes = [(await scene.verdict(offset))["code"] for offset in (refused, applied)]
        if trouble == "a takeover":
            scene.wakes(worker)

        assert written == [200]
        assert codes == ["version_conflict", "updated"]
        assert scene.state(workflow_path())["phase"] == "two"
        assert scene.state(workflow_path())["version"] == 2

    play(seed, script)
