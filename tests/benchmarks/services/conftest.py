"""Real servers for benchmarks: one broker and one object store behind a proxy, for the whole run.

Their figures go to a file of their own, beside that of `make bench`: .bench/<commit>-services.json.
"""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import botocore.session
import pytest
from botocore.config import Config

from tests.benchmarks.conftest import ROOT
from tests.benchmarks.report import Report, reporting
from tests.benchmarks.services.fleet import Fleet
from tests.integration.proxy import Proxy
from tests.integration.s3_world import settings_of
from tests.services import container, engine, images
from tests.services.broker import Broker
from tests.services.cluster import Cluster
from tests.services.object_store import ObjectStore


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    with reporting(ROOT, "-services") as collected:
        yield collected


@pytest.fixture(scope="session")
def _engine() -> None:
    """Nothing is left of runs that were killed."""
    wanted = (images.KAFKA, images.S3, images.KUBERNETES)
    if not engine.answers() or not all(map(images.exists, wanted)):
        pytest.fail("no Docker engine, or an image is missing: make services")
    container.remove_leftovers()


@pytest.fixture(scope="session")
def kafka(_engine: None) -> Iterator[Broker]:
    """Topics carry the broker's time: what is measured between two records is not a client's clock."""
    with Broker({"log.message.timestamp.type": "LogAppendTime"}) as broker:
        yield broker


@pytest.fixture(scope="session")
def s3(_engine: None) -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        yield store


@pytest.fixture
def kubernetes(_engine: None, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def proxy(s3: ObjectStore) -> AsyncIterator[Proxy]:
    """What workers reach the object store through."""
    async with Proxy(s3.endpoint_url) as between:
        yield between


@pytest.fixture
def bucket(s3: ObjectStore) -> str:
    """An empty bucket that no other benchmark has."""
    name = f"bench-{secrets.token_hex(4)}"
    client = botocore.session.get_session().create_client(
        "s3",
        region_name=s3.region,
        endpoint_url=s3.endpoint_url,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name


@pytest.fixture
async def fleet(kafka: Broker, s3: ObjectStore, bucket: str, proxy: Proxy, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Nobody is hired yet."""
    async with Fleet(kafka, settings_of(s3, bucket), proxy, tmp_path) as hired:
        yield hired
