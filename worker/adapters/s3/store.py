"""The document store as objects in one bucket; compare-and-set is a conditional PUT, and nothing else is (facts, S4).

Knows the port, the client library's operations and nothing of documents.  A version is an ETag as the server gave it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from botocore.exceptions import ClientError

from worker.adapters.s3 import failures
from worker.adapters.s3.client import open_client
from worker.adapters.s3.keys import checked, is_plain
from worker.errors import Conflict, Misconfigured, Unavailable, WorkerError
from worker.ports import Clock, Ids, Stored, Unchanged
from worker.settings import S3Settings

LISTED_MAX = 1000
DELETED_MAX = 1000
"""Keys that S3 lists, and deletes, at once."""
UNDECIDED_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Between tries of a write that the server could not decide; then its outcome counts as unknown."""
ANY_VERSION = "*"
NO_VERSION = '"00000000000000000000000000000000"'
"""An ETag that no object has."""


class S3Store:
    """One client, and at most `connections_max` requests at once: so none waits inside of the library's pool.

    Whoever only reads (`writes=False`) starts by reading: no conditions are probed, and nothing is written.  `connect`
    gives the client; the simulator has its own.
    """

    def __init__(
        self,
        settings: S3Settings,
        clock: Clock,
        ids: Ids,
        connect: Callable[[S3Settings], AbstractAsyncContextManager[Any]] = open_client,
        *,
        writes: bool = True,
    ) -> None:
        self._settings, self._clock, self._ids, self._connect = settings, clock, ids, connect
        self._writes = writes
        self._slots = asyncio.Semaphore(settings.connections_max)
        self._opened = AsyncExitStack()
        self._client: Any = None
        self._encryption: dict[str, str] = {}
        if settings.encryption != "none":
            self._encryption["ServerSideEncryption"] = settings.encryption
        if settings.encryption_key_id:
            self._encryption["SSEKMSKeyId"] = settings.encryption_key_id

    async def start(self) -> None:
        if self._client is not None:
            return
        self._client = await self._opened.enter_async_context(self._connect(self._settings))
        try:
            # Who may not list gets 403 for a missing object, which must not pass for an outage later on.
            await self.list("", limit=1)
            if self._writes:
                await self._probe(f"probe/{self._ids.fresh()}")
        except BaseException as error:
            await self.stop()
            meaning = failures.at_start(error, self._settings)
            if meaning is None:
                raise
            raise meaning from error

    async def load(self, key: str) -> Stored | None:
        found = await self._get(key)
        assert not isinstance(found, Unchanged), "no condition was sent"
        return found

    async def load_if_changed(self, key: str, version: str) -> Stored | Unchanged | None:
        return await self._get(key, IfNoneMatch=version)

    async def create(self, key: str, body: bytes) -> str:
        return _version(await self._put(key, body, IfNoneMatch=ANY_VERSION))

    async def replace(self, key: str, body: bytes, version: str) -> str:
        return _version(await self._put(key, body, IfMatch=version))

    async def put(self, key: str, body: bytes) -> None:
        await self._put(key, body)

    async def delete(self, keys: Sequence[str]) -> None:
        each = list(dict.fromkeys(keys))
        plain = [key for key in each if is_plain(key)]
        for start in range(0, len(plain), DELETED_MAX):
            await self._delete_batch(plain[start : start + DELETED_MAX])
        for key in each:
            if not is_plain(key):
                async with self._request(f"DELETE {key!r}"):
                    await self._client.delete_object(Bucket=self._settings.bucket, Key=self._full(key))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        found: list[str] = []
        more = True
        while more and len(found) < limit:
            last = found[-1] if found else after
            async with self._request(f"LIST {prefix}"):
                page = await self._client.list_objects_v2(
                    Bucket=self._settings.bucket,
                    Prefix=self._full(prefix),
                    StartAfter=self._full(last),
                    MaxKeys=min(limit - len(found), LISTED_MAX),
                )
                if "IsTruncated" not in page:
                    raise failures.NotTheServer("a list without its end is not from an S3 server")
            found += [entry["Key"].removeprefix(self._settings.prefix) for entry in page.get("Contents", ())]
            more = page["IsTruncated"] and bool(page.get("Contents"))
        return found

    async def stop(self) -> None:
        opened, self._opened, self._client = self._opened, AsyncExitStack(), None
        await opened.aclose()

    # ------------------------------------------------------------------------------ one request

    async def _get(self, key: str, **condition: str) -> Stored | Unchanged | None:
        async with self._request(f"GET {key}"):
            try:
                answer = await self._client.get_object(
                    Bucket=self._settings.bucket, Key=self._document(key), **condition
                )
                async with answer["Body"] as stream:
                    return Stored(await stream.read(), _version(answer))
            except ClientError as error:
                if failures.status(error) == 304:
                    return Unchanged()
                if failures.is_missing(error):
                    return None
                raise

    async def _put(self, key: str, body: bytes, **condition: str) -> Mapping[str, Any]:
        """The server's answer.  A 409 wrote nothing and says nothing about who wins: sent again (facts, S2)."""
        arguments = {"Bucket": self._settings.bucket, "Key": self._document(key), **self._encryption, **condition}
        for pause_seconds in (*UNDECIDED_PAUSES_SECONDS, None):
            try:
                async with self._request(f"PUT {key}", writes=True):
                    answer: Mapping[str, Any] = await self._client.put_object(Body=body, **arguments)
                    _version(answer)
                    return answer
            except failures.Undecided:
                if pause_seconds is None:
                    raise
            await self._clock.sleep(pause_seconds * (0.5 + self._ids.jitter() / 2))
        raise AssertionError("the last try returns or raises")

    async def _delete_batch(self, keys: Sequence[str]) -> None:
        """Up to a thousand; a missing one is success, and one that stays is an outage of that key."""
        async with self._request(f"DELETE {len(keys)} objects"):
            answer = await self._client.delete_objects(
                Bucket=self._settings.bucket,
                Delete={"Objects": [{"Key": self._full(key)} for key in keys], "Quiet": True},
            )
        for error in answer.get("Errors", ()):
            if error.get("Code") != "NoSuchKey":
                raise Unavailable(f"DELETE {error.get('Key')}: {error.get('Code')}")

    @asynccontextmanager
    async def _request(self, what: str, *, writes: bool = False) -> AsyncIterator[None]:
        """One at a time per connection, bounded as a whole, and its errors in our words."""
        async with self._slots:
            try:
                async with asyncio.timeout(self._settings.request_timeout_seconds):
                    yield
            except (ClientError, *failures.LOST) as error:
                meaning = failures.translated(error, what, writes=writes)
                if meaning is None:
                    raise
                raise meaning from error

    def _full(self, key: str) -> str:
        return self._settings.prefix + key

    def _document(self, key: str) -> str:
        return checked(self._full(key))

    # ------------------------------------------------------------------------------ the probe

    async def _probe(self, key: str) -> None:
        """All that a writer needs of the server, on an object of its own.  Raises Misconfigured."""
        answer = await self._put(key, b"first", IfNoneMatch=ANY_VERSION)
        try:
            await self._check(key, answer)
        except BaseException:
            with suppress(WorkerError):  # what is wrong was found; the object is only tidied up
                await self.delete([key])
            raise
        await self.delete([key])

    async def _check(self, key: str, answer: Mapping[str, Any]) -> None:
        """Encryption, both conditions, and that what was written is read."""
        if self._encryption and answer.get("ServerSideEncryption") != self._settings.encryption:
            raise Misconfigured("WORKER_S3__ENCRYPTION: the server does not encrypt as it is asked to")
        await self._expect_conflict("If-None-Match", self.create(key, b"created twice"))
        await self._expect_conflict("If-Match", self.replace(key, b"replaced blindly", NO_VERSION))
        await self.replace(key, b"second", _version(answer))
        stored = await self.load(key)
        if stored is None or stored.body != b"second":
            raise Misconfigured("WORKER_S3__ENDPOINT_URL: the server does not give back what was just written")

    async def _expect_conflict(self, condition: str, write: Awaitable[str]) -> None:
        with suppress(Conflict):
            await write
            raise Misconfigured(
                f"WORKER_S3__ENDPOINT_URL: the server ignores {condition} on PUT, without which updates get lost"
            )


def _version(answer: Mapping[str, Any]) -> str:
    """Raises NotTheServer."""
    if not answer.get("ETag"):
        raise failures.NotTheServer("an answer without an ETag is not from an S3 server")
    return str(answer["ETag"])
