"""The longest pause of a partition while workers come and go under load; and that nothing is lost or doubled.

Two workers and an even stream of updates; a third one joins, leaves on SIGTERM, and the second one is killed.  A pause
is the time between two verdicts of a partition, by the broker's clock, as far as a command of it waited; that of quiet
times stands beside the others.  After a kill, the session has to time out first.
"""

import asyncio
import itertools
import random
import time

from tests.benchmarks import load
from tests.benchmarks.report import Report
from tests.benchmarks.services.fleet import PARTITIONS, Fleet
from tests.benchmarks.services.keys import balanced
from tests.benchmarks.services.traffic import Traffic

LATENCY_SECONDS = 0.05
EVALUATIONS = balanced(PARTITIONS, 25)
COMMANDS_PER_SECOND = 40
CALM_SECONDS = 6.0
SESSION_TIMEOUT_SECONDS = 10.0


async def test_longest_pause_of_a_partition(report: Report, fleet: Fleet) -> None:
    await fleet.create_documents(EVALUATIONS)
    fleet.proxy.latency_seconds = LATENCY_SECONDS
    _, second = await fleet.hire(2)
    with Traffic(fleet.bootstrap_servers, fleet.topic_prefix, PARTITIONS) as traffic:
        over = asyncio.Event()
        publishing = asyncio.create_task(publish(traffic, report.seed, over))
        await asyncio.to_thread(traffic.await_verdicts, len(EVALUATIONS))
        began = {"nothing moves": time.time()}
        await asyncio.sleep(CALM_SECONDS)
        began["a worker joins"] = time.time()
        [third] = await fleet.hire(1)
        await asyncio.sleep(CALM_SECONDS)
        began["a worker leaves"] = time.time()
        await fleet.dismiss(third)
        await asyncio.sleep(CALM_SECONDS)
        began[f"a worker is killed, its session lasts {SESSION_TIMEOUT_SECONDS:g} s"] = time.time()
        await fleet.kill(second)
        await asyncio.sleep(SESSION_TIMEOUT_SECONDS + CALM_SECONDS)
        over.set()
        published = await publishing
        await asyncio.to_thread(traffic.await_verdicts, published - len(traffic.answered))
        await asyncio.to_thread(traffic.check)
    pauses = traffic.pauses()
    ends = [*list(began.values())[1:], float("inf")]
    for (what, start), end in zip(began.items(), ends, strict=True):
        longest = max(pause.seconds for pause in pauses if start <= pause.ended < end)
        report.add(f"longest pause of a partition, {what}", longest, "s")
    report.add("commands meanwhile, each with exactly one verdict", published, "")


async def publish(traffic: Traffic, seed: int, over: asyncio.Event) -> int:
    """Updates in an even stream, until told to stop -> how many."""
    chance = random.Random(seed)  # noqa: S311  # an order, no secret
    began = time.monotonic()
    for i in itertools.count():
        if over.is_set():
            return i
        await asyncio.to_thread(traffic.publish, [load.update(i, chance.choice(EVALUATIONS))])
        await asyncio.sleep(began + (i + 1) / COMMANDS_PER_SECOND - time.monotonic())
    raise AssertionError("it counts for ever")
