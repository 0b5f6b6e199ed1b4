"""Publishes the steps of a scene, and holds every verdict against what the contract promises."""

import asyncio
from typing import Any

from schemas.verdicts import Verdict
from worker.demo.judging import Answer, Check, differences
from worker.demo.publishing import At, Verdicts, message, record_key
from worker.demo.step import Scene, Step
from worker.demo.world import World
from worker.ports import Outgoing, Topic

VERDICT_TIMEOUT_SECONDS = 20.0


class Stage:
    """Publishes and judges; remembers the answers that later steps and checks refer to."""

    def __init__(self, world: World, verdicts: Verdicts) -> None:
        self._world, self._verdicts = world, verdicts
        self._answers: list[Answer] = []
        self._unmarked: list[str] = []
        self._first_records: dict[str, Outgoing] = {}
        self._first_bodies: dict[str, bytes] = {}

    async def scene(self, scene: Scene) -> list[Answer]:
        """Publish all steps in order; -> their answers, once the last verdict is here."""
        ids = [step.id or f"demo-{len(self._answers) + number}" for number, step in enumerate(scene.steps, 1)]
        records = [await self._record(*row) for row in zip(scene.steps, ids, strict=True)]
        places = await self._world.stream.publish(records)
        bodies = await asyncio.gather(*(self._verdicts.of(at, VERDICT_TIMEOUT_SECONDS) for at in places))
        answers = [self._answer(*row) for row in zip(scene.steps, ids, places, bodies, strict=True)]
        self._answers += answers
        return answers

    async def settled(self) -> list[Check]:
        """Each record has one verdict; nothing is a dead letter but what was broken on purpose."""
        wrong = [answer.command_id for answer in self._answers if self._verdicts.count(answer.at) != 1]
        bounds = await self._world.stream.bounds(Topic.DEAD_LETTERS)
        letters = sum(end - first for first, end in bounds.values())
        broken = sum(answer.step.form == "broken" for answer in self._answers)
        seen = f"{len(self._answers)} commands"
        lettered = f"{letters} dead letter{'s' * (letters != 1)}"
        return [
            Check("each command record has one verdict", not wrong, ", ".join(wrong) or seen),
            Check("only the broken record is a dead letter", letters == broken == 1, lettered),
            Check("what is unsettled has a marker", not self._unmarked, ", ".join(self._unmarked) or "it has"),
        ]

    async def _record(self, step: Step, command_id: str) -> Outgoing:
        if step.again:
            return self._first_records[command_id]
        address = self._world.addresses[step.target]
        extra: dict[str, Any] = {}
        if step.starts_job:
            job = self._world.start_job(step.target)
            labels = {self._world.job_label: address["evaluation_id"]}
            extra["job"] = {"namespace": job.namespace, "name": job.name, "uid": job.uid, "labels": labels}
        if step.type.endswith(".resume"):
            extra["marker"] = await self._marker(step)
        record = message(step, command_id, address, extra)
        self._first_records.setdefault(command_id, record)
        return record

    async def _marker(self, step: Step) -> str:
        """The key of the marker that the target's teardown has left for the reconciler."""
        prefix = f"unsettled/{record_key(self._world.addresses[step.target])}/"
        keys = await self._world.store.list(prefix)
        if not keys:
            self._unmarked.append(step.target)
        return keys[0] if keys else prefix + "0"

    def _answer(self, step: Step, command_id: str, at: At, body: bytes | None) -> Answer:
        if body is None:
            return Answer(step, command_id, at, None, (f"no verdict within {VERDICT_TIMEOUT_SECONDS:g} s",))
        verdict = Verdict.model_validate_json(body)
        first = self._first_bodies.setdefault(command_id, body)
        amiss = [*differences(step.expected, verdict)]
        if step.expected.same_bytes and body != first:
            amiss.append("other bytes than the first time")
        return Answer(step, command_id, at, verdict, tuple(amiss))
