"""The run: the cast's commands go out, faults strike at their shares of the answers, until all is answered.

The plan follows from the seed; that a fault strikes in the middle of something is waited for.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from tests.chaos import cast as casts
from tests.chaos import plan
from tests.chaos.faults import Faults
from tests.chaos.fleet import Fleet
from tests.chaos.jobs import Bystander, Jobs, bystanders, manifest
from tests.chaos.plan import NEEDED, Kind, Size
from tests.chaos.stage import PARTITIONS, Stage
from tests.chaos.tier import Tier

WORKERS = ("worker-1", "worker-2", "worker-3")
BYSTANDERS = "chaos/bystanders"
BYSTANDERS_COUNT = 10
REST_SECONDS = 180.0
SPARE_SHARE = 0.1
"""Of the commands, kept for the time after the last fault."""
TRIES_MORE = 6
"""For kinds of faults that have not struck often enough."""
LOOK_SECONDS = 0.02
PUTS_AT_ONCE = 16
AWAY_SECONDS = 90.0


class Play:
    """One run in one folder; what it counted stays readable after it."""

    def __init__(self, size: Size, seed: int, folder: Path) -> None:
        self.size, self.folder = size, folder
        self._weaving, self._striking = (Random(f"{seed} {what}") for what in ("weaving", "striking"))  # noqa: S311
        self.cast = casts.assemble(Random(seed), size)  # noqa: S311  # a story, no secret
        self.order = plan.order(self._striking, size)
        self.published: Counter[str] = Counter()
        self.wrong: list[str] = []
        """What makes the run worth nothing, whatever the checker finds."""
        self.seconds = 0.0
        self._is_over = False
        self._puts = asyncio.Semaphore(PUTS_AT_ONCE)

    async def go(self, gather: Callable[[Stage], Awaitable[None]]) -> None:
        """Everything, from the servers to the evidence, which `gather` takes while they run; failed or not."""
        tell("starting servers")
        async with Stage(self.folder, WORKERS) as self.stage:
            try:
                async with AsyncExitStack() as opened:
                    await self._go(opened)
            finally:  # with everybody gone who could still change something
                await self.stage.revive()
                await gather(self.stage)

    async def _go(self, opened: AsyncExitStack) -> None:
        tell("Jobs, documents, turns and tasks")
        self.jobs = Jobs(self.stage.client)
        others = await self._set()
        tell("starting workers")
        self.fleet = await opened.enter_async_context(Fleet(WORKERS, self.stage.environment, self.folder))
        tier = Tier(self.stage.bootstrap_servers, self.stage.prefix, PARTITIONS)
        self.tier = await opened.enter_async_context(tier)
        self.faults = Faults(self.stage, self.fleet, self.tier, self._striking)
        began = time.monotonic()
        async with self.jobs.prepared(self.cast.with_jobs(), self._put), asyncio.TaskGroup() as group:
            group.create_task(self._publish())
            group.create_task(self._strike())
        await self._rest()
        self.seconds = time.monotonic() - began
        await self._put({BYSTANDERS: manifest([*others, *map(self.jobs.bystander, self._kept())])})
        codes = await self.fleet.drain()
        self.wrong += [f"a drained worker's exit code is {code}" for code in codes if code != 0]
        self.wrong += self.fleet.bugs()
        tell("all is answered; gathering what is left")

    # ------------------------------------------------------------------------------ before it begins

    async def _set(self) -> list[Bystander]:
        """Documents, turns, tasks, bystanders."""
        doomed = [evaluation for evaluation in self.cast.with_jobs() if evaluation.is_doomed]
        found, *_ = await asyncio.gather(
            bystanders(self.jobs, doomed, BYSTANDERS_COUNT), self._put(self.cast.objects), self._start_remote()
        )
        return found

    async def _start_remote(self) -> None:
        async with aiohttp.ClientSession() as http:
            for turn in self.cast.turns:
                async with http.post(f"{self.stage.executor_url}/v1/turns", json=turn) as response:
                    response.raise_for_status()
            for creation in self.cast.creations:
                ids = await _start_task(http, self.stage.agent_url, creation) if creation.wish else (None, None)
                await self._put(creation.objects(*ids))

    async def _put(self, objects: dict[str, bytes]) -> None:
        """All of them, as often as it takes while the server is away.  Raises TimeoutError."""

        async def put(key: str, body: bytes) -> None:
            async with self._puts, asyncio.timeout(AWAY_SECONDS):
                while True:
                    try:
                        arguments = {"Bucket": self.stage.bucket, "Key": key, "Body": body}
                        await asyncio.to_thread(self.stage.s3.put_object, **arguments)
                    except (BotoCoreError, ClientError):
                        await asyncio.sleep(0.3)
                    else:
                        return

        await asyncio.gather(*(put(key, body) for key, body in objects.items()))

    def _kept(self) -> list[str]:
        """Names of the Jobs of evaluations that nobody may cancel."""
        return [job.name for each in self.cast.with_jobs() if not each.is_doomed for job in each.jobs]

    # ------------------------------------------------------------------------------ while it goes on

    async def _publish(self) -> None:
        """A bounded number is unanswered at a time, and none is sent before its share's fault has begun."""
        stories = self.cast.stories
        for told in casts.woven(self._weaving, stories, self.size.stories_at_once, self._is_ready):
            if told is None:
                await self._pause()
                continue
            while self.tier.unanswered >= self.size.unanswered_max or self.tier.sent >= self._allowed():
                await self._pause()
            self._send(*told)
        await asyncio.to_thread(self.tier.flush)
        self.wrong += self.tier.lost

    async def _pause(self) -> None:
        self.tier.serve()
        await asyncio.sleep(LOOK_SECONDS)

    def _is_ready(self, story: casts.Story) -> bool:
        return not story.evaluation or not story.evaluation.jobs or self.jobs.is_ready(story.evaluation)

    def _send(self, story: casts.Story, step: casts.Step) -> None:
        if story.evaluation:
            self.jobs.begins(story.evaluation)
        record = casts.with_uid(step, self.jobs.uids[step.late_job]) if step.late_job else step.record
        self.tier.publish(record, elsewhere=step.elsewhere)
        self.published[step.kind] += 1

    def _allowed(self) -> float:
        """How many commands may be sent: to the end of this fault's share, or for as long as it waits; then all."""
        if self._is_over:
            return self.size.commands
        share = self._share(len(self.faults.strikes) + 1)
        return self.size.commands * max(share, 1 - SPARE_SHARE / 2 if self.faults.waits else 0)

    def _share(self, number: float) -> float:
        """Of the commands: what is sent or answered when this many faults have struck; some are for afterwards."""
        return (1 - SPARE_SHARE) * number / len(self.order)

    async def _strike(self) -> None:
        """The plan, and again what has not struck often enough."""
        for number, kind in enumerate(self.order):
            due = self.size.commands * self._share(number + 0.5) * 0.9
            while self.tier.answered < due:  # noqa: ASYNC110  # a thread counts
                await asyncio.sleep(LOOK_SECONDS)
            await self._strike_once(kind)
        for _ in range(TRIES_MORE):
            if few := [kind for kind in Kind if self.faults.counted[kind] < NEEDED]:
                await self._strike_once(few[0])
        self._is_over = True

    async def _strike_once(self, kind: Kind) -> None:
        struck = await self.faults.strike(kind)
        note = f"{struck.unanswered} unanswered{'' if struck.counts else '; does not count'}"
        tell(f"{self.tier.answered:6} answered  {kind}: {struck.whom}, {struck.during} ({note})")

    async def _rest(self) -> None:
        """Until everything is answered, with nothing done to anybody."""
        await self.stage.revive()
        until = time.monotonic() + REST_SECONDS
        while self.tier.unanswered and time.monotonic() < until:
            await self._pause()
        if self.tier.unanswered:
            self.wrong.append(f"{self.tier.unanswered} commands are unanswered {REST_SECONDS:g} s after the last fault")
        few = {kind for kind in Kind if self.faults.counted[kind] < NEEDED}
        self.wrong += [f"{kind}: struck {self.faults.counted[kind]} times while work was in flight" for kind in few]


def tell(what: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {what}\n")
    sys.stdout.flush()


async def _start_task(http: aiohttp.ClientSession, url: str, creation: casts.Creation) -> tuple[str, str]:
    """-> (task id, context id) at the agent."""
    parts = [{"text": json.dumps(creation.wish)}]
    message = {"messageId": creation.workflow_id, "role": "ROLE_USER", "parts": parts}
    params = {"message": message, "configuration": {"returnImmediately": True}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
    async with http.post(url, json=body, headers={"A2A-Version": "1.0"}) as response:
        task = (await response.json())["result"]["task"]
    return task["id"], task["contextId"]
