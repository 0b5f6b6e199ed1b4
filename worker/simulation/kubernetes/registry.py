"""The cluster's memory: all objects, their versions, and who is told of changes.

A watch is told what has changed since a version, as long as that is remembered.  Knows nothing of what changes mean.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiohttp import ClientPayloadError

from worker.simulation.kubernetes.objects import Json, Kind, Thing
from worker.simulation.process import Process
from worker.simulation.world import World

FIRST_VERSION = 1000
"""What had happened to the cluster before."""
REMEMBERED_CHANGES = 300
NEWS_SECONDS = 0.002
"""How long a change takes to those who watch."""


class Change(NamedTuple):
    """What became of an object, as a watch tells it."""

    version: int
    kind: Kind
    namespace: str
    labels: tuple[str, ...]
    line: bytes


class Watch:
    """A stream of changes to one client: `async for line in watch`.  It may end, break, or never tell a thing."""

    def __init__(self, kind: Kind, namespace: str, label: str, process: Process | None, *, deaf: bool) -> None:
        self.kind, self.namespace, self.label, self.process = kind, namespace, label, process
        self.deaf = deaf
        self._lines: deque[bytes] = deque()
        self._end: StopAsyncIteration | ClientPayloadError | None = None
        self._waiting: asyncio.Future[None] | None = None

    def wants(self, change: Change) -> bool:
        fits = change.kind is self.kind and change.namespace == self.namespace
        return fits and not self.deaf and (not self.label or self.label in change.labels)

    def tell(self, line: bytes) -> None:
        if self._end is None:
            self._lines.append(line)
            self._wake()

    def end(self) -> None:
        """The server has said enough."""
        self._over(StopAsyncIteration())

    def cut(self) -> None:
        """The server is gone."""
        self._over(ClientPayloadError("Response payload is not completed"))

    def _over(self, end: StopAsyncIteration | ClientPayloadError) -> None:
        if self._end is None:
            self._end = end
            self._wake()

    @property
    def open(self) -> bool:
        return self._end is None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> bytes:
        while not self._lines:
            if self._end is not None:
                raise self._end
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._lines.popleft()


class Registry:
    """Objects by kind, namespace and name; `by_uid` holds those that were removed as well."""

    def __init__(self, world: World) -> None:
        self.by_uid: dict[str, Thing] = {}
        self.version = FIRST_VERSION
        self.removed: Callable[[Thing], None] = lambda thing: None
        """Called with an object that was removed."""
        self._world = world
        self._there: dict[tuple[str, str], dict[str, Thing]] = {}
        self._changes: deque[Change] = deque(maxlen=REMEMBERED_CHANGES)
        self._forgotten = FIRST_VERSION
        """The newest version that no watch can begin from any more."""
        self._watches: list[Watch] = []
        self._news: list[Change] = []

    # ------------------------------------------------------------------------------ objects

    def find(self, kind: Kind, namespace: str, name: str) -> Thing | None:
        return self._there.get((kind.plural, namespace), {}).get(name)

    def all(self, kind: Kind, namespace: str) -> Sequence[Thing]:
        """By name, as they are kept."""
        there = self._there.get((kind.plural, namespace), {})
        return [there[name] for name in sorted(there)]

    def add(self, thing: Thing) -> None:
        there = self._there.setdefault((thing.kind.plural, thing.namespace), {})
        assert thing.name not in there, "names are unique"
        there[thing.name] = self.by_uid[thing.uid] = thing
        if thing.owner is not None:
            thing.owner.dependents.append(thing)
        self._changed(thing, "ADDED")

    def changed(self, thing: Thing) -> None:
        if thing.exists:
            self._changed(thing, "MODIFIED")

    def remove(self, thing: Thing) -> None:
        thing.exists = False
        del self._there[thing.kind.plural, thing.namespace][thing.name]
        if thing.owner is not None:
            thing.owner.dependents.remove(thing)
        self._changed(thing, "DELETED")
        self.removed(thing)

    def _changed(self, thing: Thing, what: str) -> None:
        self.version += 1
        thing.version = self.version
        labels = tuple(thing.labels) + tuple(f"{name}={value}" for name, value in thing.labels.items())
        event = {"type": what, "object": partial(thing)}
        if len(self._changes) == REMEMBERED_CHANGES:
            self._forgotten = self._changes[0].version
        change = Change(self.version, thing.kind, thing.namespace, labels, json.dumps(event).encode() + b"\n")
        self._changes.append(change)
        if not self._news:
            self._world.after(NEWS_SECONDS, self._spread)
        self._news.append(change)

    # ------------------------------------------------------------------------------ who is told

    def watch(self, watch: Watch, since: int) -> None:
        """Tell it what came after this version, and what comes."""
        self._watches.append(watch)
        if since < self._forgotten:
            self.expire(watch)
            return
        waiting = {change.version for change in self._news}
        for change in self._changes:
            if change.version > since and change.version not in waiting and watch.wants(change):
                watch.tell(change.line)

    def expire(self, watch: Watch) -> None:
        """It is told that its version is too old, and ends."""
        status = failure(410, "Expired", "too old resource version")
        watch.tell(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
        watch.end()

    def cut_watches(self) -> None:
        """The API server is gone; the next one knows what is, and not what was."""
        for watch in self._watches:
            watch.cut()
        self._watches.clear()
        self._changes.clear()
        self._forgotten = self.version

    def _spread(self) -> None:
        news, self._news = self._news, []
        self._watches = [watch for watch in self._watches if watch.open and not _dead(watch)]
        for change in news:
            for watch in self._watches:
                if watch.wants(change):
                    watch.tell(change.line)


def _dead(watch: Watch) -> bool:
    return watch.process is not None and watch.process.state == "dead"


def partial(thing: Thing) -> Json:
    """Its metadata alone, as an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": thing.metadata()}


def failure(code: int, reason: str, message: str) -> Json:
    """The Status object that an API server explains itself with."""
    status = {"status": "Failure", "code": code, "reason": reason, "message": message}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **status}
