"""What a worker will need of Kafka, tried before one does: each row of the least ACLs in deploy/README.md.

Nothing is changed by it, and nobody is disturbed: no member joins the group, no record is written, and the id of
transactions is one that no worker has.  Knows nothing of who asks, and of what is said about the answer.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    NotCoordinatorForGroupError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from worker.adapters.kafka import position, topics
from worker.adapters.kafka.calling import calling, told
from worker.adapters.kafka.connecting import administrator
from worker.adapters.kafka.connection import Connection
from worker.adapters.kafka.ending import end
from worker.errors import Refused
from worker.ports import Topic

WRITTEN = tuple(topic for topic in Topic if topic is not Topic.COMMANDS)
NO_PARTITION = 2**31 - 1
"""The rights over a topic are looked at first: who may write hears that it has no such partition."""
ACKS_ALL = -1
NOBODY, NO_GENERATION = "nobody", -1
"""A member whom no group has: whoever may join hears so."""
COORDINATOR_MOVES = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)
"""Also in a cluster that is asked for its first one: then it takes a moment."""
POLL_SECONDS = 1.0
RETRY_SECONDS = 0.1
STOP_SECONDS = 2.0


async def tried(connection: Connection) -> str:
    """-> what was found, for people.

    Raises Refused with the row of the table that is missing; Unavailable, and Misconfigured for a credential, a
    certificate, and topics that are missing or differ.
    """
    admin = await administrator(connection)
    try:
        with _row("topic `<prefix>.commands`", "read, describe"):
            count = await topics.partitions(connection, admin, [Topic.COMMANDS])
        with _row("topics `<prefix>.results`, `.status`, `.audit`, `.dead-letters`, `.checkpoints`", "write, describe"):
            await topics.partitions(connection, admin)
            await _may_write(connection, admin, WRITTEN)
        with _row("topic `<prefix>.commands`", "write, describe"):
            await _may_write(connection, admin, [Topic.COMMANDS])
        with _row("group `<group>`", "read, describe"):
            await _may_join(connection, admin)
    finally:
        await end(admin, STOP_SECONDS)
    with _row("transactional id `<group>-` (prefix)", "write, describe"):
        await _starts(connection, connection.trial())
    with _row("cluster", "idempotent write"):
        await _starts(connection, connection.idempotent())
    with _row("topic `<prefix>.commands`", "read, describe"):
        commands = await _read(connection, Topic.COMMANDS, count)
    with _row("topics `<prefix>.audit`, `.checkpoints`", "read, describe"):
        await _read(connection, Topic.AUDIT, 1)
        await _read(connection, Topic.CHECKPOINTS, 1)
    return f"{count} partitions, {commands} commands; a worker may do what it must"


@contextmanager
def _row(resource: str, operations: str) -> Iterator[None]:
    """Whoever is refused here lacks this row of the table."""
    try:
        yield
    except Refused as error:
        raise Refused(f"{error}; deploy/README.md, least ACLs: | {resource} | {operations} |") from error


async def _may_write(connection: Connection, admin: AIOKafkaAdminClient, written: Sequence[Topic]) -> None:
    names = [connection.topic(topic) for topic in written]
    asked = [(name, [(NO_PARTITION, b"")]) for name in names]
    seconds = connection.settings.request_timeout_seconds
    async with calling("try to write", seconds):
        # No public call writes to a partition that is not there.
        request = ProduceRequest(None, ACKS_ALL, round(seconds * 1000), asked)
        answer: Any = await admin._send_request(request)
    for name, partitions in answer.topics:
        for _, code, *_ in partitions:
            error = for_code(code)
            if code and error is not UnknownTopicOrPartitionError:
                raise told(f"write to {name}", error())


async def _may_join(connection: Connection, admin: AIOKafkaAdminClient) -> None:
    group = connection.settings.group
    async with calling(f"join the group {group}", connection.settings.request_timeout_seconds):
        while True:
            try:
                return await _heartbeat(admin, group)
            except COORDINATOR_MOVES:
                await asyncio.sleep(RETRY_SECONDS)


async def _heartbeat(admin: AIOKafkaAdminClient, group: str) -> None:
    """To the group's coordinator, as somebody whom it does not know.  Raises what it has against that but this."""
    coordinator = await admin.find_coordinator(group)
    # No public call belongs to a member that is none; the client drops what a broker says of rights over a group.
    answer: Any = await admin._send_request(HeartbeatRequest(group, NO_GENERATION, NOBODY), coordinator)
    error = for_code(answer.error_code)
    if answer.error_code and error is not UnknownMemberIdError:
        raise error()


async def _starts(connection: Connection, producer: AIOKafkaProducer) -> None:
    """It gets an id of a producer, and with a transactional id its coordinator."""
    try:
        async with calling("start a producer", connection.settings.request_timeout_seconds):
            await producer.start()
    finally:
        await end(producer, STOP_SECONDS)


async def _read(connection: Connection, topic: Topic, count: int) -> int:
    """-> how many records its first partitions hold, of which one was read, where there is one."""
    seconds = connection.settings.request_timeout_seconds
    places = [TopicPartition(connection.topic(topic), number) for number in range(count)]
    reader = connection.reader()
    try:
        async with calling("connect", seconds):
            await reader.start()
        bounds = await position.bounds(reader, places, seconds)
        reader.assign(places)
        for place in places:  # nothing is awaited in between, so the client looks for no position itself
            reader.seek(place, bounds[place][0])
        async with calling(f"read {topic}", seconds):
            await reader.getmany(timeout_ms=round(POLL_SECONDS * 1000), max_records=1)
    finally:
        await end(reader, STOP_SECONDS)
    return sum(last - first for first, last in bounds.values())
