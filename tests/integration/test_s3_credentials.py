"""Without keys in the settings the library's chain finds a credential, and the server takes what is signed with it.

A credential with a session token this server refuses: tests/contract/test_s3_web_identity.py has one.
"""

from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.integration.s3_world import world_of
from tests.services.object_store import ObjectStore
from worker.errors import Misconfigured
from worker.ports import DocumentStore, Stored


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
        "SESSION_TOKEN",
        "PROFILE",
        "ROLE_ARN",
        "WEB_IDENTITY_TOKEN_FILE",
    ):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))


def keyless(s3: ObjectStore, bucket: str) -> DocumentStore:
    return world_of(s3, bucket, access_key="", secret_key=SecretStr("")).store


async def writes_and_reads(store: DocumentStore) -> None:
    await store.start()
    try:
        version = await store.create("key", b"body")
        assert await store.load("key") == Stored(b"body", version)
    finally:
        await store.stop()


async def test_a_credential_of_the_environment_is_used(
    s3: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    await writes_and_reads(keyless(s3, bucket))


async def test_a_credential_of_the_profile_in_a_shared_file_is_used(
    s3: ObjectStore, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "credentials"
    shared.write_text(f"[ours]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_PROFILE", "ours")
    await writes_and_reads(keyless(s3, bucket))


async def test_where_nothing_is_found_the_setting_is_named(s3: ObjectStore, bucket: str) -> None:
    said = r"^WORKER_S3__ACCESS_KEY: not set, and the default chain finds no credential$"
    with pytest.raises(Misconfigured, match=said):
        await keyless(s3, bucket).start()


async def test_an_explicit_key_is_used_whatever_the_environment_says(
    s3: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    await writes_and_reads(world_of(s3, bucket).store)
