"""One S3 client per process, configured so that no request is ever sent twice behind our back (facts, S1 and S7).

Knows the settings and the client library, and nothing of documents.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aioboto3 import Session
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp import ClientSession, DummyCookieJar

from worker.adapters.http import no_silent_replays
from worker.errors import Misconfigured
from worker.settings import S3Settings


class SingleRequests(AIOHTTPSession):  # type: ignore[misc]  # the library has no types
    """The library's HTTP session, with the middleware that keeps aiohttp from repeating a PUT or a DELETE unseen.

    `http_session_cls` is the library's way to put it in; the session itself is made in a method that it does not
    publish, so tests/integration/test_s3_lost_replies.py counts the requests.
    """

    async def _get_session(self, proxy_url: str | None) -> ClientSession:
        if proxy_url not in self._sessions:
            session = ClientSession(
                connector=self._create_connector(proxy_url),
                timeout=self._timeout,
                skip_auto_headers={"Content-Type"},
                auto_decompress=False,
                cookie_jar=DummyCookieJar(),
                trust_env=False,
                middlewares=(no_silent_replays,),
            )
            self._sessions[proxy_url] = await self._exit_stack.enter_async_context(session)
        kept: ClientSession = self._sessions[proxy_url]
        return kept


@asynccontextmanager
async def open_client(settings: S3Settings) -> AsyncIterator[Any]:
    """-> a context manager that gives the client.  Raises Misconfigured.

    Without access and secret key the library's default chain finds the credential (environment, profile, web
    identity, instance role) and renews it.
    """
    _check(settings)
    secret = settings.secret_key.get_secret_value()
    session = Session(
        aws_access_key_id=settings.access_key or None,
        aws_secret_access_key=secret or None,
        region_name=settings.region,
    )
    async with session.client(
        "s3",
        endpoint_url=settings.endpoint_url or None,
        verify=settings.ca_file or None,  # None: AWS_CA_BUNDLE, or the authorities that the library brings along
        config=_config(settings),
    ) as client:
        client.meta.events.register_last("before-call.s3", _send_at_once)
        yield client


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Without asking first whether the body is welcome: that is a round trip per PUT, and no time-out bounds it."""
    params["headers"].pop("Expect", None)


def _config(settings: S3Settings) -> AioConfig:
    """All of it at once: `AioConfig.merge()` silently drops the session class."""
    return AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": "path" if settings.path_style else "virtual"},
        max_pool_connections=settings.connections_max,
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},  # who repeats must know whether it may
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={},  # requests go to the endpoint, as those of every adapter here: no proxy from the environment
        http_session_cls=SingleRequests,
    )


def _check(settings: S3Settings) -> None:
    """What one field alone cannot know."""
    if not settings.bucket:
        raise Misconfigured("WORKER_S3__BUCKET: must be set")
    if settings.access_key and not settings.secret_key.get_secret_value():
        raise Misconfigured("WORKER_S3__SECRET_KEY: must be set, as WORKER_S3__ACCESS_KEY is")
    if settings.secret_key.get_secret_value() and not settings.access_key:
        raise Misconfigured("WORKER_S3__ACCESS_KEY: must be set, as WORKER_S3__SECRET_KEY is")
    if settings.encryption_key_id and settings.encryption != "aws:kms":
        raise Misconfigured("WORKER_S3__ENCRYPTION_KEY_ID: only goes with WORKER_S3__ENCRYPTION=aws:kms")
    if settings.ca_file and not Path(settings.ca_file).is_file():
        raise Misconfigured(f"WORKER_S3__CA_FILE: there is no file {settings.ca_file}")
