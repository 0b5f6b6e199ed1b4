"""The command line, loaded once for all tests of this tier."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.beside import Beside
from tests.acceptance.forked import Forked


@pytest.fixture(scope="session")
def forked() -> Iterator[Forked]:
    with Forked() as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path, forked: Forked) -> Beside:
    """Beside nobody, in a folder that is empty."""
    return Beside(tmp_path, forked)
