"""The real process: how long `worker --help` and a start take, and what it holds with 10,000 commands queued.

The CPU stands beside each time: on a busy machine the time says how busy it is.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from tests.benchmarks import load
from tests.benchmarks.report import Report

WORKER = Path(sys.executable).with_name("worker")
TIMES = 5
QUEUED = int(os.environ.get("BENCH_COMMANDS", "10000"))


def test_help(report: Report) -> None:
    def once() -> tuple[float, float]:
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([WORKER, "--help"], check=True, capture_output=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    walls, cpus = zip(*(once() for _ in range(TIMES)), strict=True)
    report.add("worker --help, median of 5", median(walls), "s", goal=0.3)
    report.add("worker --help, CPU, median of 5", median(cpus), "s")


async def test_start_to_ready(report: Report, tmp_path: Path) -> None:
    """On a fresh folder each time: the file and its tables are made, too."""

    async def once(i: int) -> tuple[float, float]:
        began = time.perf_counter()
        async with running(tmp_path / str(i)) as pid:
            return time.perf_counter() - began, cpu_seconds(pid)

    walls, cpus = zip(*[await once(i) for i in range(TIMES)], strict=True)
    report.add("start to ready, median of 5", median(walls), "s", goal=1)
    report.add("start to ready, CPU, median of 5", median(cpus), "s")


async def test_memory_with_commands_queued(report: Report, tmp_path: Path) -> None:
    """The peak of the resident set from the start until all of them are answered, each on a key of its own."""
    ports = load.embedded(tmp_path)
    await ports.store.start()
    await load.create_documents(ports.store, range(QUEUED))
    await ports.stream.publish(load.updates(QUEUED, QUEUED, report.seed))
    async with running(tmp_path) as pid:
        at_ready = peak_mib(pid)
        await load.answered(ports.stream, QUEUED)
        report.add("peak memory, ready", at_ready, "MiB")
        report.add(f"peak memory, {QUEUED} commands queued and answered", peak_mib(pid), "MiB", goal=300)
    await ports.store.stop()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[int]:
    """A worker over this folder, from when it says that it is ready; -> its pid."""
    environment = {
        **os.environ,
        "WORKER_DATA_DIR": str(folder),
        "WORKER_PARTITIONS": str(load.PARTITIONS),
        "WORKER_PROBES_PORT": "0",
        "WORKER_LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(WORKER, "run", env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None, "it is a pipe"
    drained = None
    try:
        async for line in process.stdout:
            if json.loads(line)["event"] == "worker.ready":
                break
        assert process.returncode is None, "it became ready"
        drained = asyncio.create_task(_drain(process.stdout))
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        if drained is not None:
            await drained
        await process.wait()


async def _drain(lines: asyncio.StreamReader) -> None:
    while await lines.read(65536):
        pass


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """The peak of the resident set, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
