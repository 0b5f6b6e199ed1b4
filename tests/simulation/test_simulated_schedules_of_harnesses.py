"""Two updates that do not go together: one org's directory decides, whatever becomes of the worker in between."""

from typing import Any

import pytest

from tests.simulation.steering import HARNESSES, Scene, org_path, play, seeds

ONE, OTHER = HARNESSES
Changes = dict[str, Any]
together = pytest.mark.parametrize(
    ("first", "second", "refusal"),
    [
        pytest.param({"parent_harness_id": OTHER}, {"parent_harness_id": ONE}, "invalid_parent", id="a cycle"),
        pytest.param({"name": "wanted"}, {"name": "wanted"}, "name_taken", id="a name"),
    ],
)


async def verdicts(scene: Scene, updates: list[int]) -> list[str]:
    return [(await scene.verdict(offset))["code"] for offset in updates]


@seeds
@together
def test_a_crash_comes_between_two_updates_that_exclude_each_other(
    seed: str, first: Changes, second: Changes, refusal: str
) -> None:
    """The worker dies with the first one written and not answered; its next life decides the second."""

    async def script(scene: Scene) -> None:
        scene.org()
        worker = await scene.begins(0)
        dies = scene.dies(worker, "Produce")
        updates = [scene.change("u1", ONE, **first)]
        await dies
        updates.append(scene.change("u2", OTHER, **second))
        codes = await verdicts(scene, updates)

        assert codes == ["updated", refusal]
        assert scene.bucket.answers(worker, org_path()) == [200]

    play(seed, script)


@seeds
@together
@pytest.mark.parametrize("wins", [False, True], ids=["its write loses", "its write wins"])
def test_a_takeover_comes_between_two_updates_that_exclude_each_other(
    seed: str, first: Changes, second: Changes, refusal: str, *, wins: bool
) -> None:
    """The zombie's write of the first one is under way while the owner decides both."""

    async def script(scene: Scene) -> None:
        scene.org()
        zombie = await scene.begins(0)
        late = scene.keeps_back(zombie, org_path(), lambda: scene.sleeps(zombie))
        updates = [scene.change("u1", ONE, **first)]
        write = await late
        updates.append(scene.change("u2", OTHER, **second))
        if wins:
            writes = scene.at_next("s3.PUT", org_path(), write.arrives)
            owner = await scene.begins(1)
            await writes
            codes = await verdicts(scene, updates)
        else:
            owner = await scene.begins(1)
            codes = await verdicts(scene, updates)
            write.arrives()
        scene.wakes(zombie)

        assert codes == ["updated", refusal]
        if wins:
            assert scene.bucket.answers(zombie, org_path()) == [200]
            assert scene.bucket.answers(owner, org_path())[0] == 412
        else:
            assert scene.bucket.answers(zombie, org_path()) == [412]
            assert scene.bucket.answers(owner, org_path())[0] == 200

    play(seed, script)
