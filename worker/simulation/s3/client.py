"""The S3 client as the adapter uses it: aiobotocore's operations, the form of its answers, and its errors.

A client belongs to the process that opens it.  It repeats nothing by itself, as the adapter configures the real one
(facts, S1).  What a request meets on its way and at the server is not known here.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar

from aiohttp import ClientPayloadError
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from worker.settings import S3Settings
from worker.simulation.s3.objects import NoSuchKey, PreconditionFailed
from worker.simulation.service import Service
from worker.simulation.world import current

T = TypeVar("T")
MESSAGES = {
    304: ("304", "Not Modified"),
    404: ("NoSuchKey", "The specified key does not exist."),
    409: ("ConditionalRequestConflict", "A conflicting operation is in progress. Try again."),
    412: ("PreconditionFailed", "At least one of the preconditions you specified did not hold."),
    503: ("SlowDown", "Please reduce your request rate."),
}


class Found:
    """What a GET sends: the body as it comes, of which the end may be missing, and the ETag in its head."""

    __slots__ = ("body", "cut", "etag")

    def __init__(self, body: bytes, etag: str, *, cut: bool = False) -> None:
        self.body, self.etag, self.cut = body, etag, cut


class Refusal(Exception):
    """The server's answer is an error; `headers` in lower case, as the library gives them."""

    def __init__(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.headers = status, dict(headers or {})


class Server(Protocol):
    """The server's part: what a request does when it arrives.  Raises Refusal, ConnectionClosedError."""

    service: Service
    endpoint_url: str

    def put(self, who: str, key: str, body: bytes, if_match: str | None, if_none_match: str | None) -> str:
        """-> ETag."""

    def get(self, key: str, if_none_match: str | None) -> Found: ...

    def delete(self, who: str, keys: Sequence[str]) -> None: ...

    def list(self, prefix: str, after: str, limit: int) -> tuple[Sequence[str], bool]: ...


class Client:
    """Use as `async with`, which gives the client, as the library's session does."""

    def __init__(self, server: Server, settings: S3Settings) -> None:
        self._server, self._settings = server, settings
        process = current()
        self._who = process.name if process else "world"

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Connections are closed: nothing that a server would see."""

    # ------------------------------------------------------------------------------ the operations

    async def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803  # the library's names, here and below
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        IfMatch: str | None = None,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
        ServerSideEncryption: str | None = None,  # noqa: N803
        SSEKMSKeyId: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        condition = f"if match {IfMatch}" if IfMatch else f"if none match {IfNoneMatch}" if IfNoneMatch else ""
        etag = await self._send(
            "PUT",
            Bucket,
            Key,
            lambda: self._server.put(self._who, Key, Body, IfMatch, IfNoneMatch),
            f"{_hash(Body)} {condition}",
        )
        encryption = {"ServerSideEncryption": ServerSideEncryption} if ServerSideEncryption else {}
        key_id = {"SSEKMSKeyId": SSEKMSKeyId} if SSEKMSKeyId else {}
        return {**_head(200), "ETag": etag, **encryption, **key_id}

    async def get_object(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        condition = f"if none match {IfNoneMatch}" if IfNoneMatch else ""
        found = await self._send("GET", Bucket, Key, lambda: self._server.get(Key, IfNoneMatch), condition)
        return {**_head(200), "ETag": found.etag, "ContentLength": len(found.body), "Body": Body(found)}

    async def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        await self._send("DELETE", Bucket, Key, lambda: self._server.delete(self._who, [Key]))
        return _head(204)

    async def delete_objects(self, *, Bucket: str, Delete: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N803
        keys = [each["Key"] for each in Delete["Objects"]]
        await self._send("DELETE", Bucket, " ".join(keys), lambda: self._server.delete(self._who, keys))
        return _head(200)

    async def list_objects_v2(
        self,
        *,
        Bucket: str,  # noqa: N803
        Prefix: str = "",  # noqa: N803
        StartAfter: str = "",  # noqa: N803
        MaxKeys: int = 1000,  # noqa: N803
    ) -> dict[str, Any]:
        keys, more = await self._send(
            "LIST", Bucket, Prefix, lambda: self._server.list(Prefix, StartAfter, MaxKeys), f"after {StartAfter!r}"
        )
        page: dict[str, Any] = {**_head(200), "IsTruncated": more, "KeyCount": len(keys)}
        return page | ({"Contents": [{"Key": key} for key in keys]} if keys else {})  # no list, where nothing is

    # ------------------------------------------------------------------------------ on the way

    async def _send(self, operation: str, bucket: str, what: str, serve: Callable[[], T], detail: str = "") -> T:
        """One request, bounded as the settings say.  Raises what the library raises."""
        if bucket != self._settings.bucket:
            raise ValueError(f"another bucket than that of the settings: {bucket}")
        try:
            async with asyncio.timeout(self._settings.read_timeout_seconds):
                return await self._server.service.call(
                    operation, serve, f"{what} {detail}".rstrip(), refused=self._refused, broken=None
                )
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=self._server.endpoint_url, error=error) from error
        except Refusal as refusal:
            self._raise_answered(operation, refusal)
        except NoSuchKey:
            self._raise_answered(operation, Refusal(404))
        except PreconditionFailed:
            self._raise_answered(operation, Refusal(412))

    def _refused(self) -> BaseException:
        error: BaseException = EndpointConnectionError(
            endpoint_url=self._server.endpoint_url, error=ConnectionRefusedError()
        )
        return error

    def _raise_answered(self, operation: str, refusal: Refusal) -> NoReturn:
        code, message = MESSAGES[refusal.status]
        answer = {**_head(refusal.status, refusal.headers), "Error": {"Code": code, "Message": message}}
        raise ClientError(answer, operation) from None


class Body:
    """The stream below an answer; entered, it is read once."""

    def __init__(self, found: Found) -> None:
        self._found = found

    async def __aenter__(self) -> "Body":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The connection goes back, or is closed."""

    async def read(self) -> bytes:
        """Raises aiohttp's error where the body breaks off: the library lets that one through as it is."""
        if self._found.cut:
            raise ClientPayloadError("Response payload is not completed")
        return self._found.body


def lost(endpoint_url: str) -> ConnectionClosedError:
    """The connection broke before anything of the answer was there."""
    return ConnectionClosedError(endpoint_url=endpoint_url, error=ClientPayloadError("connection lost"), request=None)


def _head(status: int, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": dict(headers or {}), "RetryAttempts": 0}}


def _hash(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()[:12]
