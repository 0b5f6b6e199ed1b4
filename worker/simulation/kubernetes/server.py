"""The API server: paths and queries to objects, and faults F26 to F32 and F34.

A fault is counted at a request that it changes.  Knows how the API is spoken, and not who asks.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from worker.simulation.kubernetes.client import Answer, Request, lost
from worker.simulation.kubernetes.deletion import Deletions
from worker.simulation.kubernetes.objects import JOBS, KINDS, PODS, Job, Json, Kind, Pod, Thing
from worker.simulation.kubernetes.registry import Registry, Watch, failure, partial
from worker.simulation.kubernetes.strangers import Strangers
from worker.simulation.service import Service, Troubles
from worker.simulation.world import World

TROUBLES = Troubles(away="F34")
RETRY_AFTER_SECONDS_MAX = 5
WATCH_ENDS_SECONDS = (1.0, 240.0)
COLLECTION = re.compile(r"^(?P<base>/.+?)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?$")
NAMESPACE = re.compile(r"^/api/v1/namespaces/(?P<namespace>[^/]+)$")
BY_PATH = {(kind.base, kind.plural): kind for kind in KINDS}


class Delete(NamedTuple):
    """A DELETE that a client sent and the server applied; `job_uid` where the object is a Job or a pod of one."""

    seconds: float
    process: str
    path: str
    uid: str
    job_uid: str | None
    options: Json


class ApiService(Service):
    """As any service, but that open watches break when it goes away."""

    def __init__(self, world: World, cut: Callable[[], None]) -> None:
        self._cut, self._is_away = cut, False
        super().__init__(world, "kubernetes", TROUBLES)

    @property
    def away(self) -> bool:
        return self._is_away

    @away.setter
    def away(self, value: bool) -> None:
        self._is_away = value
        if value:
            self._cut()


class ApiServer:
    """`deletes` are what clients had deleted, in order."""

    def __init__(
        self, world: World, registry: Registry, deletions: Deletions, namespaces: Sequence[str], strangers: Strangers
    ) -> None:
        self.service = ApiService(world, registry.cut_watches)
        self.deletes: list[Delete] = []
        self._world, self._registry, self._deletions = world, registry, deletions
        self._namespaces, self._strangers = namespaces, strangers
        self._pages: dict[str, tuple[int, list[Thing]]] = {}
        self._chance = world.random("api server")

    def arrive(self, request: Request) -> Answer:
        """Raises ClientPayloadError where the reply is lost."""
        if self._world.faults.strikes("F29"):
            request.credential.known = False
        if not request.credential.known:
            return _failed(401, "Unauthorized", "Unauthorized")
        if self._world.faults.strikes("F28"):
            seconds = self._world.faults.source("F28").randint(1, RETRY_AFTER_SECONDS_MAX)
            status = failure(429, "TooManyRequests", "too many requests, please try again later")
            return Answer(429, status, retry_after=str(seconds))
        found = COLLECTION.match(request.path)
        if found is None:
            return self._about(request.path)
        kind = BY_PATH.get((found["base"], found["plural"]))
        if kind is None:
            return Answer(404, "404 page not found\n")
        if found["name"] is None:
            return self._collection(request, kind, found["namespace"])
        if request.method == "DELETE":
            return self._delete(request, kind, found["namespace"], found["name"])
        thing = self._registry.find(kind, found["namespace"], found["name"])
        return Answer(200, thing.told()) if thing else _missing(kind, found["name"])

    # ------------------------------------------------------------------------------ what is there

    def _about(self, path: str) -> Answer:
        """Which groups and kinds there are, and namespaces."""
        if path == "/apis":
            groups = [_group(kind) for kind in KINDS if kind.group]
            return Answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        kinds = [kind for kind in KINDS if kind.base == path]
        if kinds:
            resources = [{"name": kind.plural, "kind": kind.kind, "namespaced": True} for kind in kinds]
            resources += [{"name": f"{kind.plural}/status", "kind": kind.kind, "namespaced": True} for kind in kinds]
            body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": kinds[0].api_version}
            return Answer(200, body | {"resources": resources})
        found = NAMESPACE.match(path)
        if found is None:
            return Answer(404, "404 page not found\n")
        name = found["namespace"]
        if name not in self._namespaces:
            return _failed(404, "NotFound", f'namespaces "{name}" not found')
        metadata = {"name": name, "uid": f"namespace-{name}"}
        return Answer(
            200, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata, "status": {"phase": "Active"}}
        )

    def _collection(self, request: Request, kind: Kind, namespace: str) -> Answer:
        """A list, page by page, or a watch."""
        query = request.query
        label = query.get("labelSelector", "")
        if query.get("watch"):
            return self._watch(request, kind, namespace, label)
        version, things = self._pages.pop(query.get("continue", ""), (self._registry.version, []))
        if not query.get("continue"):
            things = self._selected(kind, namespace, label, query.get("fieldSelector", ""))
        limit = int(query.get("limit", len(things) or 1))
        page, rest = things[:limit], things[limit:]
        metadata: Json = {"resourceVersion": str(version)}
        if rest:
            token = metadata["continue"] = f"{version}-{rest[0].name}-{len(rest)}"
            metadata["remainingItemCount"] = len(rest)
            self._pages[token] = (version, rest)
        if label and kind is JOBS:
            self._strangers.looked_for(label.partition("=")[2])
        if "PartialObjectMetadataList" in request.accept:
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return Answer(200, {**head, "metadata": metadata, "items": [partial(thing) for thing in page]})
        head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version}
        return Answer(200, {**head, "metadata": metadata, "items": [thing.told() for thing in page]})

    def _selected(self, kind: Kind, namespace: str, label: str, field: str) -> list[Thing]:
        if field:
            name, _, value = field.partition("=")
            assert name == "metadata.name", "the only field that is asked for"
            found = self._registry.find(kind, namespace, value)
            return [found] if found else []
        name, _, value = label.partition("=")
        return [
            thing
            for thing in self._registry.all(kind, namespace)
            if not label or (thing.labels.get(name) == value if value else name in thing.labels)
        ]

    def _watch(self, request: Request, kind: Kind, namespace: str, label: str) -> Answer:
        """It ends with its time at the latest, mostly earlier; now and then it is too old, or tells nothing."""
        what, seconds = self._chance.random(), float(request.query["timeoutSeconds"])
        watch = Watch(kind, namespace, label, request.process, deaf=what < 0.02)
        self._registry.watch(watch, int(request.query["resourceVersion"]))
        ends = min(self._chance.uniform(*WATCH_ENDS_SECONDS), seconds) if what < 0.6 else seconds
        expires = 0.02 <= what < 0.1
        self._world.after(ends, lambda: self._registry.expire(watch) if expires else watch.end())
        return Answer(200, watch)

    # ------------------------------------------------------------------------------ deleting

    def _delete(self, request: Request, kind: Kind, namespace: str, name: str) -> Answer:
        options = request.body or dict(request.query)  # a body hides what stands in the query (facts, N1)
        wanted = options.get("preconditions", {}).get("uid")
        thing = self._registry.find(kind, namespace, name)
        if isinstance(thing, Job) and not thing.terminating and wanted in (None, thing.uid):
            self._strangers.before_delete(thing)
            thing = self._registry.find(kind, namespace, name)
        if thing is None:
            return _missing(kind, name)
        if wanted not in (None, thing.uid):
            message = f"the UID in the precondition ({wanted}) does not match the UID in record ({thing.uid})"
            return _failed(409, "Conflict", f'Operation cannot be fulfilled on {kind.plural} "{name}": {message}')
        job = thing.job if isinstance(thing, Pod) else thing if isinstance(thing, Job) else None
        self.deletes.append(
            Delete(self._world.now, request.who, request.path, thing.uid, job.uid if job else None, options)
        )
        self._deletions.of(
            thing, policy=options.get("propagationPolicy"), grace_seconds=_seconds(options.get("gracePeriodSeconds"))
        )
        if self._world.faults.strikes("F26"):
            self._world.note("kubernetes", "reply lost", request.path)
            raise lost()
        if thing.exists or kind is PODS:
            return Answer(200, thing.told())
        details = {"name": name, "kind": kind.plural, "uid": thing.uid}
        success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return Answer(200, success | {"details": details})


def _seconds(given: int | str | None) -> int | None:
    return None if given is None else int(given)


def _group(kind: Kind) -> Json:
    version = {"groupVersion": kind.api_version, "version": kind.version}
    return {"name": kind.group, "versions": [version], "preferredVersion": version}


def _failed(code: int, reason: str, message: str) -> Answer:
    return Answer(code, failure(code, reason, message))


def _missing(kind: Kind, name: str) -> Answer:
    within = f".{kind.group}" if kind.group else ""
    return _failed(404, "NotFound", f'{kind.plural}{within} "{name}" not found')
