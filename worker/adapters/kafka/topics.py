"""What the topics must be like, and how they are made and checked; `worker topics create | check` prints the answers.

Sizes that are checked before a record is sent stand here as well, so that topics and checks never differ (K15).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidReplicationFactorError, UnknownTopicOrPartitionError, for_code

from worker.adapters.kafka.calling import calling, told
from worker.adapters.kafka.connecting import administrator
from worker.adapters.kafka.connection import HEADERS_BYTES_MAX, Connection
from worker.adapters.kafka.ending import end
from worker.adapters.kafka.position import METADATA_CHARACTERS_MAX
from worker.errors import Misconfigured, Unavailable
from worker.ports import Outgoing, Position, Topic

ALIKE = (Topic.COMMANDS, Topic.RESULTS, Topic.STATUS, Topic.AUDIT)
"""Same partition count, so that all of one aggregate is under one number."""
SEEN_BY_AN_API_TIER = (Topic.COMMANDS, Topic.RESULTS, Topic.STATUS, Topic.DEAD_LETTERS)
"""All that it has a right to."""
DAY_MILLISECONDS = 24 * 60 * 60 * 1000
FOR_EVER = -1
RETENTION_MILLISECONDS = {
    Topic.COMMANDS: 7 * DAY_MILLISECONDS,
    Topic.RESULTS: 7 * DAY_MILLISECONDS,
    Topic.STATUS: 30 * DAY_MILLISECONDS,
    Topic.AUDIT: FOR_EVER,
    Topic.CHECKPOINTS: FOR_EVER,
    Topic.DEAD_LETTERS: 30 * DAY_MILLISECONDS,
}
RECORD_BYTES_MAX = 1024 * 1024
"""Of what the worker publishes: payloads over 64 KiB stand in the store (must 8)."""
FRAMING_BYTES = 1024
SHOWN_POLL_SECONDS = 0.05
STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a topic, or of the brokers; `ok` False: it has to be changed."""

    topic: str
    ok: bool
    text: str


def record_bytes_max(topic: Topic, command_bytes_max: int) -> int:
    """Key, value and headers together; a dead letter holds a command, with more headers (K15)."""
    match topic:
        case Topic.COMMANDS:
            return command_bytes_max + HEADERS_BYTES_MAX
        case Topic.DEAD_LETTERS:
            return command_bytes_max + 2 * HEADERS_BYTES_MAX
        case _:
            return RECORD_BYTES_MAX


def record_bytes(record: Outgoing) -> int:
    """Key, value and headers, with some bytes of framing for each header."""
    headers = sum(len(name.encode()) + len(value) + 10 for name, value in record.headers)
    return len(record.key) + len(record.value) + headers


def check_sizes(records: Sequence[Outgoing], position: Position | None, command_bytes_max: int) -> None:
    """Raises Misconfigured for what a topic, or the group's coordinator, would not take."""
    for record in records:
        size, allowed = record_bytes(record), record_bytes_max(record.topic, command_bytes_max)
        if size > allowed:
            raise Misconfigured(f"kafka: a record of {size} bytes for {record.topic}, which takes {allowed}")
    if position is not None and len(position.metadata) > METADATA_CHARACTERS_MAX:
        raise Misconfigured(f"kafka: metadata of {len(position.metadata)} characters with a position")


def wanted(topic: Topic, command_bytes_max: int) -> dict[str, str]:
    """-> the topic's configuration."""
    configuration = {
        "cleanup.policy": "delete",
        "retention.ms": str(RETENTION_MILLISECONDS[topic]),
        "retention.bytes": str(FOR_EVER),
        "max.message.bytes": str(record_bytes_max(topic, command_bytes_max) + FRAMING_BYTES),
    }
    if topic is Topic.COMMANDS:  # deadlines count from a record's timestamp, so it is the broker's
        configuration["message.timestamp.type"] = "LogAppendTime"
    return configuration


async def partitions(connection: Connection, admin: AIOKafkaAdminClient, seen: Sequence[Topic] = tuple(Topic)) -> int:
    """How many the topics have, having looked at those that are `seen`.

    Raises Unavailable, Refused where one may not be looked at, Misconfigured where one is missing or they differ.
    """
    counts = await _counts(connection, admin, seen)
    if missing := [connection.topic(topic) for topic in seen if topic not in counts]:
        raise Misconfigured(f"kafka: there is no topic {missing[0]}; `worker topics create` makes it")
    alike = [topic for topic in ALIKE if topic in seen]
    if len({counts[topic] for topic in alike}) > 1:
        texts = ", ".join(f"{connection.topic(topic)} {counts[topic]}" for topic in alike)
        raise Misconfigured(f"kafka: topics must have the same number of partitions: {texts}")
    return counts[Topic.COMMANDS]


async def create(connection: Connection, partitions_wanted: int) -> list[Finding]:
    """Make what is missing; leave what is there.  -> a finding per topic.  Raises Unavailable, Refused."""
    settings = connection.settings
    admin = await administrator(connection)
    try:
        missing = [topic for topic in Topic if topic not in await _counts(connection, admin)]
        copies = {"min.insync.replicas": str(max(1, settings.replication_factor - 1))}
        new = [
            NewTopic(
                connection.topic(topic),
                partitions_wanted,
                settings.replication_factor,
                topic_configs=wanted(topic, connection.command_bytes_max) | copies,
            )
            for topic in missing
        ]
        async with calling("create topics", settings.request_timeout_seconds):
            answer = await admin.create_topics(new) if new else None
        made = {name: (code, text) for name, code, text in (answer.topic_errors if answer else [])}
        await _shown(connection, admin, [topic for topic in missing if made[connection.topic(topic)][0] == 0])
    finally:
        await end(admin, STOP_SECONDS)
    copies_wanted = settings.replication_factor
    return [_made(name, *made.get(name, (None, "")), copies_wanted) for name in map(connection.topic, Topic)]


