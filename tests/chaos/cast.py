"""Who takes part: aggregates and a seeded story of commands for each, woven into one order.

What the crash test of the embedded stack tells of evaluations, sessions and orgs is told here as well
(tests/acceptance/load); new are real Jobs, turns at an executor, tasks at an agent, and records that stand in another
partition than their key's.  Nothing in here is malformed: there must be no dead letter.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from schemas.documents import HarnessMetadata, Job, SessionState, Task, Turn, WorkflowState
from tests.acceptance import load as loads
from tests.acceptance.load import JOB_LABEL, TEAM, TENANT, Load
from tests.chaos.plan import Size
from tests.chaos.stage import AGENT, DEADLINE_SECONDS, NAMESPACE, ZONE
from tests.integration.workload import POLITE, STUBBORN
from worker.ports import Outgoing, Topic


@dataclass(frozen=True, slots=True)
class Step:
    """One command to publish, its kind for the table; `elsewhere`: in another partition than its key's."""

    record: Outgoing
    kind: str
    elsewhere: bool = False
    late_job: str = ""
    """Name of a Job that runs and is reported by this record: the record then gets its uid."""


@dataclass(slots=True)
class Story:
    """The commands on one aggregate in their order, and the Jobs that must run before the first one."""

    steps: list[Step]
    evaluation: "Evaluation | None" = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Job to make: how its pods behave, how long they are given, whether the document knows it."""

    name: str
    script: str
    grace_seconds: int
    recorded: bool


@dataclass(slots=True)
class Cast:
    """Everything: stories in the order in which they begin, documents that need no Job, turns and tasks to start."""

    stories: list[Story] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=list)
    creations: list["Creation"] = field(default_factory=list)

    def with_jobs(self) -> "list[Evaluation]":
        """In the order in which their stories begin."""
        return [story.evaluation for story in self.stories if story.evaluation and story.evaluation.jobs]


def assemble(random: Random, size: Size) -> Cast:
    """So many aggregates of each sort and, filled up with reports, so many commands."""
    cast, load = Cast(), Load()
    evaluations = [Evaluation(load, random, jobs=i < size.with_jobs) for i in range(size.evaluations)]
    for evaluation in evaluations:
        doomed = random.random() < (0.85 if evaluation.jobs else 0.5)
        told = evaluation.cancelled(random.choice((1, 1, 2, 3))) if doomed else evaluation.kept()
        evaluation.is_doomed = doomed
        cast.stories.append(Story(evaluation.scattered(told), evaluation))
    for _ in range(size.sessions):
        cast.stories.append(Story([Step(step.record, step.kind) for step in loads.session(load, random)]))
    for _ in range(size.orgs):
        cast.stories.append(Story([Step(step.record, step.kind) for step in loads.org(load, random)]))
    cast.stories += [Story(_turns(cast, load, random)) for _ in range(size.turns)]
    for number in range(size.creations):
        creation = Creation(random, with_task=number % 5 > 0)
        cast.creations.append(creation)
        cast.stories.append(Story(creation.story()))
    cast.objects |= load.objects
    random.shuffle(cast.stories)
    _fill(random, cast.stories, size.commands)
    return cast


def woven(
    random: Random, stories: list[Story], at_once: int, is_ready: Callable[[Story], bool]
) -> Iterator[tuple[Story, Step] | None]:
    """All stories, each in its own order, `at_once` of them side by side; None: none that is left is ready to begin.

    They begin in the order of the list, but for those that are not ready: others do not wait for them.
    """
    waiting = [(story, iter(story.steps)) for story in reversed(stories)]
    playing: list[tuple[Story, Iterator[Step]]] = []
    while waiting or playing:
        opens = len(playing) < at_once
        begins = next((i for i in reversed(range(len(waiting))) if opens and is_ready(waiting[i][0])), None)
        if begins is not None:
            playing.append(waiting.pop(begins))
        elif not playing:
            yield None
            continue
        i = random.randrange(len(playing)) if begins is None else -1
        story, steps = playing[i]
        if step := next(steps, None):
            yield story, step
        else:
            playing[i] = playing[-1]
            playing.pop()


def _fill(random: Random, stories: list[Story], commands: int) -> None:
    """Reports of a phase here and there, up to the number that was asked for."""
    told = [story for story in stories if story.evaluation]
    missing = commands - sum(len(story.steps) for story in stories)
    assert missing >= 0, f"the stories are {-missing} commands longer than what was asked for"
    for _ in range(missing):
        story = random.choice(told)
        assert story.evaluation
        step = story.evaluation.phase()
        story.steps.insert(random.randint(0, len(story.steps)), Step(step.record, step.kind))


class Evaluation(loads.Evaluation):
    """An evaluation whose Jobs, if it has any, are real: they are made when its story is about to begin."""

    def __init__(self, load: Load, random: Random, *, jobs: bool) -> None:
        self._load, self._random = load, random
        self.name, self.pids = seeded_uuid(random), []
        self.is_doomed = False
        self.jobs: list[Wanted] = []
        self._folder = f"teams/{TEAM}/evaluations/{self.name}"
        if jobs:
            self.jobs = [self._job(i) for i in range(random.choice((1, 1, 1, 2)))]
        else:
            load.objects |= self.objects({})

    def _job(self, number: int) -> Wanted:
        stubborn = self._random.random() < 0.25
        return Wanted(
            name=f"eval-{self.name[:13]}-{number}",
            script=STUBBORN if stubborn else POLITE,
            grace_seconds=self._random.choice((1, 2, 3)) if stubborn else 30,
            recorded=self._random.random() < 0.85,  # what is not recorded is found by its label
        )

    def objects(self, uids: dict[str, str]) -> dict[str, bytes]:
        """Document, request and partial data, once the Jobs have these uids by name."""
        recorded = [job.name for job in self.jobs if job.recorded and job.name in uids]
        state = WorkflowState(
            workflow_id=self.name,
            team_id=TEAM,
            status="running",  # type: ignore[arg-type]  # pydantic makes it one
            jobs=tuple(Job(namespace=NAMESPACE, name=name, uid=uids[name]) for name in recorded),
        )
        partial = {f"{self._folder}/partial/{i}": b"x" for i in range(3 if self.jobs else 0)}
        return {f"{self._folder}/request.json": b"{}", **partial, f"workflows/{self.name}.json": _document(state)}

    def scattered(self, steps: list[loads.Step]) -> list[Step]:
        """Some repetitions stand in another partition than their key's, some late Jobs are reported."""
        told = []
        for step in steps:
            elsewhere = step.kind == "cancel, same id again" and self._random.random() < 0.3
            kind = "cancel, same id elsewhere" if elsewhere else step.kind
            told.append(Step(step.record, kind, elsewhere, self._late(step)))
        return told

    def _late(self, step: loads.Step) -> str:
        return f"late-{self.name[:13]}" if step.kind == "update, late Job" else ""

    def _late_job(self) -> loads.Step:
        """A Job that runs unrecorded, and is reported after the cancel was asked for; of those with Jobs only."""
        name = f"late-{self.name[:13]}"
        if not self.jobs or any(job.name == name for job in self.jobs):
            return self.phase()
        self.jobs.append(Wanted(name, POLITE, 30, recorded=False))
        job = {"namespace": NAMESPACE, "name": name, "uid": "", "labels": {JOB_LABEL: self.name}}
        return self._command("update, late Job", "workflow.update", job=job)

    def _malformed(self) -> loads.Step:
        return self._refused()

    def _cancel(self, kind: str) -> loads.Step:
        mode, grace_seconds = self._random.choice((("graceful", 1), ("graceful", 3), ("force", 30)))
        options = {"mode": mode, "grace_period_seconds": grace_seconds, "cleanup": self._random.random() < 0.8}
        return self._command(kind, "evaluation.cancel", **options, deadline_seconds=DEADLINE_SECONDS)


