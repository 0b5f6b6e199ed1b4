"""The real servers, each started when the first test asks for it, and what is fresh for every test.

Servers live as long as the test run; after each test those that it killed or paused run again.  `make services` makes
their images.  Knows nothing of the worker.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from kubernetes_asyncio.client import ApiClient, CoreV1Api, V1Namespace, V1ObjectMeta
from kubernetes_asyncio.config import new_client_from_config

from tests.services import container, engine, images
from tests.services.broker import Broker
from tests.services.cluster import Cluster
from tests.services.container import Server
from tests.services.object_store import ObjectStore

SERVERS = {"kafka": images.KAFKA, "s3": images.S3, "kubernetes": images.KUBERNETES}
"""Fixtures of servers, and the image that each is made from."""
LEFT_OUT = pytest.StashKey[tuple[int, set[str]]]()
"""How many tests were left out, and the servers that they wanted."""


# ------------------------------------------------------------------------------------------------ Kafka


@pytest.fixture(scope="session")
def kafka(_running: dict[str, Server]) -> Iterator[Broker]:
    """`bootstrap_servers`; `await kafka.kill()`, `start()`, `stop()`, `pause()`, `unpause()`."""
    _require(images.KAFKA)
    with Broker() as broker:
        _running["kafka"] = broker
        yield broker


@pytest.fixture
def topic_prefix() -> str:
    """For topics that no other test has."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def group() -> str:
    """A consumer group that no other test has."""
    return f"group-{secrets.token_hex(4)}"


# ------------------------------------------------------------------------------------------------ S3


@pytest.fixture(scope="session")
def s3(_running: dict[str, Server]) -> Iterator[ObjectStore]:
    """`endpoint_url`, `access_key`, `secret_key`, `region`; `await s3.kill()`, `start()`, ... as for Kafka."""
    _require(images.S3)
    with ObjectStore() as store:
        _running["s3"] = store
        yield store


@pytest.fixture(scope="session")
def _s3_client(s3: ObjectStore) -> Iterator[Any]:
    """Makes buckets; one for all tests, since making it takes longer than all that it does."""
    client = botocore.session.get_session().create_client(
        "s3",
        region_name=s3.region,
        endpoint_url=s3.endpoint_url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )
    yield client
    client.close()


@pytest.fixture
def bucket(_s3_client: Any) -> str:
    """An empty bucket that no other test has."""
    name = f"test-{secrets.token_hex(4)}"
    _s3_client.create_bucket(Bucket=name)
    return name


# ------------------------------------------------------------------------------------------------ Kubernetes


@pytest.fixture(scope="session")
def kubernetes(_running: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`kubeconfig` (a path), `url`; `await kubernetes.ctl("kill", "apiserver")`; `kill()`, ... as for Kafka."""
    _require(images.KUBERNETES)
    with Cluster(tmp_path_factory.mktemp("kubernetes")) as cluster:
        _running["kubernetes"] = cluster
        yield cluster


@pytest.fixture
async def kubernetes_client(kubernetes: Cluster) -> AsyncIterator[ApiClient]:
    """An administrator's, of kubernetes_asyncio."""
    async with await new_client_from_config(config_file=str(kubernetes.kubeconfig)) as client:
        yield client


@pytest.fixture
async def namespace(kubernetes: Cluster, kubernetes_client: ApiClient) -> AsyncIterator[str]:
    """A namespace that no other test has, ready for pods.  It goes after the test, which nobody waits for."""
    core = CoreV1Api(kubernetes_client)
    name = f"test-{secrets.token_hex(4)}"
    await core.create_namespace(V1Namespace(metadata=V1ObjectMeta(name=name)))
    async with asyncio.timeout(60):
        # Without its account pods are refused, and the Job controller takes its time before it tries again.
        while not (await core.list_namespaced_service_account(name)).items:  # noqa: ASYNC110  # elsewhere, no event
            await asyncio.sleep(0.02)
    yield name
    await kubernetes.start()  # the test may have ended in the middle of an outage
    await core.delete_namespace(name)


# ------------------------------------------------------------------------------------------------ all of them


@pytest.fixture(scope="session")
def _running() -> dict[str, Server]:
    """Those that were started, by fixture; nothing is left of test runs that were killed."""
    if not engine.answers():
        pytest.fail("no Docker engine answers: make services")
    container.remove_leftovers()
    return {}


@pytest.fixture(autouse=True)
def _revived(request: pytest.FixtureRequest) -> Iterator[None]:
    """What one test killed or paused is there for the next."""
    asked_for = SERVERS.keys() & set(request.fixturenames)
    running = request.getfixturevalue("_running") if asked_for else {}
    yield
    for name in asked_for & running.keys():
        running[name].revive()


def _require(image: images.Image) -> None:
    if not images.exists(image):
        pytest.fail(f"no image {image.tag}: make services")


@pytest.hookimpl(trylast=True)  # what -k and -m leave out is not for us to report
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where nobody requires them, tests without their server are left out, and said to be so."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        return
    wanted = {item: SERVERS.keys() & set(getattr(item, "fixturenames", ())) for item in items}
    missing = {name for name in set().union(*wanted.values()) if not images.exists(SERVERS[name])}
    left_out = [item for item in items if wanted[item] & missing]
    if left_out:
        items[:] = [item for item in items if not wanted[item] & missing]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = (len(left_out), missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count, missing = config.stash.get(LEFT_OUT, (0, set()))
    if count:
        terminalreporter.write_line(
            f"tier integration: {count} tests left out, no image of {', '.join(sorted(missing))} here (make services)"
        )