async def _shown(connection: Connection, admin: AIOKafkaAdminClient, created: Sequence[Topic]) -> None:
    """Wait until brokers know what the controller made.  Raises Unavailable."""
    async with calling("see the new topics", connection.settings.request_timeout_seconds):
        while True:
            with suppress(Unavailable):  # no leader yet
                if set(created) <= (await _counts(connection, admin)).keys():
                    return
            await asyncio.sleep(SHOWN_POLL_SECONDS)


def _made(name: str, code: int | None, text: str | None, copies_wanted: int) -> Finding:
    match code:
        case None:
            return Finding(name, True, "exists")
        case 0:
            return Finding(name, True, "created")
        case InvalidReplicationFactorError.errno:
            setting = f"WORKER_KAFKA__REPLICATION_FACTOR={copies_wanted}: set it to the number of brokers, or less"
            return Finding(name, False, f"{setting} ({text or 'refused'})")
        case _:
            return Finding(name, False, text or for_code(code).__name__)


async def check(connection: Connection, partitions_wanted: int) -> list[Finding]:
    """-> what was found of each topic, and of how long positions are kept.  Raises Unavailable, Refused."""
    seconds = connection.settings.request_timeout_seconds
    admin = await administrator(connection)
    try:
        counts = await _counts(connection, admin)
        async with calling("read the topics' configuration", seconds):
            found = await _configurations(admin, ConfigResourceType.TOPIC, [connection.topic(t) for t in counts])
            brokers = [str(broker["node_id"]) for broker in (await admin.describe_cluster())["brokers"]]
            broker = await _configurations(admin, ConfigResourceType.BROKER, brokers[:1])
    finally:
        await end(admin, STOP_SECONDS)
    findings = [_topic(connection, topic, counts, found, partitions_wanted) for topic in Topic]
    return [*findings, *(_offsets(configuration) for configuration in broker.values())]


def _topic(
    connection: Connection,
    topic: Topic,
    counts: Mapping[Topic, int],
    found: Mapping[str, Mapping[str, str]],
    partitions_wanted: int,
) -> Finding:
    name = connection.topic(topic)
    if topic not in counts:
        return Finding(name, False, "missing")
    wrong = []
    if topic is Topic.COMMANDS and counts[topic] != partitions_wanted:
        wrong.append(f"{counts[topic]} partitions, and WORKER_PARTITIONS is {partitions_wanted}")
    if topic in ALIKE and counts[topic] != counts.get(Topic.COMMANDS):
        wrong.append(f"{counts[topic]} partitions, and commands {counts.get(Topic.COMMANDS, 'none')}")
    for key, value in wanted(topic, connection.command_bytes_max).items():
        has = found[name].get(key, "")
        if not _enough(key, has, value):
            wrong.append(f"{key}={has}, should be {value}")
    return Finding(name, not wrong, "; ".join(wrong) or f"{counts[topic]} partitions")


def _enough(key: str, has: str, value: str) -> bool:
    """More is fine, of time and of bytes; -1 is most."""
    if key not in ("retention.ms", "retention.bytes", "max.message.bytes"):
        return has == value
    return int(has) == FOR_EVER or (int(value) != FOR_EVER and int(has) >= int(value))


def _offsets(configuration: Mapping[str, str]) -> Finding:
    """A group that is empty for long loses its positions; while commands are kept, no position is lost unseen."""
    kept = int(configuration["offsets.retention.minutes"]) * 60 * 1000
    if kept >= RETENTION_MILLISECONDS[Topic.COMMANDS]:
        return Finding("positions", True, f"kept for {kept // DAY_MILLISECONDS} days without a worker")
    text = f"offsets.retention.minutes={kept // 60_000}: without a worker for so long, every partition stops"
    return Finding("positions", False, text)


async def _counts(
    connection: Connection, admin: AIOKafkaAdminClient, seen: Sequence[Topic] = tuple(Topic)
) -> dict[Topic, int]:
    """-> {topic: partitions}, of those that exist.  Raises Unavailable, Refused."""
    names = {connection.topic(topic): topic for topic in seen}
    async with calling("read the topics", connection.settings.request_timeout_seconds):
        described = await admin.describe_topics(list(names))
    counts: dict[Topic, int] = {}
    for topic in described:
        error = for_code(topic["error_code"])
        if topic["error_code"] == 0:
            counts[names[topic["topic"]]] = len(topic["partitions"])
        elif error is not UnknownTopicOrPartitionError:
            raise told(f"read the topic {topic['topic']}", error())
    return counts


async def _configurations(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """-> {name: {key: value}}."""
    answers: list[Any] = await admin.describe_configs([ConfigResource(kind, name) for name in names]) if names else []
    found: dict[str, dict[str, str]] = {}
    for code, text, _, name, entries in (resource for answer in answers for resource in answer.resources):
        if code:
            raise told(f"read the configuration of {name}", for_code(code)(text))
        found[name] = {key: value for key, value, *_ in entries}
    return found
