"""The contract of EventStream: a class of tests that every implementation inherits, with a `world` of its own.

Knows the ports only.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol, cast

import pytest

from worker.ports import Assignment, CommandLog, EventStream, Outgoing, Position, Record, Topic

PARTITIONS = 4
ALL = dict.fromkeys(range(PARTITIONS), 0)

# Java: Utils.toPositive(Utils.murmur2(key)) % 4, by the hashes in UtilsTest.testMurmur2.
KAFKAS = {
    b"21": 0,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": 1,
    b"foobar": 2,
    b"abc": 3,
    b"a-little-bit-long-string": 0,
}


class World(Protocol):
    """One implementation, with four partitions; the stream and the log are clients of their own."""

    stream: EventStream
    log: CommandLog
    source: str
    """Python that makes `stream` over the same topics, for another process."""


class Owner:
    """What the log tells its reader, kept."""

    def __init__(self) -> None:
        self.assignments: dict[int, Assignment] = {}

    async def assigned(self, assignment: Assignment) -> None:
        self.assignments[assignment.partition] = assignment

    async def revoked(self, partition: int) -> None:
        self.assignments.pop(partition, None)


def command(text: str, key: bytes = b"21") -> Outgoing:
    return Outgoing(Topic.COMMANDS, key, text.encode())


async def all_of(stream: EventStream, start: dict[int, int] = ALL, topic: Topic = Topic.COMMANDS) -> list[Record]:
    return [record async for record in stream.read(topic, start, follow=False)]


def texts(records: list[Record]) -> list[str]:
    return [(record.value or b"").decode() for record in records]


PUBLISHING = """
import asyncio, sys
from worker.ports import Outgoing, Topic
async def main():
    for i in range(40):
        await stream.publish([Outgoing(Topic.COMMANDS, b"%d" % n, f"{sys.argv[1]} {n} {i}".encode()) for n in range(3)])
    await stream.stop()
