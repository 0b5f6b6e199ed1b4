"""Verdicts per second with 1, 2 and 4 workers, the object store 50 ms away.

So that the way to the store is the bound, and not the two cores of a small machine, each worker has `CONNECTIONS`
connections to it and can write at most CONNECTIONS / 50 ms documents a second.  With so little in flight every verdict
is a transaction of its own, which doubles its CPU; with the default of 128 connections one worker alone keeps the cores
busy, as the last rate shows.  How busy the machine was stands beside each rate, other people's programs included: near
1, the cores were the bound after all.

Each round updates every evaluation once, so no write holds two commands; the first round, in which each document is
read, is not counted.  Partitions and evaluations are spread evenly.
"""

import asyncio
import os
import time
from statistics import median

import pytest

from tests.benchmarks import load
from tests.benchmarks.report import Report
from tests.benchmarks.services.fleet import PARTITIONS, Fleet, machine_seconds
from tests.benchmarks.services.keys import balanced
from tests.benchmarks.services.traffic import Traffic

LATENCY_SECONDS = 0.05
CONNECTIONS = 1
CONNECTIONS_BY_DEFAULT = 128
EVALUATIONS = balanced(PARTITIONS, 15)
ROUNDS = 3
WORKERS = (1, 2, 4)
GOALS = {4: 3.5}
CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize("workers", WORKERS)
async def test_verdicts_per_second(report: Report, fleet: Fleet, workers: int) -> None:
    rate = await measure(report, fleet, workers, CONNECTIONS, f"workers, {workers}")
    possible = workers * CONNECTIONS / LATENCY_SECONDS
    report.add(f"workers, {workers}: of what the latency allows", rate / possible, "")


async def test_one_worker_as_it_comes(report: Report, fleet: Fleet) -> None:
    await measure(report, fleet, 1, CONNECTIONS_BY_DEFAULT, f"workers, 1, {CONNECTIONS_BY_DEFAULT} connections")


async def measure(report: Report, fleet: Fleet, workers: int, connections: int, name: str) -> float:
    """-> verdicts per second, the median of some rounds; takes it down, with the CPU that it took."""
    await fleet.create_documents(EVALUATIONS)
    fleet.proxy.latency_seconds = LATENCY_SECONDS
    await fleet.hire(workers, WORKER_S3__CONNECTIONS_MAX=str(connections))
    with Traffic(fleet.bootstrap_servers, fleet.topic_prefix, PARTITIONS) as traffic:
        await one_round(traffic, 0)
        before = fleet.cpu_seconds
        rates, shares = zip(*[await one_round(traffic, i + 1) for i in range(ROUNDS)], strict=True)
        spent = fleet.cpu_seconds - before
        await asyncio.to_thread(traffic.check)
    assert set(traffic.codes) == {"updated"}
    rate: float = median(rates)
    report.add(f"{name}: verdicts", rate, "per second")
    report.add(f"{name}: CPU of a verdict, the workers' own", spent / ROUNDS / len(EVALUATIONS) * 1e3, "ms")
    report.add(f"{name}: share of {CORES} cores that were busy", median(shares), "")
    return rate


async def one_round(traffic: Traffic, number: int) -> tuple[float, float]:
    """Update each evaluation once -> verdicts per second, and how busy the whole machine was meanwhile, 0 to 1."""
    count = len(EVALUATIONS)
    updates = [load.update(number * count + i, n) for i, n in enumerate(EVALUATIONS)]
    began, busy = time.time(), machine_seconds()
    await asyncio.to_thread(traffic.publish, updates)
    times = await asyncio.to_thread(traffic.await_verdicts, count)
    share = (machine_seconds() - busy) / (time.time() - began) / CORES
    # From the publishing on: between first and last verdict alone, what was decided before the first would come free.
    return count / (times[-1] - began), share


def test_ratios(report: Report) -> None:
    """Of those that were measured in this run."""
    measured = {figure.name: figure.value for figure in report.figures}
    for workers in WORKERS[1:]:
        if {rate_of(1), rate_of(workers)} <= measured.keys():
            ratio = measured[rate_of(workers)] / measured[rate_of(1)]
            goal = GOALS.get(workers)
            report.add(f"ratio: verdicts of {workers} workers / of 1", ratio, "", goal, more_is_better=True)


def rate_of(workers: int) -> str:
    return f"workers, {workers}: verdicts"
