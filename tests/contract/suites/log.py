"""The contract of CommandLog: a class of tests that every implementation inherits, with a `world` of its own.

Knows the ports only.  Where implementations may differ, the world says so, and the tests expect just that.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Protocol

import pytest

from worker.errors import AssignmentLost, Misconfigured, PositionLost
from worker.partitioner import partition_of
from worker.ports import Assignment, CommandLog, EventStream, Outgoing, Position, Record, Topic

PARTITIONS = 3
KEYS = {partition_of(f"key-{i}".encode(), PARTITIONS): f"key-{i}".encode() for i in range(20)}


class World(Protocol):
    """One implementation, with three partitions."""

    log: CommandLog
    stream: EventStream
    exclusive: bool
    """Whether a second worker is refused, and told whose the log is; else the two would share the partitions."""
    source: str
    """Python that makes `log` and `stream` over the same topics, for another process."""

    def another(self) -> CommandLog:
        """Another worker's log over the same topics; not started."""

    async def trim(self, partition: int, before: int) -> None:
        """Remove the commands of a partition before an offset, as retention does."""


class Owner:
    """What the log tells its reader, kept."""

    def __init__(self) -> None:
        self.assignments: dict[int, Assignment] = {}

    async def assigned(self, assignment: Assignment) -> None:
        self.assignments[assignment.partition] = assignment

    async def revoked(self, partition: int) -> None:
        self.assignments.pop(partition, None)


def command(partition: int, text: str) -> Outgoing:
    return Outgoing(Topic.COMMANDS, KEYS[partition], text.encode())


def result(partition: int, text: str) -> Outgoing:
    return Outgoing(Topic.RESULTS, KEYS[partition], text.encode())


async def started(log: CommandLog, *, seek: bool = True) -> dict[int, Assignment]:
    """The assignments of a log that has started, at its position, or the beginning."""
    owner = Owner()
    await log.start(owner)
    async with asyncio.timeout(10):
        while len(owner.assignments) < PARTITIONS:  # noqa: ASYNC110  # the log assigns in its own time
            await asyncio.sleep(0.01)
    if seek:
        for assignment in owner.assignments.values():
            log.seek(assignment, assignment.position.offset if assignment.position else assignment.log_start)
    return owner.assignments


async def fetched(log: CommandLog, count: int) -> list[Record]:
    """So many records, and no more."""
    found: list[Record] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += await log.fetch(100, 1)
    assert len(found) == count
    assert await log.fetch(100, 0.05) == []
    return found


def texts(records: Sequence[Record]) -> list[str]:
    return [(record.value or b"").decode() for record in records]


async def visible(world: World, topic: Topic = Topic.RESULTS) -> list[str]:
    start = {partition: first for partition, (first, _) in (await world.stream.bounds(topic)).items()}
    return texts([record async for record in world.stream.read(topic, start, follow=False)])


COMMITTING = """
import asyncio
from worker.ports import Outgoing, Position, Topic
class Owner:
    assignments = {}
    async def assigned(self, assignment): self.assignments[assignment.partition] = assignment
    async def revoked(self, partition): pass
async def main():
    await log.start(Owner())
    while 0 not in Owner.assignments: await asyncio.sleep(0.01)
    print("started", flush=True)
    for i in range(1, 1_000_000):
        records = [Outgoing(Topic.RESULTS, b"%d" % n, b"%d" % i) for n in range(5)]
        await log.commit(Owner.assignments[0], records, Position(i, f"1:{i}"))
        print(i, flush=True)
asyncio.run(main())
"""