asyncio.run(main())
"""


class StreamContract:
    """Needs a fixture `world`."""

    @pytest.mark.parametrize(("key", "partition"), KAFKAS.items())
    async def test_a_key_goes_to_the_partition_that_kafkas_java_client_would_choose(
        self, world: World, key: bytes, partition: int
    ) -> None:
        assert await world.stream.publish([command("a", key), command("b", key)]) == [(partition, 0), (partition, 1)]
        assert [(r.partition, r.key) for r in await all_of(world.stream)] == [(partition, key)] * 2

    async def test_what_was_published_is_read_at_the_places_that_were_returned(self, world: World) -> None:
        records = [command(f"{i}", key) for i in range(20) for key in KAFKAS]
        places = await world.stream.publish(records)
        read = {(r.partition, r.offset): (r.key, r.value) for r in await all_of(world.stream)}
        assert read == {place: (record.key, record.value) for place, record in zip(places, records, strict=True)}
        assert len(set(places)) == 100

    async def test_every_byte_of_key_value_and_headers_comes_back(self, world: World) -> None:
        whole = bytes(range(256))
        headers = (("b", whole), ("a", b""), ("b", b"again"), ("\u00fc \u2603", b"1"))
        await world.stream.publish(
            [Outgoing(Topic.DEAD_LETTERS, whole, whole, headers), Outgoing(Topic.DEAD_LETTERS, b"", b"")]
        )
        read = {r.key: (r.value, r.headers) for r in await all_of(world.stream, topic=Topic.DEAD_LETTERS)}
        assert read == {whole: (whole, headers), b"": (b"", ())}

    async def test_the_largest_command_comes_back(self, world: World) -> None:
        value = bytes(range(256)) * (32 * 1024)
        await world.stream.publish([Outgoing(Topic.COMMANDS, b"21", value)])
        [record] = await all_of(world.stream)
        assert record.value == value

    async def test_publishing_nothing_changes_nothing(self, world: World) -> None:
        assert await world.stream.publish([]) == []
        assert await all_of(world.stream) == []

    async def test_bounds_speak_of_every_partition_of_that_topic_alone(self, world: World) -> None:
        assert await world.stream.bounds(Topic.COMMANDS) == dict.fromkeys(range(PARTITIONS), (0, 0))
        await world.stream.publish([command("a"), command("b"), command("c", b"abc")])
        assert await world.stream.bounds(Topic.COMMANDS) == {0: (0, 2), 1: (0, 0), 2: (0, 0), 3: (0, 1)}
        assert await world.stream.bounds(Topic.RESULTS) == dict.fromkeys(range(PARTITIONS), (0, 0))

    async def test_many_records_come_in_order(self, world: World) -> None:
        await world.stream.publish([command(f"{i}") for i in range(1200)])
        assert texts(await all_of(world.stream)) == [str(i) for i in range(1200)]

    async def test_a_read_begins_where_it_was_told_to_and_in_those_partitions_only(self, world: World) -> None:
        await world.stream.publish([command(f"{i}") for i in range(5)] + [command("other", b"abc")])
        assert texts(await all_of(world.stream, {0: 3})) == ["3", "4"]
        assert texts(await all_of(world.stream, {0: 5})) == []
        assert texts(await all_of(world.stream, {0: 99, 3: 0})) == ["other"]
        assert texts(await all_of(world.stream, {})) == []

    async def test_a_read_that_does_not_follow_ends_at_the_end_as_it_was_when_it_began(self, world: World) -> None:
        await world.stream.publish([command("a"), command("b", b"abc")])
        found: list[Record] = []
        async for record in world.stream.read(Topic.COMMANDS, ALL, follow=False):
            found.append(record)
            assert len(found) <= 2
            await world.stream.publish([command("late"), command("late", b"abc"), command("late", b"foobar")])
        assert sorted(texts(found)) == ["a", "b"]

    async def test_a_read_that_follows_waits_for_more_in_any_partition(self, world: World) -> None:
        await world.stream.publish([command("a")])
        reader = world.stream.read(Topic.COMMANDS, ALL, follow=True)
        assert (await anext(reader)).value == b"a"
        for key in KAFKAS:
            waiting = asyncio.ensure_future(anext(reader))
            await asyncio.sleep(0.06)
            assert not waiting.done()
            await world.stream.publish([command("more", key)])
            async with asyncio.timeout(5):
                record = await waiting
            assert (record.value, record.key) == (b"more", key)
        await cast("AsyncGenerator[Record, None]", reader).aclose()

    async def test_beside_a_running_log_commands_are_published_and_its_commits_are_read(self, world: World) -> None:
        owner = Owner()
        await world.log.start(owner)
        async with asyncio.timeout(10):
            while len(owner.assignments) < PARTITIONS:  # noqa: ASYNC110  # the log assigns in its own time
                await asyncio.sleep(0.01)
        for assignment in owner.assignments.values():
            world.log.seek(assignment, assignment.log_start)
        reader = world.stream.read(Topic.RESULTS, ALL, follow=True)
        async with aclosing(cast("AsyncGenerator[Record, None]", reader)), asyncio.timeout(10):
            for i in range(10):
                [(partition, offset)] = await world.stream.publish([command(f"{i}", list(KAFKAS)[i % 5])])
                [record] = await world.log.fetch(10, 5)
                assert (record.partition, record.offset, record.value) == (partition, offset, b"%d" % i)
                answer = Outgoing(Topic.RESULTS, record.key or b"", b"answer %d" % i)
                await world.log.commit(owner.assignments[partition], [answer], Position(offset + 1))
                assert (await anext(aiter(reader))).value == answer.value

    async def test_processes_that_publish_at_once_lose_nothing_and_keep_their_own_order(self, world: World) -> None:
        children = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", world.source + PUBLISHING, name)
            for name in "abc"
        ]
        assert await asyncio.gather(*(child.wait() for child in children)) == [0, 0, 0]
        records = await all_of(world.stream)
        assert len(records) == 3 * 3 * 40
        for partition in range(PARTITIONS):
            offsets = [record.offset for record in records if record.partition == partition]
            assert offsets == list(range(len(offsets)))
        for name in "abc":
            for n in range(3):
                mine = [text for text in texts(records) if text.startswith(f"{name} {n} ")]
                assert mine == [f"{name} {n} {i}" for i in range(40)]

    async def test_a_stop_before_the_first_use_and_a_second_one_are_tolerated(self, world: World) -> None:
        await world.stream.stop()
        await world.stream.publish([command("a")])
        await world.stream.stop()
        await world.stream.stop()
        assert texts(await all_of(world.stream)) == ["a"]
