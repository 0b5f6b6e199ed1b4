"""The nodes: they start pods' processes, end them, and report what they have seen.

A process ends where it ends by itself, at SIGTERM, or one second after its grace; only the node's report tells the API.
Knows nothing of Jobs' owners and of requests.
"""

from collections.abc import Callable
from math import inf

from worker.simulation.kubernetes.objects import Pod
from worker.simulation.kubernetes.registry import Registry
from worker.simulation.world import World

START_SECONDS = (0.1, 1.0)
NOTICE_SECONDS = (0.01, 0.2)
"""How long it takes a node to see what the API says."""
REPORT_SECONDS = (0.1, 1.0)
"""How long it takes the API to be told of an end."""
KILL_SECONDS = 1.0
"""Between the end of its grace and that of a process."""
ORPHAN_SECONDS = (0.5, 15.0)
"""How long a process outlives its pod, where that was removed without waiting for it."""


class Nodes:
    """Of the whole cluster."""

    def __init__(self, world: World, registry: Registry) -> None:
        self.reported: Callable[[Pod], None] = lambda pod: None
        """Called with a pod that was reported to have ended."""
        self._world, self._registry = world, registry
        self._chance = world.random("nodes")

    def run(self, pod: Pod) -> None:
        """A pod was made."""
        self._world.after(self._within(START_SECONDS), lambda: self._start(pod))

    def stop(self, pod: Pod, seconds: float) -> None:
        """The API gives it this grace now: for the first time, or a shorter one."""
        self._world.after(self._within(NOTICE_SECONDS), lambda: self._terminate(pod, seconds))

    def shorten(self, pod: Pod, seconds: float) -> None:
        if pod.wish.node_shortens:
            self.stop(pod, seconds)

    def abandon(self, pod: Pod) -> None:
        """Its object is gone from the API, and nobody has waited for its process."""
        self._world.after(self._within(ORPHAN_SECONDS), lambda: self._die(pod, "Failed", reports=False))

    # ------------------------------------------------------------------------------

    def _start(self, pod: Pod) -> None:
        if not pod.exists or pod.terminating or pod.phase != "Pending":
            return
        pod.alive, pod.phase, pod.ended_at = True, "Running", inf
        self._registry.changed(pod)
        if pod.wish.ends_after_seconds < inf:
            phase = "Succeeded" if pod.wish.succeeds else "Failed"
            self._world.after(pod.wish.ends_after_seconds, lambda: self._die(pod, phase))

    def _terminate(self, pod: Pod, seconds: float) -> None:
        """SIGTERM, or, to one that has it already, an earlier SIGKILL."""
        if pod.has_ended:
            return
        first = pod.end is None
        left = seconds + KILL_SECONDS
        if first and pod.alive and (pod.wish.stubborn or self._world.faults.strikes("F31")):
            self._world.note("node", "SIGTERM ignored", pod.name)
        elif first:
            left = min(left, pod.wish.stops_after_seconds if pod.alive else 0.0)
        elif pod.end is not None and pod.end.when() <= self._world.now + left:
            return
        if pod.end is not None:
            pod.end.cancel()
        pod.end = self._world.after(left, lambda: self._die(pod, "Failed"))

    def _die(self, pod: Pod, phase: str, *, reports: bool = True) -> None:
        """The process ends, and the node will say so."""
        was_alive, pod.alive = pod.alive, False
        if was_alive:
            pod.ended_at = self._world.now
            self._world.note("node", "process ends", pod.name)
        if reports and not pod.has_ended and pod.exists:
            self._world.after(self._within(REPORT_SECONDS), lambda: self._report(pod, phase))

    def _report(self, pod: Pod, phase: str) -> None:
        """What was observed; the API server goes on from there."""
        if not pod.exists or pod.has_ended:
            return
        pod.phase = "Succeeded" if phase == "Succeeded" else "Failed"
        self._registry.changed(pod)
        self.reported(pod)

    def _within(self, bounds: tuple[float, float]) -> float:
        return self._chance.uniform(*bounds)
