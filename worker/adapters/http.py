"""HTTP as every adapter here uses it: one session, time-outs, no silent replays, answers limited in size.

Knows aiohttp and nothing of what is said over it.  Nobody's credential ever stands in an error: a message names the
other side by the name that the settings give it, quotes at most a line of what it answered, and blots out the secret.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientHandlerType,
    ClientOSError,
    ClientPayloadError,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
)
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from pydantic_core import to_json

from worker.errors import Refused, Unavailable

CONNECT_TIMEOUT_SECONDS = 2.0
KEEPALIVE_TIMEOUT_SECONDS = 15.0
RETRY_AFTER_MAX_SECONDS = 3600.0
QUOTED_CHARACTERS_MAX = 200


async def no_silent_replays(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Client middleware: a connection that broke after it stood is an error, never a second request.

    aiohttp repeats GET, PUT and DELETE once, unseen, after ClientOSError or ServerDisconnectedError (facts, S1); the
    first may have been applied.  A payload error is not repeated.  Errors of connecting sent nothing and stay.
    """
    try:
        return await handler(request)
    except ClientConnectorError:
        raise
    except (ClientOSError, ServerDisconnectedError) as error:
        raise ClientPayloadError(f"connection lost, the request may have been applied: {error}") from error


def open_session(*, connections_max: int = 100) -> ClientSession:
    """A session for one adapter; needs a running loop, and is closed by whoever opened it."""
    return ClientSession(
        connector=TCPConnector(limit=connections_max, limit_per_host=0, keepalive_timeout=KEEPALIVE_TIMEOUT_SECONDS),
        timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS),  # the whole is bounded per request
        middlewares=(no_silent_replays,),
        cookie_jar=DummyCookieJar(),
        trust_env=False,  # no proxy and no netrc credentials from the environment
        auto_decompress=False,  # "identity" is asked for: a compressed answer is garbage, and never a bomb
        raise_for_status=False,
    )


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("must be an http or https URL without a fragment")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password: give the credential as its own setting")
    return value


def _header_safe(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text or not all("!" <= character <= "~" for character in text):
        raise ValueError("must be 1 or more printable ASCII characters without blanks")
    return value


class Endpoint(BaseModel):
    """Where somebody is reached, and with which credential; nested in the settings as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_http_url)]
    """http or https, without user and password."""
    credential: Annotated[SecretStr, AfterValidator(_header_safe)] | None = None
    """Sent as `{credential_scheme} {credential}` in the header `credential_header`; none: no such header."""
    credential_header: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")] = "Authorization"
    """Name of the header that carries the credential."""
    credential_scheme: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{0,32}$")] = "Bearer"
    """Word before the credential; empty: the credential alone."""

    def headers(self) -> dict[str, str]:
        """The header with the credential, or none."""
        if self.credential is None:
            return {}
        secret = self.credential.get_secret_value()
        return {self.credential_header: f"{self.credential_scheme} {secret}".lstrip()}

    def quote(self, text: str) -> str:
        """One bounded line of what the other side said, without our credential in it."""
        if self.credential is not None:
            text = text.replace(self.credential.get_secret_value(), "***")
        line = " ".join("".join(c if c.isprintable() else " " for c in text[:4096]).split())
        return line if len(line) <= QUOTED_CHARACTERS_MAX else line[:QUOTED_CHARACTERS_MAX] + "..."


class TimedEndpoint(Endpoint):
    """An endpoint with the bound of one call."""

    timeout_seconds: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 10.0
    """Bound of one call, connecting and reading included."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status that means "answered", and a whole body within the limit."""

    status: int
    body: bytes


async def post_json(
    session: ClientSession,
    who: str,
    endpoint: Endpoint,
    url: str,
    body: Mapping[str, Any],
    *,
    timeout_seconds: float,
    answer_bytes_max: int,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """POST once; -> 2xx, or a 4xx that the caller has to read.

    Raises Refused (401, 403) and Unavailable: no connection, lost, time-out, 3xx (redirects are not followed), 408,
    429 (with what it asked for in Retry-After), 5xx, an answer above the limit.  `who` names the other side.
    """
    sent = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        **(headers or {}),
        **endpoint.headers(),
    }
    # What aiohttp raises is not chained: it may hold our request's headers, or quote what the other side sent.
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            session.post(url, data=to_json(body), headers=sent, allow_redirects=False) as response,
        ):
            _raise_for(response, who)
            return Answer(response.status, await _read(response, answer_bytes_max, who))
    except ConnectionTimeoutError:
        raise Unavailable(f"{who} cannot be reached (no connection within {CONNECT_TIMEOUT_SECONDS:g} s)") from None
    except TimeoutError:
        raise Unavailable(f"{who} did not answer within {timeout_seconds:g} s") from None
    except ClientResponseError as error:
        raise Unavailable(f"{who} answered with something that is no HTTP ({type(error).__name__})") from None
    except ClientConnectorError as error:
        raise Unavailable(f"{who} cannot be reached ({error.strerror or type(error).__name__})") from None
    except (ClientError, OSError) as error:
        raise Unavailable(f"{who}: the connection broke ({type(error).__name__})") from None


def _raise_for(response: ClientResponse, who: str) -> None:
    status = response.status
    if status in (401, 403):
        raise Refused(f"{who} refuses this worker's credential (HTTP {status})")
    if 300 <= status < 400:
        raise Unavailable(f"{who} answered with a redirect (HTTP {status}), which is never followed")
    if status in (408, 429) or status >= 500:
        seconds = retry_after_seconds(response.headers.get("Retry-After"), response.headers.get("Date"))
        raise Unavailable(f"{who} answered HTTP {status}", retry_after_seconds=seconds)


def retry_after_seconds(value: str | None, answered_at: str | None) -> float | None:
    """Seconds, or an HTTP date, which counts from the answer's own `Date`: nobody's clocks are compared.

    None where either is absent or unreadable; at most an hour.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_MAX_SECONDS)
    try:
        seconds = (_moment(text) - _moment(answered_at or "")).total_seconds()
    except ValueError:
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)


def _moment(date: str) -> datetime:
    """Raises ValueError."""
    moment = parsedate_to_datetime(date)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def _read(response: ClientResponse, bytes_max: int, who: str) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_chunked(65536):
        size += len(part)
        if size > bytes_max:
            response.close()
            raise Unavailable(f"{who} answered with more than {bytes_max} bytes")
        parts.append(part)
    return b"".join(parts)
