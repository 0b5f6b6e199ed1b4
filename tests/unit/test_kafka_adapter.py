"""What of the Kafka adapter needs no broker: settings, sizes, the watchdog, answers that must not be misread."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer import sender
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from pydantic import SecretStr, ValidationError

from worker.adapters.kafka import Connection, topics
from worker.adapters.kafka.ending import end
from worker.adapters.kafka.position import position_of
from worker.adapters.kafka.token import Token
from worker.adapters.kafka.watchdog import Watchdog
from worker.errors import Misconfigured, Unavailable
from worker.ports import Outgoing, Position, Topic
from worker.settings import KafkaSettings

PARTITION = TopicPartition("worker.commands", 3)


# ------------------------------------------------------------------------------------ positions


def test_a_partition_without_a_position_is_told_from_an_answer_that_is_none() -> None:
    """The client drops a coordinator's error: read as "never committed", the whole log would be decided again."""
    assert position_of({PARTITION: OffsetAndMetadata(-1, "")}, PARTITION) is None
    assert position_of({PARTITION: OffsetAndMetadata(7, "1:a")}, PARTITION) == Position(7, "1:a")
    with pytest.raises(Unavailable, match="partition 3"):
        position_of({}, PARTITION)


# ------------------------------------------------------------------------------------ the client's constant (K11)


def test_the_pause_between_two_transactions_is_the_one_that_we_set() -> None:
    """If this fails, aiokafka has changed: look at how long its transactions take, and take the lowering away."""
    assert sender.BACKOFF_OVERRIDE == 0.001
    assert "BACKOFF_OVERRIDE" in sender.AddPartitionsToTxnHandler.handle_response.__code__.co_names


# ------------------------------------------------------------------------------------ sizes, by K8 and K15


def test_a_dead_letter_may_be_larger_than_the_command_in_it() -> None:
    command = topics.record_bytes_max(Topic.COMMANDS, 1000)
    letter = topics.record_bytes_max(Topic.DEAD_LETTERS, 1000)
    assert letter - command >= 64 * 1024
    limits = {topic: int(topics.wanted(topic, 1000)["max.message.bytes"]) for topic in Topic}
    assert all(limits[topic] > topics.record_bytes_max(topic, 1000) for topic in Topic)


@pytest.mark.parametrize("topic", Topic)
def test_what_a_topic_does_not_take_is_refused(topic: Topic) -> None:
    limit = topics.record_bytes_max(topic, 1000)
    topics.check_sizes([Outgoing(topic, b"", b"x" * limit)], None, 1000)
    for large in (Outgoing(topic, b"k", b"x" * limit), Outgoing(topic, b"", b"", (("h", b"x" * limit),))):
        with pytest.raises(Misconfigured, match=f"for {topic}"):
            topics.check_sizes([large], None, 1000)


def test_metadata_is_measured_in_characters() -> None:
    topics.check_sizes([], Position(0, "\u00fc" * 4096), 1000)
    with pytest.raises(Misconfigured, match="4097 characters"):
        topics.check_sizes([], Position(0, "x" * 4097), 1000)


# ------------------------------------------------------------------------------------ the watchdog (K13)


def test_a_partition_that_stands_still_below_the_end_is_told_after_the_time_out() -> None:
    watchdog = Watchdog(10)
    assert watchdog.look(0, 1, {0: (5, 9), 1: (3, 3)}) is None
    assert watchdog.look(9, 2, {0: (5, 9), 1: (3, 3)}) is None
    assert watchdog.look(10, 3, {0: (5, 9), 1: (3, 3)}) == "partition 0 stands at 5 of 9 for 10 s, and gets nothing"


@pytest.mark.parametrize(
    "between",
    [{0: (6, 9)}, {0: (5, 5)}, {}],
    ids=["it moved", "there was nothing to get", "it was paused, or another's"],
)
def test_a_partition_for_which_there_is_a_reason_counts_anew(between: dict[int, tuple[int, int]]) -> None:
    watchdog = Watchdog(10)
    watchdog.look(0, 1, {0: (5, 9)})
    watchdog.look(5, 2, between)
    assert watchdog.look(10, 3, {0: (5, 9)}) is None


