"""The object above a Job, of whatever kind: deleted first, since a child deleted under it is created again (N4).

Which kinds may be deleted, the worker's Role says.  Knows nothing of pods.
"""

from dataclasses import dataclass
from typing import NamedTuple

from worker.adapters.kubernetes.cluster import Cluster, Object
from worker.adapters.kubernetes.objects import owner_text, owners, segment
from worker.errors import Refused, Unavailable

GENERATIONS_MAX = 5


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner as a document names it."""

    api_version: str
    kind: str
    name: str
    uid: str

    @classmethod
    def parse(cls, text: str) -> "Owner":
        """Of apiVersion/kind/name/uid, where apiVersion may be group/version.  Raises Refused."""
        parts = text.rsplit("/", 3)
        if len(parts) != 4 or parts[0].count("/") > 1:
            raise Refused(f"the owner {text!r} is no apiVersion/kind/name/uid")
        for name in (*parts[0].split("/"), *parts[1:]):
            segment(name)
        return cls(*parts)


class Kind(NamedTuple):
    """Where objects of a kind are in the API."""

    base: str
    plural: str
    namespaced: bool


class Owners:
    """Finds where kinds live in the API, and remembers it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kinds: dict[tuple[str, str], Kind] = {}

    async def path(self, owner: Owner, namespace: str) -> str | None:
        """Its path in the API, in this namespace unless its kind has none; None where the cluster has no such kind."""
        known = (owner.api_version, owner.kind)
        kind = self._kinds.get(known) or await self._discover(owner)
        if kind is None:
            return None
        self._kinds[known] = kind
        within = f"/namespaces/{segment(namespace)}" if kind.namespaced else ""
        return f"{kind.base}{within}/{kind.plural}/{owner.name}"

    async def _discover(self, owner: Owner) -> Kind | None:
        base = await self._base(owner.api_version)
        answer = await self._cluster.call("GET", base) if base else None
        for resource in answer.body.get("resources") or () if answer else ():
            if resource["kind"] == owner.kind and "/" not in resource["name"]:
                return Kind(base or "", resource["name"], bool(resource["namespaced"]))
        return None

    async def _base(self, api_version: str) -> str | None:
        """Where the group is served: in another version, if it must be, since the objects are the same."""
        name, _, _ = api_version.rpartition("/")
        if not name:
            return f"/api/{api_version}"
        groups = (await self._cluster.call("GET", "/apis")).body
        if groups.get("kind") != "APIGroupList":
            raise Unavailable("the cluster answered the list of its groups with something else")
        for group in groups["groups"]:
            if group["name"] == name:
                served = {version["groupVersion"] for version in group["versions"]}
                preferred = str(group["preferredVersion"]["groupVersion"])
                return f"/apis/{api_version if api_version in served else preferred}"
        return None

    async def vouch(self, job: Object, owner: Owner) -> None:
        """The Job must name the owner, itself or through its own owners: a wrong report deletes nobody's object.

        Raises Refused.
        """
        generation = [job]
        for _ in range(GENERATIONS_MAX):
            references = [reference for each in generation for reference in owners(each)]
            if any(reference["uid"] == owner.uid for reference in references):
                return
            generation = [above for reference in references if (above := await self._read(job, reference))]
        name = f"{job['metadata']['namespace']}/{job['metadata']['name']}"
        raise Refused(f"{owner.kind} {owner.name} (uid {owner.uid}) does not own Job {name}: it is left alone")

    async def _read(self, job: Object, reference: Object) -> Object | None:
        path = await self.path(Owner.parse(owner_text(reference)), job["metadata"]["namespace"])
        answer = await self._cluster.call("GET", path) if path else None
        found = answer is not None and answer.status == 200 and answer.body["metadata"]["uid"] == reference["uid"]
        return answer.body if found and answer else None
