"""Async tests of this tier run on a seeded loop, in virtual time; nothing of the outside is there.

Many seeds run beside all other tests of the session; the test that hears of them is moved to the end.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from random import Random

import pytest

from tests.simulation.beside import Beside
from worker.simulation.loop import SeededLoop

BESIDE = pytest.StashKey[Beside]()


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], SeededLoop]]:
    return {"seeded": lambda: SeededLoop(Random("tests"))}


def pytest_collection_finish(session: pytest.Session) -> None:
    hearing = [item for item in session.items if "seeds_beside" in getattr(item, "fixturenames", ())]
    if hearing and not session.config.option.collectonly:
        session.items[:] = [item for item in session.items if item not in hearing] + hearing
        session.config.stash[BESIDE] = Beside()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if BESIDE in session.config.stash:
        session.config.stash[BESIDE].end()


@pytest.fixture(scope="session")
def seeds_beside(request: pytest.FixtureRequest) -> Beside:
    """The seeds that have been running since the session began."""
    return request.config.stash[BESIDE]


@pytest.fixture(scope="package", autouse=True)
def _little_to_collect() -> Iterator[None]:
    """A seeded loop collects garbage when it is closed: not what was there before the first one."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
