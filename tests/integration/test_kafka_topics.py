"""`worker topics create | check` on a real broker: what is made passes the check, and what is wrong is named."""

import asyncio
import json
import os
import re
import sys
from typing import Any

import pytest
from aiokafka.admin import NewTopic

from tests.integration.kafka_world import COMMAND_BYTES_MAX, KafkaWorld, owning
from tests.services.broker import Broker
from worker.adapters.kafka import topics
from worker.errors import Misconfigured
from worker.ports import Topic


@pytest.fixture
def world(kafka: Broker, topic_prefix: str, group: str) -> KafkaWorld:
    return KafkaWorld(kafka, topic_prefix, group, partitions=3)


async def worker(world: KafkaWorld, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """-> exit code, stdout, stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")} | {
        "WORKER_STACK": "services",
        "WORKER_PARTITIONS": "3",
        "WORKER_KAFKA__BOOTSTRAP_SERVERS": world.settings.bootstrap_servers,
        "WORKER_KAFKA__TOPIC_PREFIX": world.settings.topic_prefix,
        "WORKER_KAFKA__REPLICATION_FACTOR": "1",
        **settings,
    }
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-c", "from worker.cli import main; main()", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def findings(world: KafkaWorld) -> dict[str, Any]:
    prefix = f"{world.settings.topic_prefix}."
    return {found.topic.removeprefix(prefix): found for found in await topics.check(world.connection, 3)}


async def test_what_was_created_passes_the_check(world: KafkaWorld) -> None:
    code, out, err = await worker(world, "topics", "create", "--json")
    assert (code, err) == (0, "")
    assert [(found["ok"], found["text"]) for found in json.loads(out)] == [(True, "created")] * len(Topic)
    code, out, err = await worker(world, "topics", "check", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [each["text"] for each in found] == ["3 partitions"] * len(Topic) + ["kept for 7 days without a worker"]
    code, out, _ = await worker(world, "topics", "create")
    assert (code, out.count("exists")) == (0, len(Topic))


async def test_audit_and_checkpoints_are_kept_for_ever(world: KafkaWorld) -> None:
    await world.create()
    for topic in (Topic.AUDIT, Topic.CHECKPOINTS):
        assert topics.wanted(topic, COMMAND_BYTES_MAX)["retention.ms"] == "-1"
        await world.alter(topic, retention_ms="604800000")
        assert (await findings(world))[topic.value].text.startswith("retention.ms=604800000, should be -1")


async def test_topics_that_are_missing_or_too_narrow_are_named(world: KafkaWorld) -> None:
    code, out, err = await worker(world, "topics", "check")
    assert (code, out.count("WRONG  missing"), err.count("\n")) == (1, len(Topic), 1)
    assert err.startswith(f"wrong: {world.connection.topic(Topic.COMMANDS)}, ")
    await world.create()
    await world.alter(Topic.DEAD_LETTERS, max_message_bytes="1000000")
    await world.alter(Topic.COMMANDS, retention_ms="1000")
    found = await findings(world)
    assert [name for name, each in found.items() if not each.ok] == ["commands", "dead-letters"]
    assert "retention.ms=1000, should be 604800000" in found["commands"].text
    assert "max.message.bytes=1000000, should be" in found["dead-letters"].text


async def test_another_number_of_partitions_than_the_setting_is_named_once(world: KafkaWorld) -> None:
    await world.create()
    code, out, err = await worker(world, "topics", "check", WORKER_PARTITIONS="4")
    commands = world.connection.topic(Topic.COMMANDS)
    assert (code, err) == (1, f"wrong: {commands}\n")
    assert out.count("3 partitions, and WORKER_PARTITIONS is 4") == 1


async def test_more_copies_than_brokers_is_said_by_the_setting_and_the_remedy(world: KafkaWorld) -> None:
    code, out, err = await worker(world, "topics", "create", "--json", WORKER_KAFKA__REPLICATION_FACTOR="3")
    assert (code, err.count("\n")) == (1, 1)
    said = "WORKER_KAFKA__REPLICATION_FACTOR=3: set it to the number of brokers, or less ("
    assert all(found["text"].startswith(said) for found in json.loads(out))


async def test_a_broker_without_tls_and_sasl_is_said_not_to_fit_the_setting(world: KafkaWorld) -> None:
    sasl = {"WORKER_KAFKA__SASL_USERNAME": "worker", "WORKER_KAFKA__SASL_PASSWORD": "any"}
    for security, said in (
        ("SASL_PLAINTEXT", r"WORKER_KAFKA__SECURITY: \S+ takes no SASL, and it is SASL_PLAINTEXT"),
        ("SSL", r"kafka: connect to \S+: .+; unless it is away, WORKER_KAFKA__SECURITY=SSL is not what it speaks"),
    ):
        code, _, err = await worker(world, "topics", "check", WORKER_KAFKA__SECURITY=security, **sasl)
        assert code == 2
        assert re.fullmatch(f"{said}\n", err), err


async def test_partition_counts_that_differ_stop_the_worker_at_its_start(world: KafkaWorld) -> None:
    async with world.admin() as admin:
        await admin.create_topics([NewTopic(world.connection.topic(Topic.RESULTS), 2, 1)])
    assert [found.text for found in await topics.create(world.connection, 3)].count("exists") == 1
    assert (await findings(world))["results"].text.startswith("2 partitions, and commands 3")
    with pytest.raises(Misconfigured, match="the same number of partitions"):
        await owning(world.log, 3)
    with pytest.raises(Misconfigured, match="the same number of partitions"):
        await world.stream.bounds(Topic.COMMANDS)
    await world.stop()


async def test_a_missing_topic_stops_the_worker_at_its_start(world: KafkaWorld) -> None:
    with pytest.raises(Misconfigured, match=r"there is no topic \S+\.commands; `worker topics create` makes it"):
        await owning(world.log, 3)


async def test_positions_that_expire_before_the_commands_do_are_warned_of() -> None:
    with Broker({"offsets.retention.minutes": "1440"}) as broker:
        world = KafkaWorld(broker, "short", "short", partitions=1)
        await world.create()
        found = (await findings(world))["positions"]
    assert not found.ok
    assert found.text == "offsets.retention.minutes=1440: without a worker for so long, every partition stops"


async def test_the_embedded_stack_has_no_topics_and_a_broker_that_is_away_is_one_line(world: KafkaWorld) -> None:
    code, _, err = await worker(world, "topics", "check", WORKER_STACK="embedded")
    assert (code, err.count("\n")) == (2, 1)
    code, _, err = await worker(world, "topics", "create", WORKER_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert code == 2
    assert re.fullmatch(r"kafka: connect to 127\.0\.0\.1:1: .+\n", err), err
