"""A worker over SASL_SSL, with just the rights that deploy/README.md names; credentials that are refused."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.structs import TopicPartition

from tests.integration.kafka_guarded import PASSWORD, Authority, Guarded, guarded, token
from tests.integration.kafka_worker import Worker, answered, create, once_each, updates
from tests.integration.kafka_world import KafkaWorld, owning
from tests.services.cluster import Cluster
from tests.services.object_store import ObjectStore
from worker.adapters.kafka import position
from worker.errors import Misconfigured, Refused, Unavailable, WorkerError
from worker.ports import Position, Topic

PARTITIONS = 2
BEARER = {"sasl_mechanism": "OAUTHBEARER", "sasl_username": ""}
LIFE_SECONDS = 1.5
"""Of a token that is rotated."""
WORKER = [sys.executable, "-c", "from worker.cli import main; main()"]


@pytest.fixture(scope="module")
def guard(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """`kafka` is asked for since it says where the image is missing; this broker is another one."""
    with guarded(tmp_path_factory.mktemp("guarded")) as guard:
        yield guard


class Locked:
    """Topics and a group whose rights were granted as documented; `world("api")` comes as that user."""

    def __init__(self, guard: Guarded, prefix: str, group: str) -> None:
        self.guard, self.prefix, self.group = guard, prefix, group
        self._worlds: list[KafkaWorld] = []

    def world(self, name: str, **settings: Any) -> KafkaWorld:
        whole = self.guard.settings(name, **settings)
        self._worlds.append(KafkaWorld(self.guard.broker, self.prefix, self.group, partitions=PARTITIONS, **whole))
        return self._worlds[-1]

    def take_away(self, name: str, kind: str) -> None:
        self.guard.take_away(name, self.prefix, self.group, kind)

    async def stop(self) -> None:
        for world in self._worlds:
            await world.stop()


@pytest.fixture
async def locked(guard: Guarded, topic_prefix: str, group: str) -> AsyncIterator[Locked]:
    locked = Locked(guard, topic_prefix, group)
    await locked.world("administrator").create()
    for name in ("worker", "api"):
        await asyncio.to_thread(guard.grant, name, topic_prefix, group)
    yield locked
    await locked.stop()


# ------------------------------------------------------------------------------------ the whole worker


class Commands:
    """The command `worker`, for one user of the broker, over one bucket and one namespace."""

    def __init__(self, world: KafkaWorld, s3: ObjectStore, bucket: str, cluster: Cluster, namespace: str) -> None:
        kafka = world.settings.model_dump(exclude_defaults=True)
        kafka["sasl_password"] = world.settings.sasl_password.get_secret_value()
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")} | {
            "WORKER_STACK": "services",
            "WORKER_PROBES_PORT": "0",
            "WORKER_DECISIONS__NAMESPACES": json.dumps([namespace]),
            "WORKER_KUBERNETES__KUBECONFIG": str(cluster.kubeconfig),
            "WORKER_S3__ENDPOINT_URL": s3.endpoint_url,
            "WORKER_S3__BUCKET": bucket,
            "WORKER_S3__ACCESS_KEY": s3.access_key,
            "WORKER_S3__SECRET_KEY": s3.secret_key,
            **{f"WORKER_KAFKA__{name.upper()}": str(value) for name, value in kafka.items()},
        }

    async def run(self, *arguments: str) -> tuple[int, str]:
        """-> exit code, and the one line of the answer, or of the complaint."""
        process = await self._start(arguments)
        out, err = await process.communicate()
        return process.returncode or 0, (out.decode() or err.decode()).strip().splitlines()[-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """`worker run`, ready; it ends when it is told to, with 0."""
        process = await self._start(["run"])
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                while b"worker.ready" not in (line := await process.stdout.readline()):
                    assert line, (await process.communicate())[1].decode()
            yield
            process.terminate()
            async with asyncio.timeout(30):
                await process.communicate()
            assert process.returncode == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def _start(self, arguments: Any) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *WORKER, *arguments, stdout=pipe, stderr=pipe, env=self._environment
        )


async def test_an_evaluation_is_cancelled_over_tls_with_no_more_rights_than_documented(
    locked: Locked, s3: ObjectStore, bucket: str, kubernetes: Cluster, namespace: str, tmp_path: Path
) -> None:
    """The real process; published and read by an API tier that has its own rights only."""
    worker, api = (Commands(locked.world(name), s3, bucket, kubernetes, namespace) for name in ("worker", "api"))
    evaluation = str(uuid4())
    state = {"workflow_id": evaluation, "purpose": "evaluation", "team_id": "demo", "status": "running"}
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps({"kind": "workflow", **state}))
    assert (await api.run("create", str(file)))[0] == 0
    async with worker.running():
        code, said = await api.run("send", "evaluation.cancel", evaluation, "--wait", "30", "--json")
        assert (code, json.loads(said)["code"]) == (0, "cancelled")
    reader = locked.world("api")
    [verdict] = await reader.verdicts()
    assert (verdict["outcome"], verdict["aggregate"]["id"]) == ("applied", evaluation)
    with pytest.raises(Refused, match=r"\.(audit|checkpoints): .*TopicAuthorizationFailed"):
        await owning(reader.log, PARTITIONS)


# ------------------------------------------------------------------------------------ wrong at the start


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sasl_password": "wrong horse"}, "WORKER_KAFKA__SASL_PASSWORD: {} refuses it: .* invalid credentials"),
        ({"sasl_mechanism": "SCRAM-SHA-256"}, "WORKER_KAFKA__SASL_MECHANISM: {} takes no SCRAM-SHA-256"),
        ({"ca_file": ""}, "WORKER_KAFKA__CA_FILE: {} is not trusted: .* issuer certificate"),
        ({"ca_file": "another authority"}, "WORKER_KAFKA__CA_FILE: {} is not trusted: .* issuer certificate"),
        ({"ca_file": "no authority"}, "WORKER_KAFKA__CA_FILE: .+: "),
        ({"ca_file": "/no/such.pem"}, "WORKER_KAFKA__CA_FILE: there is no file /no/such.pem"),
        ({"security": "PLAINTEXT"}, "WORKER_KAFKA__SECURITY: {} speaks TLS, and it is PLAINTEXT"),
        ({"security": "SASL_PLAINTEXT"}, "WORKER_KAFKA__SECURITY: {} speaks TLS, and it is SASL_PLAINTEXT"),
        (
            {"sasl_mechanism": "OAUTHBEARER", "token_file": "expired"},
            "WORKER_KAFKA__TOKEN_FILE: {} refuses it: .*invalid_token",
        ),
    ],
)
async def test_what_is_wrong_at_the_start_is_one_line_that_names_its_setting(
    locked: Locked, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    """aiokafka raises for each of them what it raises for a broker that is away."""
    texts = {"another authority": Authority("another").certificate, "no authority": "", "expired": token("worker", -60)}
    settings = dict(changed)
    for name, content in changed.items():
        if content in texts:
            settings[name] = str(tmp_path / name)
            (tmp_path / name).write_text(texts[content])
    world = locked.world("worker", **settings)
    with pytest.raises(Misconfigured, match=f"^{said.format(locked.guard.broker.bootstrap_servers)}") as raised:
        await owning(world.log, PARTITIONS)
    assert "\n" not in str(raised.value)
    assert not {"horse", PASSWORD} & set(str(raised.value).split())


async def test_an_address_that_is_away_does_not_hide_that_another_refuses(locked: Locked) -> None:
    broker = locked.guard.broker.bootstrap_servers
    wrong = {"sasl_password": "wrong horse"}
    world = locked.world("worker", **wrong, bootstrap_servers=f"127.0.0.1:1,{broker}")
    with pytest.raises(Misconfigured, match=f"^WORKER_KAFKA__SASL_PASSWORD: {broker}"):
        await owning(world.log, PARTITIONS)
    with pytest.raises(Misconfigured, match=f"^WORKER_KAFKA__SASL_PASSWORD: {broker}"):
        await world.stream.bounds(Topic.COMMANDS)
    away = locked.world("worker", bootstrap_servers="127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(Unavailable, match=r"^kafka: connect to 127\.0\.0\.1:1: "):
        await owning(away.log, PARTITIONS)
    anonymous = locked.world("worker", security="SSL")
    with pytest.raises(Unavailable, match=r"takes connections; .* WORKER_KAFKA__SECURITY=SSL is not what it speaks$"):
        await owning(anonymous.log, PARTITIONS)
    one_is_enough = locked.world("worker", bootstrap_servers=f"127.0.0.1:1,{broker}")
    await owning(one_is_enough.log, PARTITIONS)


# ------------------------------------------------------------------------------------ while it runs


async def test_a_token_that_is_rotated_under_load_and_one_that_expires_lose_and_double_nothing(
    locked: Locked, tmp_path: Path
) -> None:
    """A connection ends with its token.  Whoever has no new one is refused, and that is waited out like an outage."""
    file = tmp_path / "token"
    put(token("worker", LIFE_SECONDS), file)
    world, api = locked.world("worker", **BEARER, token_file=str(file)), locked.world("api")
    worker = Worker(world.connection, tmp_path)
    rotating = asyncio.create_task(rotate(file))
    try:
        await worker.engine.start()
        await create(worker.store, 10)
        for i in range(6):
            await api.stream.publish(updates(20, 10, 20 * i))
            await asyncio.sleep(LIFE_SECONDS / 3)
        await answered(api, 120)
        rotating.cancel()
        await asyncio.sleep(LIFE_SECONDS + 0.5)  # connections have ended, and new ones are refused
        await api.stream.publish(updates(20, 10, 120))
        await asyncio.sleep(0.5)
        assert len(await api.verdicts()) == 120
        put(token("worker", 60), file)
        assert once_each(await answered(api, 140)) == sorted(f"u{i}" for i in range(140))
    finally:
        rotating.cancel()
        await worker.engine.stop()


async def rotate(file: Path) -> None:
    """A fresh token well before the one before has expired."""
    while True:
        put(token("worker", LIFE_SECONDS), file)
        await asyncio.sleep(LIFE_SECONDS / 5)


def put(text: str, file: Path) -> None:
    """In the place of the one before, as a whole."""
    fresh = file.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(file)


async def test_a_position_that_may_not_be_read_is_never_read_as_none(locked: Locked) -> None:
    """aiokafka drops some errors that come in the place of a position: then the whole log would be decided again."""
    world = locked.world("worker")
    assignment = (await owning(world.log, PARTITIONS)).assignments[0]
    await world.log.commit(assignment, [], Position(0, "1:a"))
    await world.log.stop()
    place = TopicPartition(world.connection.topic(Topic.COMMANDS), 0)
    async with world.admin() as admin:

        async def read() -> Position | None:
            return await position.committed(admin, locked.group, place, 5)

        assert await read() == Position(0, "1:a")
        await asyncio.to_thread(locked.take_away, "worker", "topic")
        with pytest.raises(WorkerError, match="Unable to get offset info"):
            await read()
        await asyncio.to_thread(locked.take_away, "worker", "group")
        with pytest.raises(Refused, match="GroupAuthorizationFailedError"):
            await read()
        # The right may go between the two requests of a read: here the second one is sent alone, to the only broker.
        found = await admin.list_consumer_group_offsets(locked.group, 1, [place])
        assert found == {}
        with pytest.raises(Unavailable, match="knows nothing of partition 0"):
            position.position_of(found, place)
