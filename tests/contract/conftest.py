"""The stack that most tests of the whole way share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.stack import Stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path)
    await stack.store.start()
    yield stack
    await stack.engine.stop()
