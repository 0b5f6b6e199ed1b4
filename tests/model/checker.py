"""The checker: breadth first, so that the first violation has a shortest trace; then recovery, backwards.

Safety is checked in every state.  Liveness: from every reachable state the rightful owner's own steps, without another
fault, lead to rest.  It knows nothing of what a step does.
"""

import time
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.model import decider
from tests.model.musts import Violation, at_rest, check
from tests.model.state import Configuration, State, initial
from tests.model.steps import steps, tidy

STATES_MAX = 2_000_000
STUCK = "I1/I9/I10/I11 no good rest can be reached without faults"


class Result(NamedTuple):
    """`violation` is empty where everything holds; `seconds` of wall clock."""

    violation: str
    trace: tuple[str, ...]
    states: int
    steps: int
    seconds: float


class _Graph:
    """The states found so far, in the order in which they were found."""

    def __init__(self, c: Configuration) -> None:
        self.c = c
        self.states: list[State] = []
        self.steps = 0
        self._index: dict[State, int] = {}
        self._parent = array("q")
        self._good = bytearray()
        self._back: list[array[int]] = []  # per state: those from which a step of recovery leads to it
        self.add(tidy(c, initial(c)), -1)

    def add(self, state: State, parent: int) -> int:
        """-> its number."""
        number = self._index.get(state)
        if number is None:
            number = self._index[state] = len(self.states)
            self.states.append(state)
            self._parent.append(parent)
            self._good.append(at_rest(self.c, state))
            self._back.append(array("I"))
        return number

    def expand(self, here: int) -> Iterator[int]:
        """Take every step that a state has; -> the numbers of new states.  Raises Violation."""
        for _, recovers, following in steps(self.c, self.states[here]):
            self.steps += 1
            known = len(self.states)
            there = self.add(tidy(self.c, following), here)
            if there == known:
                yield there
            if recovers and there != here:
                self._back[there].append(here)

    def stuck(self) -> int | None:
        """A state from which no good rest can be reached by recovery alone."""
        live, stack = bytearray(self._good), [number for number, good in enumerate(self._good) if good]
        while stack:
            for number in self._back[stack.pop()]:
                if not live[number]:
                    live[number] = 1
                    stack.append(number)
        found = live.find(0)
        return found if found >= 0 else None

    def path(self, number: int) -> tuple[str, ...]:
        """Labels of a shortest way to a state."""
        chain = [number]
        while self._parent[chain[-1]] >= 0:
            chain.append(self._parent[chain[-1]])
        chain.reverse()
        return tuple(self._label(here, there) for here, there in pairwise(chain))

    def _label(self, here: int, there: int) -> str:
        every = steps(self.c, self.states[here])
        return next(label for label, _, following in every if self._index.get(tidy(self.c, following)) == there)


def explore(c: Configuration, states_max: int = STATES_MAX) -> Result:
    """All that a configuration can lead to, or the first violation."""
    began = time.perf_counter()
    decider.decide.cache_clear()
    decider.observe.cache_clear()
    graph = _Graph(c)
    violation, trace = _search(graph, states_max)
    return Result(violation, trace, len(graph.states), graph.steps, time.perf_counter() - began)


def _search(graph: _Graph, states_max: int) -> tuple[str, tuple[str, ...]]:
    """-> violation and trace, both empty where everything holds."""
    here, wrong = 0, None
    while here < len(graph.states):
        try:
            for wrong in graph.expand(here):  # still set where a check raises
                check(graph.c, graph.states[wrong])
                wrong = None
        except Violation as violation:
            failed = (*graph.path(here), "the step that fails") if wrong is None else graph.path(wrong)
            return str(violation), failed
        here += 1
        if here > states_max:
            return "limit of states reached", ()
    stuck = graph.stuck()
    return ("", ()) if stuck is None else (STUCK, graph.path(stuck))
