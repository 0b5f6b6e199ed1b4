"""The API client as the adapter uses it: `call_api` of kubernetes_asyncio, its answers and its errors.

A client belongs to the process that connects.  It repeats nothing by itself (facts, N5), and its token may be rotated
under it.  What a request means is not known here.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Protocol, cast

from aiohttp import ClientConnectorError, ClientPayloadError, ClientTimeout
from aiohttp.client_reqrep import ConnectionKey
from kubernetes_asyncio.client import ApiException
from multidict import CIMultiDict

from worker.simulation.kubernetes.objects import Json
from worker.simulation.kubernetes.registry import Watch
from worker.simulation.process import Process
from worker.simulation.service import Service
from worker.simulation.world import current

HOST = "kubernetes.test"
KEY = ConnectionKey(HOST, 443, True, True, None, None, None)
PHRASES = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 429: "Too Many Requests"}


@dataclass(slots=True)
class Credential:
    """A client's token; `known` until it is rotated."""

    known: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """What arrives; `process` None: from outside."""

    process: Process | None
    credential: Credential
    method: str
    path: str
    query: Mapping[str, str]
    accept: str
    body: Json

    @property
    def who(self) -> str:
        return self.process.name if self.process else "world"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and what comes with it: an object, plain text, or a stream."""

    status: int
    body: Json | str | Watch
    retry_after: str | None = None


class Server(Protocol):
    """The server's part."""

    @property
    def service(self) -> Service: ...

    def arrive(self, request: Request) -> Answer:
        """Raises ClientPayloadError where the reply is lost."""


class ApiClient:
    """As much of `kubernetes_asyncio.client.ApiClient` as the adapter uses."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process = current()
        self._credential = Credential()
        self._closed = False

    async def call_api(
        self,
        resource_path: str,
        method: str,
        *,
        query_params: Sequence[tuple[str, str]] = (),
        header_params: Mapping[str, str] | None = None,
        body: Json | None = None,
        response_types_map: Mapping[int, str] | None = None,
        auth_settings: Sequence[str] = (),
        _preload_content: bool = True,
        _request_timeout: ClientTimeout | None = None,
    ) -> Any:
        """-> object, status, headers; or, not preloaded, a response whatever its status.

        Raises ApiException, aiohttp's errors, TimeoutError.
        """
        if self._closed:
            raise RuntimeError("Session is closed")
        accept = (header_params or {}).get("Accept", "application/json")
        credential = self._credential if "BearerToken" in auth_settings else Credential(known=False)
        request = Request(self._process, credential, method, resource_path, dict(query_params), accept, body or {})
        detail = " ".join(f"{name}={value}" for name, value in query_params) + (f" {json.dumps(body)}" if body else "")
        timeout_seconds = _request_timeout.total if _request_timeout else None
        async with asyncio.timeout(timeout_seconds):
            answer = await self._server.service.call(
                f"{method} {resource_path}",
                lambda: self._server.arrive(request),
                detail,
                refused=refused,
                broken=lost,
            )
        headers = CIMultiDict({"Retry-After": answer.retry_after} if answer.retry_after else {})
        if not _preload_content:
            return Response(answer)
        if not 200 <= answer.status < 300:
            raise _exception(answer, headers)
        return answer.body, answer.status, headers

    async def close(self) -> None:
        self._closed = True


class Response:
    """An answer of which only the head was read; entered, `content` gives it line by line."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self._watch = answer.body if isinstance(answer.body, Watch) else None

    @property
    def content(self) -> Watch:
        assert self._watch is not None, "the head says that there is no stream"
        return self._watch

    async def __aenter__(self) -> "Response":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.end()


def refused() -> ClientConnectorError:
    """Nobody listens."""
    return ClientConnectorError(KEY, ConnectionRefusedError(111, f"Connect call failed ('{HOST}', 443)"))


def lost() -> ClientPayloadError:
    """The connection broke after it stood, as the adapter's middleware says it."""
    return ClientPayloadError("connection lost, the request may have been applied")


class _Failure(NamedTuple):
    """What the library makes its exception from."""

    status: int
    reason: str
    data: str
    headers: "CIMultiDict[str]"

    def getheaders(self) -> "CIMultiDict[str]":
        return self.headers


def _exception(answer: Answer, headers: "CIMultiDict[str]") -> ApiException:
    data = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    return ApiException(http_resp=cast(Any, _Failure(answer.status, PHRASES.get(answer.status, ""), data, headers)))