class Creation:
    """The creation of a custom harness: a task at the agent, or nothing that runs."""

    def __init__(self, random: Random, *, with_task: bool) -> None:
        self._random = random
        self.harness_id, self.workflow_id = seeded_uuid(random), seeded_uuid(random)
        refusing_seconds = random.choice((0, 0, 1))
        self.wish: dict[str, Any] | None = None
        if with_task:
            self.wish = {"thing": self.harness_id, "finishes": random.random() < 0.15}
            self.wish["not_cancelable_seconds"] = refusing_seconds

    def objects(self, task_id: str | None, session_id: str | None) -> dict[str, bytes]:
        """The documents, once the task has these ids."""
        state = WorkflowState(
            workflow_id=self.workflow_id,
            purpose="custom_harness",
            team_id=TEAM,
            harness_id=self.harness_id,
            status="running",  # type: ignore[arg-type]  # pydantic makes it one
            workflow_specific_fields=Task(agent=AGENT, task_id=task_id, session_id=session_id) if task_id else None,
        )
        metadata = HarnessMetadata(harness_id=self.harness_id, team_id=TEAM, workflow_id=self.workflow_id)
        return {
            f"workflows/{self.workflow_id}.json": _document(state),
            f"custom-harnesses/{self.harness_id}/metadata.json": metadata.model_dump_json().encode(),
        }

    def story(self) -> list[Step]:
        """Reports, a cancel, others that join or come too late, the same one again."""
        first = self._cancel("creation cancel")
        rest = [Step(first.record, "creation cancel, same id again"), self._cancel("creation cancel"), self._report()]
        self._random.shuffle(rest)
        return [self._report(), first, *rest]

    def _cancel(self, kind: str) -> Step:
        data = {"harness_id": self.harness_id, "team_id": TEAM, "deadline_seconds": DEADLINE_SECONDS}
        return self._step(kind, "custom_harness.cancel", data)

    def _report(self) -> Step:
        phase = f"phase {self._random.randrange(1000)}"
        return self._step("creation update", "workflow.update", {"harness_id": self.harness_id, "phase": phase})

    def _step(self, kind: str, type: str, data: dict[str, Any]) -> Step:
        return Step(loads.message(type, f"custom-harness/{self.harness_id}", data, self._random), kind)


