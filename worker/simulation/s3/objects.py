"""What a bucket holds: objects under keys, conditional writes, and the history of everything that was applied.

An ETag is the MD5 of the bytes, as on every server that was tried, so it repeats with them (facts, S3).  Knows nothing
of requests and faults.
"""

import hashlib
from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple


class Object(NamedTuple):
    """What is stored under a key."""

    body: bytes
    etag: str


class Write(NamedTuple):
    """A PUT or a DELETE that was applied; of a delete, `etag` and `body` are None."""

    seconds: float
    process: str
    key: str
    etag: str | None
    body: bytes | None


class NoSuchKey(Exception):
    """There is no such object: 404."""


class PreconditionFailed(Exception):
    """The object is not as the writer has said: 412."""


def etag_of(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


class Objects:
    """`writes` in the order in which they were applied; `replaced` is the last ETag but one of each key."""

    def __init__(self) -> None:
        self.by_key: dict[str, Object] = {}
        self.writes: list[Write] = []
        self.replaced: dict[str, str] = {}
        self._sorted: list[str] = []

    def check(self, key: str, if_match: str | None, if_none_match: str | None) -> None:
        """The conditions of a PUT, as S3 knows them.  Raises NoSuchKey, PreconditionFailed."""
        found = self.by_key.get(key)
        if if_none_match is not None and found is not None and if_none_match in ("*", found.etag):
            raise PreconditionFailed(key)
        if if_match is not None:
            if found is None:
                raise NoSuchKey(key)
            if if_match not in ("*", found.etag):
                raise PreconditionFailed(key)

    def put(self, seconds: float, process: str, key: str, body: bytes) -> Object:
        """Whatever is there."""
        written = Object(body, etag_of(body))
        before = self.by_key.get(key)
        if before is None:
            insort(self._sorted, key)
        else:
            self.replaced[key] = before.etag
        self.by_key[key] = written
        self.writes.append(Write(seconds, process, key, written.etag, body))
        return written

    def delete(self, seconds: float, process: str, key: str) -> bool:
        """-> whether it was there."""
        if self.by_key.pop(key, None) is None:
            return False
        del self._sorted[bisect_left(self._sorted, key)]
        self.replaced.pop(key, None)
        self.writes.append(Write(seconds, process, key, None, None))
        return True

    def undo(self, before: Object, write: Write) -> bool:
        """Put back what a write has replaced: then it never was.  -> whether nothing has come after it."""
        found = self.by_key.get(write.key)
        if found is None or found.etag != write.etag:
            return False
        self.by_key[write.key] = before
        self.writes.remove(write)
        return True

    def keys(self, prefix: str, after: str, limit: int) -> tuple[list[str], bool]:
        """-> keys below the prefix and later than `after`, in byte order, and whether there are more.

        The order of code points is that of their UTF-8.
        """
        start = max(bisect_left(self._sorted, prefix), bisect_right(self._sorted, after))
        found: list[str] = []
        for key in self._sorted[start : start + limit + 1]:
            if not key.startswith(prefix):
                break
            found.append(key)
        return found[:limit], len(found) > limit
