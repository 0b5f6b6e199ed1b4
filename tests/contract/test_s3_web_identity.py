"""A pod's web identity is exchanged for a credential that expires: what requests carry, and when it is renewed.

Over moto, which takes any signature; what a request carries is looked at on its way.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
from aiohttp import web

from tests.contract.moto_server import create_bucket, moto_server
from tests.contract.suites.s3 import S3World
from tests.integration.proxy import Proxy
from worker.settings import S3Settings

ROLE = "arn:aws:iam::000000000000:role/verdict-worker"
GRANTED = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>key-{n}</AccessKeyId>
<SecretAccessKey>secret</SecretAccessKey><SessionToken>session-{n}</SessionToken><Expiration>{until}</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


async def test_requests_carry_what_was_granted_and_it_is_asked_for_again_with_the_token_as_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    token, requests = tmp_path / "token", list[bytes]()
    token.write_text("first")
    with moto_server() as moto:
        async with granting() as (url, identities), Proxy(moto) as proxy:
            proxy.alters = keeping(requests)
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
            monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
            monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
            settings = S3Settings(endpoint_url=proxy.url, bucket=f"b-{uuid4()}", region="eu-test-1")
            create_bucket(moto, settings.bucket)
            store = S3World(settings).store
            await store.start()
            assert set(identities) == {"first"}
            assert carried(requests[0]) == ("key-1", "eu-test-1", "session-1")
            token.write_text("rotated")
            await store.put("key", b"body")
            assert identities[-1] == "rotated"
            assert carried(requests[-1]) == (f"key-{len(identities)}", "eu-test-1", f"session-{len(identities)}")
            await store.stop()


def keeping(requests: list[bytes]) -> Callable[[bytes], bytes]:
    """Looks at each request on its way."""

    def keep(request: bytes) -> bytes:
        requests.append(request)
        return request

    return keep


def carried(request: bytes) -> tuple[str, str, str]:
    """-> the access key and the region of the signature, and the session's token, which the signature covers."""
    head = request.partition(b"\r\n\r\n")[0].decode()
    signed = re.search(r"Credential=([^/]+)/\d{8}/([^/]+)/s3/aws4_request, SignedHeaders=(\S+),", head)
    session = re.search(r"(?im)^x-amz-security-token: (\S+)", head)
    assert signed
    assert session
    assert {"host", "x-amz-security-token"} <= set(signed[3].split(";"))
    return signed[1], signed[2], session[1]


@asynccontextmanager
async def granting() -> AsyncIterator[tuple[str, list[str]]]:
    """A token service that grants for so short that it is asked again each time -> its URL, and the tokens it saw."""
    identities: list[str] = []

    async def grant(request: web.Request) -> web.Response:
        asked = parse_qs(await request.text())
        assert (asked["Action"], asked["RoleArn"]) == (["AssumeRoleWithWebIdentity"], [ROLE])
        identities.extend(asked["WebIdentityToken"])
        until = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
        return web.Response(text=GRANTED.format(n=len(identities), until=until), content_type="text/xml")

    app = web.Application()
    app.router.add_post("/", grant)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", identities
    finally:
        await runner.cleanup()
