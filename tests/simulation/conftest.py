"""Async tests of this tier run on a seeded loop, in virtual time; nothing of the outside is there."""

import gc
from collections.abc import Callable, Iterator, Mapping
from random import Random

import pytest

from worker.simulation.loop import SeededLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], SeededLoop]]:
    return {"seeded": lambda: SeededLoop(Random("tests"))}


@pytest.fixture(scope="package", autouse=True)
def _little_to_collect() -> Iterator[None]:
    """A seeded loop collects garbage when it is closed: not what was there before the first one."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
