"""Ways to break a history, each with the invariant that names it, and in which words."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest

from tests.simulation.told import Json, Told, told
from worker.simulation.invariants import check

Break = Callable[[Told], object]


class Broken(NamedTuple):
    """What `act` does to a history is named by this invariant, for this aggregate, in these words."""

    invariant: str
    key: str
    text: str
    act: Break


class Breaks(list[Broken]):
    """Collected by a decorator: `@breaks("I1", key, text)`."""

    def __call__(self, invariant: str, key: str, text: str) -> Callable[[Break], Break]:
        def note(act: Break) -> Break:
            self.append(Broken(invariant, key, text, act))
            return act

        return note

    @property
    def invariants(self) -> set[str]:
        return {each.invariant for each in self}


def cases(breaks: Iterable[Broken]) -> list[Any]:
    """As parameters of a test."""
    return [pytest.param(each, id=f"{each.invariant}{each.act.__name__}") for each in breaks]


def assert_named(broken: Broken) -> None:
    """The invariant names it."""
    history = told()
    broken.act(history)
    found = [each for each in check(history.evidence()) if each.invariant == broken.invariant]
    assert any(each.key == broken.key and broken.text in each.text for each in found), found


def set_state(**fields: object) -> Callable[[Json], None]:
    """Change a document's state."""

    def change(body: Json) -> None:
        body["state"] |= fields

    return change
