"""Measured traps of aiokafka and of brokers (facts, K1 to K15), as tests that a model has to pass like the real thing.

They speak to client objects, as a connection makes them, and not through the adapter, which avoids these traps.  A rig
gives the connection, and does what no client can.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import pytest
from aiokafka import errors
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from worker.adapters.kafka import Connection
from worker.adapters.kafka.ending import end
from worker.ports import Topic

PARTITIONS = 2
METADATA_CHARACTERS_MAX = 4096


class Rig(Protocol):
    """Topics with two partitions and a group that nobody else has."""

    connection: Connection

    def connect(self, **settings: Any) -> Connection:
        """The same topics, with some settings changed."""

    async def away(self) -> None:
        """From now on the broker answers nobody."""

    async def back(self) -> None:
        """It does again."""

    async def end_again(self, producer: Any) -> None:
        """A request to commit, once more, as it would come late."""


# ------------------------------------------------------------------------------------------------ words


@asynccontextmanager
async def started(client: Any) -> AsyncIterator[Any]:
    """Started, and ended whatever becomes of it."""
    await client.start()
    try:
        yield client
    finally:
        await end(client, 2.0)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # brokers tell nobody
            await asyncio.sleep(0.02)


def commands(rig: Rig, partition: int = 0) -> TopicPartition:
    return TopicPartition(rig.connection.topic(Topic.COMMANDS), partition)


def results(rig: Rig) -> str:
    return rig.connection.topic(Topic.RESULTS)


def at(rig: Rig, offset: int, metadata: str = "") -> dict[TopicPartition, OffsetAndMetadata]:
    return {commands(rig): OffsetAndMetadata(offset, metadata)}


async def write(rig: Rig, producer: Any, value: bytes, partition: int = 0) -> Any:
    """-> where it was written."""
    return await (await producer.send(results(rig), value, None, partition))


async def visible(rig: Rig) -> list[bytes]:
    """Results that readers of committed data see by now."""
    places = [TopicPartition(results(rig), number) for number in range(PARTITIONS)]
    found: list[bytes] = []
    async with started(rig.connection.reader()) as reader:
        ends = await reader.end_offsets(places)
        reader.assign([place for place in places if ends[place]])
        for place in places:
            if ends[place]:
                reader.seek(place, 0)
        async with asyncio.timeout(20):
            while any([await reader.position(place) < ends[place] for place in places if ends[place]]):
                for records in (await reader.getmany(timeout_ms=100)).values():
                    found += [record.value for record in records]
    return sorted(found)


async def committed(rig: Rig) -> OffsetAndMetadata:
    async with started(rig.connection.admin()) as admin:
        place = commands(rig)
        found: OffsetAndMetadata = (
            await admin.list_consumer_group_offsets(rig.connection.settings.group, partitions=[place])
        )[place]
        return found


async def narrow(rig: Rig, bytes_max: int) -> None:
    """Results of so many bytes at most, from now on."""
    resource = ConfigResource(ConfigResourceType.TOPIC, results(rig), {"max.message.bytes": str(bytes_max)})
    async with started(rig.connection.admin()) as admin, asyncio.timeout(10):
        await admin.alter_configs([resource])
        asked = ConfigResource(ConfigResourceType.TOPIC, results(rig))
        while True:
            [answer] = await admin.describe_configs([asked])
            if {key: value for key, value, *_ in answer.resources[0][4]}["max.message.bytes"] == str(bytes_max):
                return
            await asyncio.sleep(0.05)


class Heard(ConsumerRebalanceListener):  # type: ignore[misc]  # the library ships no types
    """What a member was told; it does `on_assigned` in the callback, where there is something to do."""

    def __init__(self, on_assigned: Callable[[list[TopicPartition]], Any] = lambda _: None) -> None:
        self.told: list[tuple[str, int]] = []
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.told.append(("revoked", len(list(revoked))))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        partitions = sorted(assigned)
        self.told.append(("assigned", len(partitions)))
        doing = self._on_assigned(partitions)
        if doing is not None:
            await doing


class KafkaFacts:
    """Needs a fixture `rig`."""

    # ------------------------------------------------------------------------------ transactions

    async def test_k1_a_send_that_failed_leaves_offsets_and_commit_succeeding(self, rig: Rig) -> None:
        await narrow(rig, 2000)
        async with started(rig.connection.transactional(0)) as producer:
            await producer.begin_transaction()
            refused = await producer.send(results(rig), b"x" * 3000, None, 0)
            await producer.send_offsets_to_transaction(at(rig, 1), rig.connection.settings.group)
            await producer.commit_transaction()
            with pytest.raises(errors.MessageSizeTooLargeError):
                refused.result()
            for _ in range(2):
                await producer.begin_transaction()
                with pytest.raises(errors.OutOfOrderSequenceNumber):
                    await write(rig, producer, b"next")
                await producer.abort_transaction()
        async with started(rig.connection.transactional(0)):
            assert (await committed(rig)).offset == 1
        assert await visible(rig) == []

    async def test_k2_positions_in_a_transaction_are_bound_to_no_member(self, rig: Rig) -> None:
        heard = Heard()
        member = rig.connection.member()
        member.subscribe([commands(rig).topic], listener=heard)
        async with started(member), started(rig.connection.transactional(1)) as somebody:
            await somebody.begin_transaction()
            await somebody.send_offsets_to_transaction(at(rig, 7), rig.connection.settings.group)
            await somebody.commit_transaction()
        async with started(rig.connection.transactional(1)):
            assert (await committed(rig)).offset == 7

    async def test_k2_who_starts_with_an_id_fences_who_had_it(self, rig: Rig) -> None:
        async with started(rig.connection.transactional(0)) as zombie:
            await zombie.begin_transaction()
            await write(rig, zombie, b"zombie")
            async with started(rig.connection.transactional(0)) as owner:
                with pytest.raises(errors.ProducerFenced):
                    await zombie.send_offsets_to_transaction(at(rig, 1), rig.connection.settings.group)
                await owner.begin_transaction()
                await write(rig, owner, b"owner")
                await owner.commit_transaction()
        assert await visible(rig) == [b"owner"]

    async def test_k3_a_fenced_producer_begins_and_cannot_end(self, rig: Rig) -> None:
        async with started(rig.connection.transactional(0)) as zombie, started(rig.connection.transactional(0)):
            await zombie.begin_transaction()
            with pytest.raises(errors.ProducerFenced):
                await zombie.send_offsets_to_transaction(at(rig, 1), rig.connection.settings.group)
            with pytest.raises(AssertionError):
                await zombie.commit_transaction()
            with pytest.raises(AssertionError):
                await zombie.abort_transaction()

    async def test_k3_a_time_out_of_ones_own_shows_as_fenced(self, rig: Rig) -> None:
        async with started(rig.connect(transaction_timeout_seconds=1.0).transactional(0)) as producer:
            await producer.begin_transaction()
            await write(rig, producer, b"too late")
            async with started(rig.connection.reader()) as reader, asyncio.timeout(30):
                place = TopicPartition(results(rig), 0)
                while not (await reader.end_offsets([place]))[place]:  # noqa: ASYNC110  # they look every ten seconds
                    await asyncio.sleep(0.2)
            with pytest.raises(errors.ProducerFenced):
                await producer.commit_transaction()
        assert await visible(rig) == []

    async def test_k4_a_position_is_right_once_the_id_was_initialised_again(self, rig: Rig) -> None:
        for offset in range(1, 6):
            async with started(rig.connection.transactional(0)) as producer:
                assert (await committed(rig)).offset == (offset - 1 or -1)
                await producer.begin_transaction()
                await write(rig, producer, b"%d" % offset)
                await producer.send_offsets_to_transaction(at(rig, offset), rig.connection.settings.group)
                await producer.commit_transaction()

    async def test_k4_positions_are_looked_for_before_a_callback_has_sought(self, rig: Rig) -> None:
        member = rig.connection.member()

        async def slowly(partitions: list[TopicPartition]) -> None:
            await asyncio.sleep(1)
            for partition in partitions:
                member.seek(partition, 0)

        member.subscribe([commands(rig).topic], listener=Heard(slowly))
        async with started(member):
            with pytest.raises(errors.NoOffsetForPartitionError):
                await member.getmany(timeout_ms=900)

    async def test_k4_a_placeholder_in_the_callback_keeps_the_client_from_looking(self, rig: Rig) -> None:
        member = rig.connection.member()

        async def at_once(partitions: list[TopicPartition]) -> None:
            for partition in partitions:
                member.pause(partition)
                member.seek(partition, 0)
            await asyncio.sleep(0.5)

        member.subscribe([commands(rig).topic], listener=Heard(at_once))
        async with started(member):
            assert await member.getmany(timeout_ms=900) == {}
            assert member.paused() == member.assignment() == {commands(rig, 0), commands(rig, 1)}

    async def test_k5_a_late_end_of_a_transaction_commits_the_next_one(self, rig: Rig) -> None:
        async with started(rig.connection.transactional(0)) as producer:
            await producer.begin_transaction()
            await write(rig, producer, b"first")
            await producer.commit_transaction()
            await producer.begin_transaction()
            await write(rig, producer, b"to be aborted")
            await rig.end_again(producer)
            with pytest.raises(errors.KafkaError):
                await producer.abort_transaction()
        async with started(rig.connection.transactional(0)):
            assert await visible(rig) == [b"first", b"to be aborted"]

    async def test_k6_while_the_broker_is_away_a_commit_waits_and_nothing_is_raised(self, rig: Rig) -> None:
        connection = rig.connect(request_timeout_seconds=1.5)
        async with started(connection.transactional(0)) as producer:
            await producer.begin_transaction()
            await write(rig, producer, b"in time")
            await rig.away()
            committing = asyncio.create_task(producer.commit_transaction())
            await asyncio.sleep(4)
            assert not committing.done()
            await rig.back()
            async with asyncio.timeout(30):
                await committing
        async with started(rig.connection.transactional(0)):
            assert await visible(rig) == [b"in time"]

    async def test_k7_what_was_left_open_holds_readers_up_until_the_id_is_taken_over(self, rig: Rig) -> None:
        place = TopicPartition(results(rig), 0)
        async with started(rig.connection.reader()) as reader:
            async with started(rig.connection.transactional(0)) as left:
                await left.begin_transaction()
                await write(rig, left, b"left open")
            async with started(rig.connection.transactional(1)) as other:
                await other.begin_transaction()
                await write(rig, other, b"behind")
                await other.commit_transaction()
            assert await reader.end_offsets([place]) == {place: 0}
            assert await visible(rig) == []
            async with started(rig.connection.transactional(0)), started(rig.connection.transactional(1)):
                assert await visible(rig) == [b"behind"]
                assert await reader.end_offsets([place]) == {place: 4}, "two records, and a marker for each"

    async def test_k8_metadata_of_4096_characters_comes_back_and_one_more_is_the_end(self, rig: Rig) -> None:
        group, most = rig.connection.settings.group, "x" * METADATA_CHARACTERS_MAX
        async with started(rig.connection.transactional(0)) as producer:
            await producer.begin_transaction()
            await producer.send_offsets_to_transaction(at(rig, 3, most), group)
            await producer.commit_transaction()
            await producer.begin_transaction()
            with pytest.raises(errors.KafkaError, match="Unexpected error during batch delivery"):
                await producer.send_offsets_to_transaction(at(rig, 4, most + "x"), group)
            with pytest.raises(AssertionError):
                await producer.abort_transaction()
        async with started(rig.connection.transactional(0)):
            assert await committed(rig) == (3, most)

    # ------------------------------------------------------------------------------ members

    async def test_k9_when_somebody_joins_all_let_go_and_share(self, rig: Rig) -> None:
        first, second = rig.connection.member(), rig.connection.member()
        heard = Heard()
        first.subscribe([commands(rig).topic], listener=heard)
        second.subscribe([commands(rig).topic])
        async with started(first):
            assert first.assignment() == {commands(rig, 0), commands(rig, 1)}
            async with started(second):
                await until(lambda: len(first.assignment()) == 1)
                assert first.assignment() | second.assignment() == {commands(rig, 0), commands(rig, 1)}
            await until(lambda: len(first.assignment()) == 2)
        kinds = [("revoked", 0), ("assigned", 2), ("revoked", 2), ("assigned", 1), ("revoked", 1), ("assigned", 2)]
        assert heard.told == kinds

    async def test_k10_a_member_that_comes_back_under_its_instance_id_moves_nothing(self, rig: Rig) -> None:
        stays, again = Heard(), Heard()
        first = rig.connect(group_instance_id="worker-0").member()
        first.subscribe([commands(rig).topic], listener=stays)
        connection = rig.connect(group_instance_id="worker-1")
        async with started(first):
            async with started(_subscribed(rig, connection)) as second:
                await until(lambda: len(first.assignment()) == 1)
                had = second.assignment()
            told = list(stays.told)
            async with started(_subscribed(rig, connection, again)) as second:
                assert second.assignment() == had
                await asyncio.sleep(1)
        assert stays.told == told
        assert again.told == [("revoked", 0), ("assigned", 1)]

    async def test_k10_two_with_one_instance_id_steal_from_each_other(self, rig: Rig) -> None:
        connection, heard = rig.connect(group_instance_id="worker-0"), [Heard(), Heard()]
        async with started(_subscribed(rig, connection, heard[0])), started(_subscribed(rig, connection, heard[1])):
            await until(lambda: all(each.told.count(("assigned", PARTITIONS)) >= 3 for each in heard))

    # ------------------------------------------------------------------------------ records

    async def test_k13_a_stop_while_the_broker_is_away_leaves_tasks_that_end_cuts(self, rig: Rig) -> None:
        producer = rig.connect(request_timeout_seconds=1.5).transactional(0)
        await producer.start()
        await producer.begin_transaction()
        await write(rig, producer, b"before")
        await rig.away()
        await producer.send(results(rig), b"pending", None, 0)
        clock = asyncio.get_running_loop().time
        began, others = clock(), asyncio.all_tasks()
        stopping = asyncio.create_task(producer.stop())
        await asyncio.sleep(4)
        assert not stopping.done()
        stopping.cancel()
        with suppress(asyncio.CancelledError):
            await stopping
        await rig.back()
        assert clock() - began < 20
        await _cut(producer, others)

    async def test_k15_a_record_may_be_as_large_as_its_topic_says_less_seventy_bytes(self, rig: Rig) -> None:
        await narrow(rig, 2000)
        async with started(rig.connection.transactional(0)) as producer:
            await producer.begin_transaction()
            await write(rig, producer, b"x" * 1930)
            with pytest.raises(errors.MessageSizeTooLargeError):
                await write(rig, producer, b"x" * 1931)
            await producer.abort_transaction()

    async def test_a_position_that_retention_has_passed_is_told_by_partition(self, rig: Rig) -> None:
        """Nothing else stops: reset `none` leaves it to us (must 6)."""
        topic = commands(rig).topic
        async with started(rig.connection.idempotent()) as producer:
            for number in range(4):
                await (await producer.send(topic, b"%d" % number, None, number % PARTITIONS))
        async with started(rig.connection.admin()) as admin:
            await admin.delete_records({commands(rig, 0): RecordsToDelete(1)})
        async with started(rig.connection.reader()) as reader:
            reader.assign([commands(rig, 0), commands(rig, 1)])
            reader.seek(commands(rig, 0), 0)
            reader.seek(commands(rig, 1), 0)
            found: list[bytes] = []
            raised: list[Any] = []
            async with asyncio.timeout(20):
                while len(found) < 2 or not raised:
                    try:
                        for records in (await reader.getmany(timeout_ms=200)).values():
                            found += [record.value for record in records]
                    except errors.OffsetOutOfRangeError as error:
                        raised.append(error.args[0])
            assert raised[0] == {commands(rig, 0): 0}
            assert found == [b"1", b"3"]
            reader.seek(commands(rig, 0), 1)
            async with asyncio.timeout(20):
                while len(found) < 3:
                    found += [each.value for many in (await reader.getmany(timeout_ms=200)).values() for each in many]
            assert found[2] == b"2"


def _subscribed(rig: Rig, connection: Connection, listener: Heard | None = None) -> Any:
    member = connection.member()
    member.subscribe([commands(rig).topic], listener=listener)
    return member


async def _cut(client: Any, others: set["asyncio.Task[Any]"]) -> None:
    """What `end` does with such a client: nothing of it is left."""
    client._closed = False
    await end(client, 2.0)
    await asyncio.sleep(0.1)
    assert not {task for task in asyncio.all_tasks() - others if not task.done()}