class LogContract:
    """Needs a fixture `world`."""

    # ------------------------------------------------------------------------------ assignments

    async def test_every_partition_is_assigned_with_its_bounds_and_no_position_at_first(self, world: World) -> None:
        await world.stream.publish([command(0, "a"), command(0, "b")])
        assignments = await started(world.log, seek=False)
        assert sorted(assignments) == [0, 1, 2]
        assert {assignment.partitions for assignment in assignments.values()} == {PARTITIONS}
        bounds = {p: (a.position, a.log_start, a.log_end) for p, a in assignments.items()}
        assert bounds == {0: (None, 0, 2), 1: (None, 0, 0), 2: (None, 0, 0)}

    async def test_an_assignment_has_an_epoch_of_its_own_that_grows(self, world: World) -> None:
        first = (await started(world.log))[0]
        second = await world.log.renew(first)
        await world.log.stop()
        third = (await started(world.log))[0]
        assert first.epoch < second.epoch < third.epoch

    # ------------------------------------------------------------------------------ fetch

    async def test_records_come_in_offset_order_per_partition_as_they_were_published(self, world: World) -> None:
        headers = (("ce_id", b"c1"), ("bytes", bytes(range(256))), ("ce_id", b"again"), ("empty", b""))
        await world.stream.publish([Outgoing(Topic.COMMANDS, KEYS[1], b"\x00\xff", headers)])
        await world.stream.publish([command(p, f"{p}-{i}") for i in range(20) for p in range(PARTITIONS)])
        await started(world.log)
        records = await fetched(world.log, 61)
        for partition in range(PARTITIONS):
            mine = [record for record in records if record.partition == partition]
            assert [record.offset for record in mine] == list(range(len(mine)))
            assert texts(mine[partition == 1 :]) == [f"{partition}-{i}" for i in range(20)]
        first = next(record for record in records if record.partition == 1)
        assert (first.topic, first.key, first.value, first.headers) == (Topic.COMMANDS, KEYS[1], b"\x00\xff", headers)
        assert abs(first.timestamp.timestamp() - time.time()) < 60

    async def test_nothing_is_delivered_before_the_seek(self, world: World) -> None:
        await world.stream.publish([command(0, "a"), command(1, "b")])
        assignments = await started(world.log, seek=False)
        assert await world.log.fetch(10, 0.05) == []
        world.log.seek(assignments[1], 0)
        assert texts(await fetched(world.log, 1)) == ["b"]

    async def test_a_fetch_gives_at_most_what_was_asked_for_and_goes_on_from_there(self, world: World) -> None:
        await world.stream.publish([command(0, str(i)) for i in range(10)])
        await started(world.log)
        pages = [texts(await world.log.fetch(4, 1)) for _ in range(3)]
        assert [len(page) for page in pages] == [4, 4, 2]
        assert [text for page in pages for text in page] == [str(i) for i in range(10)]

    async def test_a_fetch_of_nothing_returns_after_the_time_out(self, world: World) -> None:
        await started(world.log)
        began = time.monotonic()
        assert await world.log.fetch(10, 0.2) == []
        assert 0.19 < time.monotonic() - began < 5

    @pytest.mark.parametrize("cause", ["publish", "seek", "resume"])
    async def test_a_fetch_that_waits_returns_when_there_is_something(self, world: World, cause: str) -> None:
        await world.stream.publish([command(1, "a")])
        assignment = (await started(world.log))[1]
        if cause == "resume":
            world.log.pause(assignment)
        elif await fetched(world.log, 1) and cause == "seek":
            world.log.seek(assignment, 1)
        began = time.monotonic()
        waiting = asyncio.create_task(world.log.fetch(10, 30))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        if cause == "publish":
            await world.stream.publish([command(1, "a")])
        elif cause == "seek":
            world.log.seek(assignment, 0)
        else:
            world.log.resume(assignment)
        assert texts(await waiting) == ["a"]
        assert time.monotonic() - began < 10

    async def test_a_seek_goes_back_and_forth(self, world: World) -> None:
        await world.stream.publish([command(0, str(i)) for i in range(5)])
        assignment = (await started(world.log))[0]
        await fetched(world.log, 5)
        world.log.seek(assignment, 3)
        assert texts(await fetched(world.log, 2)) == ["3", "4"]
        world.log.seek(assignment, 5)
        await world.stream.publish([command(0, "5")])
        assert texts(await fetched(world.log, 1)) == ["5"]

    async def test_a_paused_partition_delivers_nothing_and_the_others_go_on(self, world: World) -> None:
        assignments = await started(world.log)
        world.log.pause(assignments[0])
        world.log.pause(assignments[0])
        await world.stream.publish([command(0, "a"), command(1, "b"), command(0, "c")])
        assert texts(await fetched(world.log, 1)) == ["b"]
        world.log.resume(assignments[0])
        world.log.resume(assignments[0])
        assert texts(await fetched(world.log, 2)) == ["a", "c"]

    async def test_an_old_epoch_pauses_resumes_and_seeks_nothing(self, world: World) -> None:
        await world.stream.publish([command(0, "a")])
        old = (await started(world.log))[0]
        new = await world.log.renew(old)
        world.log.seek(old, 0)
        assert await world.log.fetch(10, 0.05) == []
        world.log.seek(new, 0)
        world.log.pause(old)
        assert texts(await fetched(world.log, 1)) == ["a"]
        world.log.seek(new, 0)
        world.log.pause(new)
        world.log.resume(old)
        assert await world.log.fetch(10, 0.05) == []

    async def test_a_position_outside_of_the_log_is_lost(self, world: World) -> None:
        await world.stream.publish([command(0, str(i)) for i in range(8)])
        await world.log.start(Owner())
        await world.trim(0, 5)
        await world.log.stop()
        assignment = (await started(world.log, seek=False))[0]
        assert (assignment.log_start, assignment.log_end) == (5, 8)
        for outside in (4, 0, 9):
            with pytest.raises(PositionLost, match="partition 0"):
                world.log.seek(assignment, outside)
        world.log.seek(assignment, 5)
        assert texts(await fetched(world.log, 3)) == ["5", "6", "7"]

    # ------------------------------------------------------------------------------ commit

    async def test_a_commit_shows_its_records_and_its_position_and_metadata_are_read_back(self, world: World) -> None:
        await world.stream.publish([command(0, str(i)) for i in range(3)])
        assignment = (await started(world.log))[0]
        metadata = "1:" + "x" * 4094
        records = [result(0, "r0"), result(1, "r1"), Outgoing(Topic.AUDIT, b"k", b"a"), result(0, "r2")]
        await world.log.commit(assignment, records, Position(2, metadata))
        assert sorted(await visible(world)) == ["r0", "r1", "r2"]
        assert await visible(world, Topic.AUDIT) == ["a"]
        renewed = await world.log.renew(assignment)
        assert renewed.position == Position(2, metadata)
        await world.log.commit(renewed, [], Position(3))
        await world.log.stop()
        assignments = await started(world.log)
        assert assignments[0].position == Position(3, "")
        assert assignments[1].position is None

    async def test_a_position_may_go_back_as_an_unfinished_set_makes_it(self, world: World) -> None:
        assignment = (await started(world.log))[0]
        for position in (Position(5, "1:a"), Position(4, "1:b")):
            await world.log.commit(assignment, [], position)
        assert (await world.log.renew(assignment)).position == Position(4, "1:b")

    async def test_a_commit_of_an_old_epoch_raises_and_shows_nothing(self, world: World) -> None:
        old = (await started(world.log))[0]
        await world.log.commit(old, [result(0, "mine")], Position(1))
        new = await world.log.renew(old)
        with pytest.raises(AssignmentLost):
            await world.log.commit(old, [result(0, "zombie")], Position(7))
        assert await visible(world) == ["mine"]
        assert (await world.log.renew(new)).position == Position(1)

    async def test_a_renewed_partition_leaves_the_others_as_they_were(self, world: World) -> None:
        assignments = await started(world.log)
        await world.log.renew(assignments[0])
        await world.log.commit(assignments[1], [result(1, "b")], Position(0))
        assert await visible(world) == ["b"]

    async def test_partitions_commit_at_once(self, world: World) -> None:
        assignments = await started(world.log)

        async def many(partition: int) -> None:
            for i in range(20):
                await world.log.commit(assignments[partition], [result(partition, f"{partition}-{i}")], Position(i))

        await asyncio.gather(*(many(partition) for partition in assignments))
        found = await visible(world)
        for partition in assignments:
            mine = [text for text in found if text.startswith(f"{partition}-")]
            assert mine == [f"{partition}-{i}" for i in range(20)]

    async def test_what_is_not_committed_or_renewed_any_more_after_a_stop(self, world: World) -> None:
        assignment = (await started(world.log))[0]
        await world.stream.publish([command(0, "a")])
        await world.log.stop()
        with pytest.raises(AssignmentLost):
            await world.log.commit(assignment, [result(0, "late")], Position(1))
        with pytest.raises(AssignmentLost):
            await world.log.renew(assignment)
        assert await world.log.fetch(10, 0.05) == []
        assert await visible(world) == []

    async def test_a_stop_before_the_start_and_a_second_one_are_tolerated(self, world: World) -> None:
        await world.log.stop()
        await started(world.log)
        await world.log.stop()
        await world.log.stop()

    async def test_kill_9_leaves_whole_commits_and_a_log_that_another_worker_can_have(self, world: World) -> None:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", world.source + COMMITTING, stdout=pipe)
        assert child.stdout is not None
        async with asyncio.timeout(20):
            for _ in range(30):
                assert await child.stdout.readline()
        if world.exclusive:
            with pytest.raises(Misconfigured, match=f"pid {child.pid}$"):
                await world.log.start(Owner())
        child.kill()
        rest = await child.stdout.read()
        await child.wait()
        acknowledged = 29 + rest.count(b"\n")
        position = (await started(world.log, seek=False))[0].position
        assert position is not None
        assert position.offset in (acknowledged, acknowledged + 1)
        assert position.metadata == f"1:{position.offset}"
        assert sorted(await visible(world), key=int) == [
            str(i) for i in range(1, position.offset + 1) for _ in range(5)
        ]

    async def test_a_second_worker_in_this_process_is_refused_until_the_first_has_stopped(self, world: World) -> None:
        await started(world.log)
        second = world.another()
        if world.exclusive:
            with pytest.raises(Misconfigured, match="another worker has"):
                await second.start(Owner())
        await world.log.stop()
        assert sorted(await started(second)) == [0, 1, 2]
        await second.stop()
