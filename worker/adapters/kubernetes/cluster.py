"""One request to the cluster: its answer or one of our errors; pages of a list, and a watch.

    2xx, 404, 409   answered: what they mean depends on the request
    401             the credentials are loaded again, once; Refused where the fresh ones are not known either
    403             Refused, with the cluster's reason
    anything else   Unavailable: other statuses (with Retry-After), no connection, lost, time-out, no JSON

A 404 or 409 counts only where it says that it comes from an API server: a proxy's "not found" is no proof of anything.
Knows nothing of Jobs.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from aiohttp import ClientError, ClientTimeout
from kubernetes_asyncio.client import ApiClient, ApiException
from kubernetes_asyncio.config import ConfigException

from worker.adapters.http import retry_after_seconds
from worker.adapters.kubernetes.connection import Connect
from worker.errors import Misconfigured, Refused, Unavailable

PAGE_ITEMS = 500
WATCH_SECONDS = 240
JSON = "application/json"
METADATA = "application/json;as={};g=meta.k8s.io;v=v1, application/json"
REASONS = {404: "NotFound", 409: "Conflict"}
REASON_CHARACTERS_MAX = 500
Object = dict[str, Any]
"""An object of the API, or a list of them, as decoded JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status that means "answered" (2xx, 404, 409), and the object that came with it."""

    status: int
    body: Object


class Unauthorized(Exception):
    """401: these credentials are not known, any more or yet."""


class Cluster:
    """One long-lived client; another takes its place only when its credentials are refused."""

    def __init__(self, connect: Connect, *, connect_timeout_seconds: float, request_timeout_seconds: float) -> None:
        self._connect = connect
        self._connect_timeout_seconds = connect_timeout_seconds
        self._timeout = self._within(request_timeout_seconds)
        self._api: ApiClient | None = None
        self._retired: ApiClient | None = None
        self._reloading = asyncio.Lock()

    async def start(self) -> None:
        """Load the credentials; nothing is sent.  Raises Misconfigured."""
        if self._api is None:
            self._api = await self._connect()

    async def stop(self) -> None:
        """Close; tolerates stop before start and a second stop."""
        open_ones, self._api, self._retired = (self._api, self._retired), None, None
        for api in open_ones:
            if api is not None:
                await api.close()

    async def call(
        self,
        method: Literal["GET", "DELETE"],
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        accept: str = JSON,
    ) -> Answer:
        """Ask once, twice where the credentials were rotated.  Raises Refused, Unavailable."""
        request = {
            "resource_path": path,
            "method": method,
            "query_params": list((query or {}).items()),
            "header_params": {"Accept": accept, "Content-Type": JSON},
            "body": body,
            "response_types_map": {200: "object", 201: "object", 202: "object"},
            "auth_settings": ["BearerToken"],
        }
        api = self._current()
        try:
            return await self._once(api, request)
        except Unauthorized:
            fresh = await self._reload(api)
        try:
            return await self._once(fresh, request)
        except Unauthorized as error:
            raise Refused(f"the cluster does not know this worker's credentials: {error}") from error

    async def list(self, path: str, *, labels: str = "", fields: str = "", whole: bool = True) -> list[Object]:
        """All objects of a collection that the selectors match, read consistently, page by page.

        Where they are not wanted `whole`, only their metadata.
        """
        accept = JSON if whole else METADATA.format("PartialObjectMetadataList")
        query = {"limit": str(PAGE_ITEMS)}
        query |= {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        found: list[Object] = []
        while True:
            answer = await self.call("GET", path, query=query, accept=accept)
            if answer.status == 404:
                return []
            found += _items(answer.body)
            following = answer.body["metadata"].get("continue")
            if not following:
                return found
            query["continue"] = following

    @asynccontextmanager
    async def watch(self, path: str, *, labels: str = "") -> AsyncIterator[AsyncIterator[Object]]:
        """The metadata of what changes from now on in a collection, until the server ends it.

        It may end at any time, with Unavailable or without: whoever needs to know looks afresh, and watches again.
        Raises Refused.
        """
        query = {"labelSelector": labels} if labels else {}
        accept = METADATA.format("PartialObjectMetadataList")
        start = await self.call("GET", path, query=query | {"limit": "1"}, accept=accept)
        _items(start.body)
        version = str(start.body["metadata"].get("resourceVersion", ""))
        query |= {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
        api = self._current()
        try:
            response = await api.call_api(
                path,
                "GET",
                query_params=list(query.items()),
                header_params={"Accept": METADATA.format("PartialObjectMetadata")},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=self._within(WATCH_SECONDS + 10.0),
            )
            async with response:
                if response.status != 200:
                    raise Unavailable(f"the cluster answers a watch with HTTP {response.status}")
                yield _changes(response.content)
        except (ClientError, OSError, ValueError, ConfigException) as error:
            _lost(error)

    async def _once(self, api: ApiClient, request: Mapping[str, Any]) -> Answer:
        try:
            body, status, _ = await api.call_api(**request, _request_timeout=self._timeout)
        except ApiException as error:
            return _answered(error)
        except (ClientError, OSError, ValueError, ConfigException) as error:
            _lost(error)
        if not isinstance(body, dict):
            raise Unavailable(f"the cluster answered HTTP {status} with something that is no object")
        return Answer(status, body)

    async def _reload(self, refused: ApiClient) -> ApiClient:
        """A client with the credentials as they are now; who comes later takes the one that the first has made.

        What is still under way over the old one may end there; it is closed when the next one is retired.
        """
        async with self._reloading:
            current = self._current()
            if current is not refused:
                return current
            try:
                fresh = await self._connect()
            except Misconfigured as error:  # such as a file that is being replaced
                raise Unavailable(f"credentials cannot be loaded again: {error}") from error
            oldest, self._retired, self._api = self._retired, refused, fresh
            if oldest is not None:
                await oldest.close()
            return fresh

    def _current(self) -> ApiClient:
        if self._api is None:
            raise Unavailable("the connection to the cluster is not open")
        return self._api

    def _within(self, seconds: float) -> ClientTimeout:
        return ClientTimeout(total=seconds, sock_connect=self._connect_timeout_seconds)


def _items(body: Object) -> list[Object]:
    """The items of what must be a list of the API: an empty page of something else proves nothing."""
    items = body.get("items")
    if not str(body.get("kind", "")).endswith("List") or not isinstance(body.get("metadata"), dict):
        raise Unavailable("the cluster answered a list with something else")
    return list(items or [])


def _answered(error: ApiException) -> Answer:
    """What a status other than 2xx means; `error.body` is the Status object that an API server explains itself with."""
    status: Object = {}
    with suppress(ValueError, TypeError):
        decoded = json.loads(error.body or "")
        status = decoded if isinstance(decoded, dict) and decoded.get("kind") == "Status" else {}
    reason = str(status.get("message") or error.reason)[:REASON_CHARACTERS_MAX]
    if error.status in REASONS and status.get("reason") == REASONS[error.status]:
        return Answer(error.status, status)
    if error.status == 401:
        raise Unauthorized(reason) from error
    if error.status == 403:
        raise Refused(f"the cluster forbids it: {reason}") from error
    headers: Mapping[str, str] = error.headers or {}
    seconds = retry_after_seconds(headers.get("Retry-After"), headers.get("Date"))
    raise Unavailable(f"the cluster answered HTTP {error.status}: {reason}", retry_after_seconds=seconds) from error


async def _changes(lines: AsyncIterator[bytes]) -> AsyncIterator[Object]:
    async for line in lines:
        event = json.loads(line)
        if event["type"] == "ERROR":  # such as 410: the version to start from is too old
            raise Unavailable(f"the cluster ended a watch: {event['object'].get('message', 'without a reason')}")
        yield event["object"]


def _lost(error: Exception) -> NoReturn:
    """No answer.  aiohttp's errors are not chained: they may hold our request's headers."""
    if isinstance(error, TimeoutError):
        raise Unavailable("the cluster did not answer in time") from None
    what = getattr(error, "strerror", None) or type(error).__name__
    raise Unavailable(f"the cluster cannot be reached ({what})") from None
