"""S3 for one test: a bucket of its own on the shared server."""

from typing import Any

from pydantic import SecretStr

from tests.contract.suites.s3 import S3World
from tests.services.minio import Minio
from tests.services.object_store import ObjectStore
from worker.settings import S3Settings


def settings_of(server: ObjectStore | Minio, bucket_name: str, **changed: Any) -> S3Settings:
    """The adapter's settings for this bucket, with some changed."""
    whole = {
        "endpoint_url": server.endpoint_url,
        "region": server.region,
        "bucket": bucket_name,
        "access_key": server.access_key,
        "secret_key": SecretStr(server.secret_key),
    }
    return S3Settings.model_validate(whole | changed)


def world_of(server: ObjectStore, bucket_name: str, **changed: Any) -> S3World:
    return S3World(settings_of(server, bucket_name, **changed))
