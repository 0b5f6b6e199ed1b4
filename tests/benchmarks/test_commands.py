"""Commands per second, and CPU per command, with `workflow.update` over 1, 100 and 10,000 keys.

Every command is applied: one document write, one verdict, one audit record.  Measured is the engine in this process,
from its start to the last committed verdict, everything having been published before:

- embedded: over the SQLite log and store, durable; CPU of all threads, the writer's included.
- outside of the store: the same over a log and a store in memory, which cost a few microseconds a call; so this is the
  CPU of decoding, deciding, audit, (de)serialisation, lanes, commit and log lines.
"""

import os
from pathlib import Path

import pytest

from tests.benchmarks import load
from tests.benchmarks.report import Report
from worker.ports import Ports

COMMANDS = int(os.environ.get("BENCH_COMMANDS", "10000"))
KEYS = (1, 100, 10_000)


@pytest.mark.parametrize("keys", KEYS)
async def test_embedded(report: Report, tmp_path: Path, keys: int) -> None:
    spent = await run(load.embedded(tmp_path), keys, report.seed)
    report.add(f"embedded, {keys} keys: commands", COMMANDS / spent.wall_seconds, "per second")
    report.add(f"embedded, {keys} keys: CPU of a command", spent.cpu_seconds / COMMANDS * 1e3, "ms")


@pytest.mark.parametrize("keys", KEYS)
async def test_outside_of_the_store(report: Report, keys: int) -> None:
    spent = await run(load.in_memory(), keys, report.seed)
    report.add(f"outside of the store, {keys} keys: CPU of a command", spent.cpu_seconds / COMMANDS * 1e3, "ms")


async def run(ports: Ports, keys: int, seed: int) -> load.Spent:
    await ports.store.start()
    await load.create_documents(ports.store, range(keys))
    return await load.decide_all(ports, load.updates(COMMANDS, keys, seed))
