"""The bucket in the host name, which the signature covers: a server that checks it, below a domain of its own."""

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest

from tests.integration.proxy import Proxy
from tests.integration.s3_world import world_of
from tests.services.object_store import ObjectStore
from worker.ports import Stored

DOMAIN = "s3.test"


@pytest.fixture(scope="module")
def virtual() -> Iterator[ObjectStore]:
    with ObjectStore(DOMAIN) as server:
        yield server


@pytest.fixture
def bucket(virtual: ObjectStore) -> str:
    name = f"test-{secrets.token_hex(4)}"
    keys = {"aws_access_key_id": virtual.access_key, "aws_secret_access_key": virtual.secret_key}
    client = botocore.session.get_session().create_client(
        "s3", region_name=virtual.region, endpoint_url=virtual.endpoint_url, **keys
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name


async def test_documents_are_below_the_bucket_s_own_host_name(
    virtual: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(virtual.endpoint_url) as proxy:
        heads: list[bytes] = []
        proxy.alters = keeping(heads)
        port = proxy.url.rpartition(":")[2]
        resolve_the_domain(monkeypatch)
        store = world_of(virtual, bucket, endpoint_url=f"http://{DOMAIN}:{port}", path_style=False, prefix="v/").store
        await store.start()
        version = await store.create("a/key", b"body")
        assert await store.load("a/key") == Stored(b"body", version)
        assert await store.list("a/") == ["a/key"]
        await store.delete(["a/key"])
        await store.stop()
    host = f"host: {bucket}.{DOMAIN}:{port}".encode()
    assert all(host in head for head in heads)
    assert ("PUT", "/v/a/key") in proxy.requests
    assert not any(bucket in path for _, path in proxy.requests)


def keeping(heads: list[bytes]) -> Callable[[bytes], bytes]:
    """Looks at each request on its way."""

    def keep(request: bytes) -> bytes:
        heads.append(request.partition(b"\r\n\r\n")[0].lower())
        return request

    return keep


def resolve_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a name server would say of all names below it: this machine."""
    loop = asyncio.get_running_loop()
    ask = loop.getaddrinfo

    async def answer(host: str, port: int, **how: Any) -> Any:
        return await ask("127.0.0.1" if host.endswith(f".{DOMAIN}") else host, port, **how | {"family": socket.AF_INET})

    monkeypatch.setattr(loop, "getaddrinfo", answer)
