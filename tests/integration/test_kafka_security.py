"""A broker that lets nobody in without a credential: each mechanism of SASL, without TLS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import admin as untyped

from tests.integration.kafka_guarded import MODULES, PASSWORD, token
from tests.integration.kafka_world import KafkaWorld, owning
from tests.services.broker import Broker
from worker.ports import Outgoing, Position, Topic

admin: Any = untyped  # its types leave out half of what it documents
SETTINGS = {
    "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
    "listener.name.plaintext.plain.sasl.jaas.config": (
        f'{MODULES}.plain.PlainLoginModule required user_worker="{PASSWORD}";'
    ),
    "listener.name.plaintext.scram-sha-256.sasl.jaas.config": f"{MODULES}.scram.ScramLoginModule required;",
    "listener.name.plaintext.scram-sha-512.sasl.jaas.config": f"{MODULES}.scram.ScramLoginModule required;",
    "listener.name.plaintext.oauthbearer.sasl.jaas.config": (
        f'{MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
    ),
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Broker]:
    with Broker(SETTINGS) as broker:
        administrator = admin.AdminClient(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "worker",
                "sasl.password": PASSWORD,
            }
        )
        for mechanism in (admin.ScramMechanism.SCRAM_SHA_256, admin.ScramMechanism.SCRAM_SHA_512):
            made = admin.UserScramCredentialUpsertion(
                "worker", admin.ScramCredentialInfo(mechanism, 4096), PASSWORD.encode()
            )
            for future in administrator.alter_user_scram_credentials([made]).values():
                future.result(10)
        yield broker


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
async def test_each_mechanism_lets_a_worker_in(
    guarded: Broker, topic_prefix: str, group: str, tmp_path: Path, mechanism: str
) -> None:
    file = tmp_path / "token"
    file.write_text(token("worker", 600))
    credential: dict[str, Any] = {"sasl_username": "worker", "sasl_password": PASSWORD}
    if mechanism == "OAUTHBEARER":
        credential = {"token_file": str(file)}
    whole = {"security": "SASL_PLAINTEXT", "sasl_mechanism": mechanism, **credential}
    world = KafkaWorld(guarded, topic_prefix, group, partitions=1, **whole)
    await world.create()
    await world.stream.publish([Outgoing(Topic.COMMANDS, b"k", b"a")])
    assignment = (await owning(world.log, 1)).assignments[0]
    world.log.seek(assignment, 0)
    assert [record.value for record in await world.log.fetch(10, 5)] == [b"a"]
    await world.log.commit(assignment, [Outgoing(Topic.RESULTS, b"k", b"r")], Position(1))
    assert (await world.log.renew(assignment)).position == Position(1)
    await world.stop()
