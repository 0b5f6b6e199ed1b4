"""Ports for a command that works beside the worker: opened, handed over, released.

The composition root and all that it composes are loaded here, so that what is wrong with the input is said without it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.client import Client
from worker.ports import Ports


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Ports, Client]]:
    """Store and stream of the configured stack, and a client on them.  Raises Misconfigured, Unavailable."""
    from worker import bootstrap, settings

    ports = bootstrap.ports(settings.load())
    await ports.store.start()
    try:
        async with Client(ports.stream, ports.store) as client:
            yield ports, client
    finally:
        await ports.stream.stop()
        await ports.store.stop()
