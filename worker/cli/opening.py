"""Ports for a command that works beside the worker: opened, handed over, released.

The composition root and all that it composes are loaded here, so that what is wrong with the input is said without it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from worker.client import Client
from worker.errors import Misconfigured
from worker.ports import Ports


@asynccontextmanager
async def opened(*, makes: bool = False, writes: bool = False) -> AsyncIterator[tuple[Ports, Client]]:
    """Store and stream of the configured stack, and a client on them.  Raises Misconfigured, Unavailable.

    Whoever only reads makes nothing: a folder without a database is one that was mistyped, not an empty log.  The store
    is written to, and be it by the probe at its start, only by who says so.
    """
    from worker import bootstrap, settings

    given = settings.load()
    ports = bootstrap.ports(given, writes=writes)
    if given.stack == "embedded" and not makes and _is_missing(file := bootstrap.database(given).path):
        makers = "`worker run`, `create` or `send` makes it"
        raise Misconfigured(f"WORKER_DATA_DIR: {file.parent} has no {file.name}; {makers}")
    await ports.store.start()
    try:
        async with Client(ports.stream, ports.store) as client:
            yield ports, client
    finally:
        await ports.stream.stop()
        await ports.store.stop()


def _is_missing(file: Path) -> bool:
    """Where that cannot be told, whoever opens it says why."""
    try:
        return not file.exists()
    except OSError:
        return False