def test_what_nobody_fetched_and_what_no_broker_answered_does_not_count() -> None:
    watchdog = Watchdog(10)
    watchdog.look(0, 1, {0: (5, 9)})
    assert watchdog.look(20, 1, {0: (5, 9)}) is None
    watchdog.forget()
    assert watchdog.look(30, 2, {0: (5, 9)}) is None


# ------------------------------------------------------------------------------------ settings


def connection(**settings: Any) -> Connection:
    return Connection(KafkaSettings.model_validate(settings), 8 * 1024 * 1024)


async def made(connection: Connection) -> Any:
    """What a client is made with."""
    client = connection.admin()
    await client.close()
    return vars(client._client)  # shown nowhere else


async def test_plain_text_is_the_default_and_has_no_credential() -> None:
    found = await made(connection(bootstrap_servers="a:1,b:2"))
    assert (found["_bootstrap_servers"], found["_security_protocol"]) == (["a:1", "b:2"], "PLAINTEXT")
    assert (found["_ssl_context"], found["_sasl_plain_password"]) == (None, None)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_tls_checks_who_the_broker_is_and_a_name_goes_with_a_password(mechanism: str) -> None:
    found = await made(
        connection(security="SASL_SSL", sasl_mechanism=mechanism, sasl_username="w", sasl_password=SecretStr("secret"))
    )
    context = found["_ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert (found["_sasl_mechanism"], found["_sasl_plain_username"]) == (mechanism, "w")
    assert found["_sasl_plain_password"].startswith("sec")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"security": "SASL_SSL"}, "WORKER_KAFKA__SASL_USERNAME: SCRAM-SHA-512 needs one"),
        ({"security": "SSL", "ca_file": "/nowhere/ca.pem"}, "WORKER_KAFKA__CA_FILE: there is no file /nowhere/ca.pem"),
        ({"security": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "WORKER_KAFKA__TOKEN_FILE, .* needs one of them"),
    ],
)
async def test_what_is_missing_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        connection(**settings).admin()


@pytest.mark.parametrize("servers", ["", "a:1, b:2", "a:1,"])
def test_addresses_are_checked(servers: str) -> None:
    with pytest.raises(ValidationError):
        KafkaSettings(bootstrap_servers=servers)


async def test_a_token_is_read_anew_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    token = Token(KafkaSettings(token_file=str(file)))
    assert await token.token() == "first"
    await asyncio.to_thread(file.write_text, "second\n")
    assert await token.token() == "second"
    await asyncio.to_thread(file.unlink)
    with pytest.raises(KafkaConnectionError, match="no token: FileNotFoundError"):
        await token.token()


async def test_a_token_is_what_a_command_prints_and_a_failure_of_it_says_no_secret() -> None:
    said, failing, missing = "printf 'a b'", "false", "/nowhere/token --secret=1"
    assert await Token(KafkaSettings(token_command=said)).token() == "a b"
    for command in (failing, missing):
        with pytest.raises(KafkaConnectionError, match=r"no token: \w+Error$"):
            await Token(KafkaSettings(token_command=command)).token()


# ------------------------------------------------------------------------------------ the end of a client


class Stuck:
    """A client whose `stop` does not return, and whose tasks say when they are ended."""

    def __init__(self) -> None:
        self.ended: list[int] = []

    async def stop(self) -> None:
        await asyncio.Event().wait()

    async def work(self, number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(number)


async def test_the_tasks_of_a_client_that_does_not_stop_end_in_the_order_in_which_they_were_made() -> None:
    """The loop has them in a set, whose order changes from run to run: a simulation could not be repeated."""
    client = Stuck()
    tasks = [asyncio.create_task(client.work(number)) for number in range(50)]
    await end(client, 0.01)
    assert client.ended == list(range(50))
    assert all(task.cancelled() for task in tasks)