def _turns(cast: Cast, load: Load, random: Random) -> list[Step]:
    """A session whose turn runs at the executor, is cancelled, reported on, and followed by another one."""
    name = "01" + "".join(random.choices("0123456789abcdefghjkmnpqrstvwxyz", k=24)) + f".{ZONE}"
    turn_id = f"turn-{name[2:10]}"
    finishes = random.random() < 0.2
    wish: dict[str, Any] = {"turn_id": turn_id, "session_id": name, "outcome": random.choice(("succeeded", "failed"))}
    wish |= {"finishes_after_seconds": 1} if finishes else {"ignores_cancel_seconds": random.choice((0, 0, 1))}
    cast.turns.append(wish)
    turn = Turn(turn_id=turn_id, number=1, status="running")  # type: ignore[arg-type]  # pydantic makes it one
    load.objects[f"sessions/{name}.json"] = _document(SessionState(session_id=name, tenant=TENANT, turn=turn))

    def step(kind: str, type: str, **data: Any) -> Step:
        return Step(loads.message(type, f"session/{name}", {"session_id": name, **data}, random), kind)

    first = step("session cancel", "session.cancel", deadline_seconds=DEADLINE_SECONDS)
    late = step("turn.update", "turn.update", turn_id=turn_id, turn_number=1, status="done")
    rest = [Step(first.record, "session cancel, same id again"), late, late]
    rest.append(step("session cancel", "session.cancel", turn_id=turn_id, deadline_seconds=DEADLINE_SECONDS))
    random.shuffle(rest)
    second = step("turn.update", "turn.update", turn_id=f"{turn_id}-2", turn_number=2, status="running")
    third = step("session cancel", "session.cancel", deadline_seconds=DEADLINE_SECONDS)
    closed = step("session.update", "session.update", status="closed")
    return [first, *rest, second, third, closed]


def with_uid(step: Step, uid: str) -> Outgoing:
    """The record of a late Job's report, once the Job has this uid."""
    value = json.loads(step.record.value)
    where = value.get("data", value)
    where["job"]["uid"] = uid
    return Outgoing(Topic.COMMANDS, step.record.key, json.dumps(value).encode(), step.record.headers)


def seeded_uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def _document(state: WorkflowState | SessionState) -> bytes:
    return json.dumps({"state": state.model_dump(mode="json")}).encode()
