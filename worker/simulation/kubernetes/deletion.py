"""What deleting an object means: propagation, finalizers, grace periods; and the garbage collector.

As the API server and the garbage collector do it (facts, N1 to N3 and N6).  Whoever deletes a Job without a policy
leaves its pods behind.  Knows nothing of requests.
"""

from collections.abc import Callable
from typing import Literal, cast

from worker.simulation.kubernetes.node import Nodes
from worker.simulation.kubernetes.objects import FOREGROUND, JOB_TRACKING, JOBS, ORPHAN, PODS, Pod, Thing
from worker.simulation.kubernetes.registry import Registry
from worker.simulation.world import World

Policy = Literal["Foreground", "Background", "Orphan"]
COLLECT_SECONDS = (0.02, 0.5)
"""How long the garbage collector, or the Job controller, takes until it comes to an object."""


class Deletions:
    """`of` begins one; the rest follows by itself."""

    def __init__(self, world: World, registry: Registry, nodes: Nodes) -> None:
        self._world, self._registry, self._nodes = world, registry, nodes
        self._chance = world.random("garbage collector")

    def of(self, thing: Thing, *, policy: Policy | None = None, grace_seconds: int | None = None) -> None:
        """Delete it, as far as finalizers and grace let it go at once."""
        if thing.kind is PODS:
            self._delete_pod(cast(Pod, thing), grace_seconds)
            return
        chosen = policy or ("Orphan" if thing.kind is JOBS else "Background")
        others = tuple(name for name in thing.finalizers if name not in (FOREGROUND, ORPHAN))
        adds = {"Foreground": (FOREGROUND,), "Orphan": (ORPHAN,), "Background": ()}[chosen]
        thing.finalizers = others + adds
        self._terminate(thing)
        self._later(lambda: self._collect(thing))

    def drop_finalizers(self, thing: Thing, *names: str) -> None:
        """Take these off; without any it goes, where it is terminating."""
        left = tuple(name for name in thing.finalizers if name not in names)
        if thing.exists and left != thing.finalizers:
            thing.finalizers = left
            self._registry.changed(thing)
            self._settle(thing)

    # ------------------------------------------------------------------------------ the API server

    def _terminate(self, thing: Thing) -> None:
        if thing.deleted_at is None:
            thing.deleted_at = self._world.now
        if thing.finalizers:
            self._registry.changed(thing)
        else:
            self._remove(thing)

    def _delete_pod(self, pod: Pod, grace_seconds: int | None) -> None:
        """With a grace its object waits for the node's report; a shorter one counts, a longer one never."""
        seconds = pod.wish.grace_seconds if grace_seconds is None else grace_seconds
        if pod.has_ended:
            seconds = 0
        if pod.grace_seconds is not None and seconds >= pod.grace_seconds:
            return
        before, pod.grace_seconds = pod.grace_seconds, float(seconds)
        if pod.deleted_at is None:
            pod.deleted_at = self._world.now
        if pod.job is not None:  # its controller has seen enough of it
            self._later(lambda: self.drop_finalizers(pod, JOB_TRACKING))
        self._registry.changed(pod)
        if seconds > 0 and before is None:
            self._nodes.stop(pod, seconds)
        elif seconds > 0:
            self._nodes.shorten(pod, seconds)
        else:
            self._settle(pod)

    def pod_has_ended(self, pod: Pod) -> None:
        """The node has said so: where it is terminating, the node removes it."""
        if pod.terminating:
            pod.grace_seconds = 0.0
            self._settle(pod)

    def _settle(self, thing: Thing) -> None:
        """Remove what is terminating, and held by nothing any more."""
        if not thing.exists or not thing.terminating or thing.finalizers:
            return
        if not isinstance(thing, Pod) or thing.grace_seconds == 0.0:
            self._remove(thing)

    def _remove(self, thing: Thing) -> None:
        owner = thing.owner
        self._registry.remove(thing)
        if isinstance(thing, Pod) and thing.alive:
            self._nodes.abandon(thing)
        if thing.dependents:
            self._later(lambda: self._collect(thing))
        if owner is not None and FOREGROUND in owner.finalizers:
            self._later(lambda: self._collect(owner))

    # ------------------------------------------------------------------------------ the garbage collector

    def _collect(self, thing: Thing) -> None:
        """What becomes of its dependents, and of itself, once it is terminating or gone."""
        if ORPHAN in thing.finalizers:
            for dependent in list(thing.dependents):
                self._disown(dependent)
            self.drop_finalizers(thing, ORPHAN)
        elif FOREGROUND in thing.finalizers or not thing.exists:
            for dependent in list(thing.dependents):
                self._collect_dependent(dependent, foreground=thing.exists)
            if not thing.dependents:
                self.drop_finalizers(thing, FOREGROUND)

    def _collect_dependent(self, dependent: Thing, *, foreground: bool) -> None:
        if dependent.terminating:
            return
        self.of(dependent, policy="Foreground" if foreground and dependent.dependents else "Background")

    def _disown(self, dependent: Thing) -> None:
        if dependent.owner is not None:
            dependent.owner.dependents.remove(dependent)
            dependent.owner = None
        dependent.finalizers = tuple(name for name in dependent.finalizers if name != JOB_TRACKING)
        self._registry.changed(dependent)

    def _later(self, act: Callable[[], None]) -> None:
        self._world.after(self._chance.uniform(*COLLECT_SECONDS), act)
