"""The store on MinIO: the same contract, over plain and encrypted buckets, which the server of CI cannot have.

Not part of the tiers, for its name is none that pytest looks for: `make second-opinion` builds the server once per
machine, and names this file.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from tests.contract.suites.s3 import S3World
from tests.contract.suites.store import StoreContract, World
from tests.integration.s3_world import settings_of
from tests.services import minio
from tests.services.minio import Minio
from worker.errors import Conflict, Misconfigured

SSE_S3 = {"SSEAlgorithm": "AES256"}
SSE_KMS = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": Minio.key_id}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    if not minio.binary().is_file():
        pytest.fail("no MinIO here: make second-opinion")
    with Minio(tmp_path_factory.mktemp("minio")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: Minio) -> Iterator[Any]:
    """Makes buckets, and says of an object how it is stored."""
    client = botocore.session.get_session().create_client(
        "s3",
        region_name=server.region,
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )
    yield client
    client.close()


def bucket_of(admin: Any, default: dict[str, str] | None = None) -> str:
    """A bucket of its own; `default` encrypts what is put into it."""
    name = f"test-{secrets.token_hex(4)}"
    admin.create_bucket(Bucket=name)
    if default:
        rules = [{"ApplyServerSideEncryptionByDefault": default}]
        admin.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": rules})
    return name


async def started(world: S3World) -> AsyncIterator[S3World]:
    await world.store.start()
    yield world
    await world.store.stop()


class TestPlain(StoreContract):
    @pytest.fixture
    async def world(self, server: Minio, admin: Any) -> AsyncIterator[World]:
        async for world in started(S3World(settings_of(server, bucket_of(admin), prefix="verdicts/"))):
            yield world


class TestEncryptedBucket(StoreContract):
    @pytest.fixture
    async def world(self, server: Minio, admin: Any) -> AsyncIterator[World]:
        async for world in started(S3World(settings_of(server, bucket_of(admin, SSE_S3)))):
            yield world


class TestEncryptionAskedFor(StoreContract):
    @pytest.fixture
    async def world(self, server: Minio, admin: Any) -> AsyncIterator[World]:
        async for world in started(S3World(settings_of(server, bucket_of(admin), encryption="AES256"))):
            yield world


@pytest.mark.parametrize(
    ("default", "asked", "reported"),
    [
        (None, {}, None),
        (SSE_S3, {}, "AES256"),
        (SSE_KMS, {}, "aws:kms"),
        (None, {"encryption": "AES256"}, "AES256"),
        (None, {"encryption": "aws:kms", "encryption_key_id": Minio.key_id}, "aws:kms"),
        (SSE_S3, {"encryption": "aws:kms", "encryption_key_id": Minio.key_id}, "aws:kms"),
    ],
    ids=["plain", "bucket", "bucket-kms", "setting", "setting-kms", "setting-over-bucket"],
)
async def test_a_document_is_stored_as_bucket_and_setting_say(
    server: Minio, admin: Any, default: dict[str, str] | None, asked: dict[str, str], reported: str | None
) -> None:
    bucket = bucket_of(admin, default)
    async for world in started(S3World(settings_of(server, bucket, **asked))):
        version = await world.store.create("workflows/1.json", b"first")
        second = await world.store.replace("workflows/1.json", b"second", version)
        with pytest.raises(Conflict):
            await world.store.replace("workflows/1.json", b"third", version)
        await world.store.put("blobs/1", b"blob")
        stored = await world.store.load("workflows/1.json")
        assert stored
        assert (stored.body, stored.version) == (b"second", second)
        for key in ("workflows/1.json", "blobs/1"):
            head = await asyncio.to_thread(admin.head_object, Bucket=bucket, Key=key)
            assert head.get("ServerSideEncryption") == reported


async def test_a_key_that_the_server_does_not_have_is_told_at_the_start(server: Minio, admin: Any) -> None:
    settings = settings_of(server, bucket_of(admin), encryption="aws:kms", encryption_key_id="another")
    with pytest.raises(Misconfigured, match=r"^WORKER_S3__ENCRYPTION_KEY_ID: there is no such key"):
        await S3World(settings).store.start()
