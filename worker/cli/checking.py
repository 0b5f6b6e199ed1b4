"""`worker check`: the effective settings, and whether each dependency can be reached.

A probe changes nothing but that it makes a database where there is none: log and store are read, on Kafka what a worker
has to do is tried as far as it leaves no trace, agents and zones get a TCP connection that is closed again (nothing is
said over it, so no credential is either), and Jobs are looked for.
"""

import asyncio
import json
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from worker import bootstrap, settings
from worker.adapters.sqlite import SqliteLog
from worker.cli.exits import Exit, complain
from worker.cli.printing import columns, indented, say
from worker.errors import WorkerError
from worker.ports import Ports, Topic
from worker.settings import Settings

CONNECT_TIMEOUT_SECONDS = 3.0
DEFAULT_PORTS = {"http": 80, "https": 443}


class Probe(NamedTuple):
    """What was found of one dependency."""

    name: str
    ok: bool
    detail: str


async def check(*, as_json: bool) -> Exit:
    """Print both; on stderr, one line names the dependencies that cannot be used.  Raises Misconfigured."""
    given = settings.load()
    shown = settings.redacted(given)
    probes = await _probe_all(given, bootstrap.ports(given))
    if as_json:
        say([json.dumps({"settings": shown, "dependencies": [probe._asdict() for probe in probes]})])
    else:
        say(["settings", *indented(columns(shown.items()))])
        rows = [(probe.name, "ok" if probe.ok else "FAILED", probe.detail) for probe in probes]
        say(["dependencies", *indented(columns(rows))])
    failed = [probe.name for probe in probes if not probe.ok]
    if failed:
        complain(f"failed: {', '.join(failed)}")
    return Exit.WRONG if failed else Exit.DONE


async def _probe_all(given: Settings, ports: Ports) -> list[Probe]:
    remote = {f"agent {name}": str(fields["url"]) for name, fields in given.agents.items()}
    remote |= {f"zone {name}": str(fields["url"]) for name, fields in given.zones.items()}
    try:
        return [
            await _probe("store", _store(ports)),
            await _probe("log", _log(ports) if given.stack == "embedded" else _kafka(given)),
            *([await _probe("worker", _worker(bootstrap.database(given).path))] if given.stack == "embedded" else []),
            await _probe("jobs", _jobs(ports)),
            *await asyncio.gather(*(_probe(name, _connect(url)) for name, url in remote.items())),
        ]
    finally:
        await ports.jobs.stop()
        await ports.stream.stop()
        await ports.store.stop()


async def _probe(name: str, look: Awaitable[str]) -> Probe:
    try:
        return Probe(name, True, await look)
    except (WorkerError, OSError, TimeoutError) as error:
        return Probe(name, False, str(error) or type(error).__name__)


async def _store(ports: Ports) -> str:
    await ports.store.start()
    unsettled = await ports.store.list("unsettled/", limit=1000)
    return f"open, {len(unsettled)}{' or more' if len(unsettled) == 1000 else ''} unsettled"


async def _log(ports: Ports) -> str:
    bounds = await ports.stream.bounds(Topic.COMMANDS)
    return f"{len(bounds)} partitions, {sum(end - first for first, end in bounds.values())} commands"


async def _kafka(given: Settings) -> str:
    from worker.adapters.kafka import Connection
    from worker.adapters.kafka.trying import tried

    return await tried(Connection(given.kafka, given.command_bytes_max))


async def _worker(database: Path) -> str:
    pid = SqliteLog.holder(database)
    return "none runs on this file" if pid is None else f"pid {pid}"


async def _jobs(ports: Ports) -> str:
    await ports.jobs.start()
    await ports.jobs.find("")
    return "can be looked for"


async def _connect(url: str) -> str:
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port or DEFAULT_PORTS[parts.scheme]
    async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
        _, writer = await asyncio.open_connection(host, port)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return f"{host}:{port} accepts connections"
