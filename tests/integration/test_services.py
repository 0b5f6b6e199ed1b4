"""Each real server answers as tests rely on, is the same one after a kill, and never stays behind."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aioboto3
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from botocore.exceptions import ClientError
from kubernetes_asyncio.client import (
    ApiClient,
    BatchV1Api,
    CoreV1Api,
    V1Container,
    V1DeleteOptions,
    V1Job,
    V1JobSpec,
    V1ObjectMeta,
    V1PodSpec,
    V1PodTemplateSpec,
    V1Preconditions,
    VersionApi,
)

from tests.services import container, images
from tests.services.broker import Broker
from tests.services.cluster import Cluster
from tests.services.object_store import ObjectStore

ROOT = Path(__file__).parents[2]


# ------------------------------------------------------------------------------------------------ Kafka


async def test_readers_of_committed_data_see_what_a_transaction_committed(kafka: Broker, topic_prefix: str) -> None:
    topic = await _topic(kafka, topic_prefix)
    async with _producer(kafka, transactional_id=topic_prefix) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted")
        await producer.abort_transaction()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"committed")
        await producer.commit_transaction()
    assert await _first(kafka, topic) == b"committed"


async def test_a_broker_killed_and_started_again_is_the_same(kafka: Broker, topic_prefix: str) -> None:
    before = kafka.bootstrap_servers
    topic = await _topic(kafka, topic_prefix)
    async with _producer(kafka) as producer:
        await producer.send_and_wait(topic, b"kept")
    await kafka.kill()
    await _refuses(kafka.bootstrap_servers)
    await kafka.start()
    assert kafka.bootstrap_servers == before
    assert await _first(kafka, topic) == b"kept"


async def test_a_paused_broker_takes_connections_and_says_nothing(kafka: Broker, topic_prefix: str) -> None:
    topic = await _topic(kafka, topic_prefix)
    async with _producer(kafka) as producer:
        await producer.send_and_wait(topic, b"before")
        await kafka.pause()
        _, writer = await asyncio.open_connection(*kafka.bootstrap_servers.split(":"))
        writer.close()
        sent = await producer.send(topic, b"meanwhile")
        _, pending = await asyncio.wait([sent], timeout=0.5)
        assert pending
        await kafka.unpause()
        assert (await sent).offset == 1


async def _topic(kafka: Broker, name: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    return name


def _producer(kafka: Broker, transactional_id: str | None = None) -> Any:
    return AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=transactional_id)


async def _first(kafka: Broker, topic: str) -> bytes | None:
    """The first record that a reader of committed data sees."""
    async with (
        AIOKafkaConsumer(
            topic,
            bootstrap_servers=kafka.bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        ) as consumer,
        asyncio.timeout(20),
    ):
        value: bytes | None = (await consumer.getone()).value
        return value


async def _refuses(address: str) -> None:
    host, port = address.split(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


# ------------------------------------------------------------------------------------------------ S3


async def test_one_of_two_conditional_puts_wins(s3: ObjectStore, bucket: str) -> None:
    async with _client(s3) as client:
        made = await client.put_object(Bucket=bucket, Key="one", Body=b"1", IfNoneMatch="*")
        assert await _refused(client.put_object(Bucket=bucket, Key="one", Body=b"2", IfNoneMatch="*"))
        await client.put_object(Bucket=bucket, Key="one", Body=b"3", IfMatch=made["ETag"])
        assert await _refused(client.put_object(Bucket=bucket, Key="one", Body=b"4", IfMatch=made["ETag"]))
        assert await _body(client, bucket, "one") == b"3"


async def test_an_object_store_killed_and_started_again_is_the_same(s3: ObjectStore, bucket: str) -> None:
    async with _client(s3) as client:
        await client.put_object(Bucket=bucket, Key="kept", Body=b"kept")
    await s3.kill()
    await _refuses(s3.endpoint_url.removeprefix("http://"))
    await s3.start()
    async with _client(s3) as client:
        assert await _body(client, bucket, "kept") == b"kept"


def _client(s3: ObjectStore) -> Any:
    return aioboto3.Session().client(
        "s3",
        region_name=s3.region,
        endpoint_url=s3.endpoint_url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )


async def _body(client: Any, bucket: str, key: str) -> bytes:
    found = await client.get_object(Bucket=bucket, Key=key)
    body: bytes = await found["Body"].read()
    return body


async def _refused(put: Any) -> bool:
    with pytest.raises(ClientError) as refused:
        await put
    return bool(refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412)


# ------------------------------------------------------------------------------------------------ Kubernetes


async def test_a_job_runs_and_goes_with_its_pods(kubernetes_client: ApiClient, namespace: str) -> None:
    batch, core = BatchV1Api(kubernetes_client), CoreV1Api(kubernetes_client)
    uid = (await batch.create_namespaced_job(namespace, _job("work"))).metadata.uid
    await _until(lambda: _phases(core, namespace), ["Running"])
    await batch.delete_namespaced_job(
        "work",
        namespace,
        body=V1DeleteOptions(propagation_policy="Foreground", preconditions=V1Preconditions(uid=uid)),
    )
    await _until(lambda: _phases(core, namespace), [])
    assert (await batch.list_namespaced_job(namespace)).items == []


async def test_an_api_server_killed_comes_back_and_one_that_is_down_stays_away(
    kubernetes: Cluster, kubernetes_client: ApiClient, namespace: str
) -> None:
    version, core = VersionApi(kubernetes_client), CoreV1Api(kubernetes_client)
    await kubernetes.ctl("kill", "apiserver")
    await _until(lambda: _answers(version), True)
    await kubernetes.ctl("down", "apiserver")
    await asyncio.sleep(1)
    assert not await _answers(version)
    await kubernetes.ctl("start", "apiserver")
    await _until(lambda: _answers(version), True)
    assert (await core.read_namespace(namespace)).status.phase == "Active"


def _job(name: str) -> V1Job:
    command = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    pod = V1PodSpec(restart_policy="Never", containers=[V1Container(name="main", image="any", command=command)])
    return V1Job(metadata=V1ObjectMeta(name=name), spec=V1JobSpec(template=V1PodTemplateSpec(spec=pod)))


async def _phases(core: CoreV1Api, namespace: str) -> list[str]:
    return [pod.status.phase for pod in (await core.list_namespaced_pod(namespace)).items]


async def _answers(version: VersionApi) -> bool:
    try:
        await version.get_code(_request_timeout=2)
    except (OSError, TimeoutError):  # aiohttp's errors of connections are of the former's kind
        return False
    return True


async def _until(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    async with asyncio.timeout(30):
        while (await ask()) != wanted:  # noqa: ASYNC110  # it happens in another process
            await asyncio.sleep(0.05)


# ------------------------------------------------------------------------------------------------ leftovers, left out


def test_what_a_killed_run_left_is_removed_and_what_runs_stays(s3: ObjectStore) -> None:
    other = (
        "import time; from tests.services.object_store import ObjectStore\n"
        "with ObjectStore() as store: print(store.endpoint_url, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", other], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        container.remove_leftovers()
        assert _listens(url), "its run goes on"
        run.kill()
    container.remove_leftovers()
    assert not _listens(url)
    assert _listens(s3.endpoint_url)


@pytest.mark.parametrize("required", [False, True])
def test_without_an_image_tests_are_left_out_with_a_line_or_fail_where_required(required: bool) -> None:
    environment = {**os.environ, images.S3.variable: "verdict-worker/absent:1", "REQUIRE_SERVICES": str(int(required))}
    selected = "test_one_of_two_conditional_puts_wins"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", selected, __file__],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if required:
        assert ran.returncode == pytest.ExitCode.TESTS_FAILED
        assert "no image verdict-worker/absent:1: make services" in ran.stdout
    else:
        assert ran.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
        assert "tier integration: 1 tests left out, no image of s3 here (make services)" in ran.stdout


def _listens(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
