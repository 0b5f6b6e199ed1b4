"""A small controller over a kind of its own: each Farm has one Job, made again as long as the Farm is there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from kubernetes_asyncio.client import ApiClient, ApiException, ApiextensionsV1Api, CustomObjectsApi

from tests.contract.suites.jobs import ONE
from tests.integration.workload import Workload, until

GROUP, VERSION, PLURAL, KIND = "acme.test", "v1", "farms", "Farm"
OWNS = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "controller": True, "blockOwnerDeletion": True}


def above(farm: dict[str, Any]) -> dict[str, Any]:
    """How a Job says that the farm is its controller."""
    return OWNS | {key: farm["metadata"][key] for key in ("name", "uid")}


class Farms:
    """A kind of resource whose controller keeps one Job for each."""

    def __init__(self, client: ApiClient, namespace: str, evaluation_id: str = ONE) -> None:
        self.workload, self._evaluation_id = Workload(client, namespace), evaluation_id
        self._custom: Any = CustomObjectsApi(client)
        self._definitions: Any = ApiextensionsV1Api(client)
        self.made = 0

    async def define(self) -> None:
        """The cluster knows the kind from now on."""
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        definition = {
            "metadata": {"name": f"{PLURAL}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced",
                "names": {"plural": PLURAL, "kind": KIND},
                "versions": [{"name": VERSION, "served": True, "storage": True, "schema": schema}],
            },
        }
        with suppress(ApiException):  # an earlier test has defined it
            await self._definitions.create_custom_resource_definition(definition)
        await until(self._is_served, True)

    async def create(self, name: str) -> str:
        """A farm; -> what names it as an owner."""
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}}
        made = await self._custom.create_namespaced_custom_object(GROUP, VERSION, self.workload.namespace, PLURAL, body)
        return f"{GROUP}/{VERSION}/{KIND}/{name}/{made['metadata']['uid']}"

    async def wanted(self) -> list[dict[str, Any]]:
        """Those that are there and not being deleted."""
        found = await self._custom.list_namespaced_custom_object(GROUP, VERSION, self.workload.namespace, PLURAL)
        return [each for each in found["items"] if "deletionTimestamp" not in each["metadata"]]

    @asynccontextmanager
    async def controlled(self) -> AsyncIterator[None]:
        """The controller runs."""
        running = asyncio.create_task(self._control())
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running  # raises what has ended it before

    async def _control(self) -> None:
        while True:
            await self.work()
            await asyncio.sleep(0.1)

    async def work(self) -> None:
        """Make the Jobs that are missing."""
        there = await self.workload.jobs()
        for farm in await self.wanted():
            name = farm["metadata"]["name"]
            if f"{name}-work" not in there:
                self.made += 1
                metadata = {"ownerReferences": [above(farm)]}
                await self.workload.job(self._evaluation_id, name=f"{name}-work", metadata=metadata, ready=False)

    async def _is_served(self) -> bool:
        try:
            await self.wanted()
        except ApiException:
            return False
        return True
