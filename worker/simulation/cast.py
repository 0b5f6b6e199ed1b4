"""The aggregates of one simulation, and what their owners, executors and people say about them, as data.

Each has something running (Jobs, a task, a turn) and a memory of what it was told, from which its next command follows,
mostly sensible, sometimes late, twice or out of place.  Knows the published language, and nothing of when and where
commands are sent.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from schemas.documents import Document, HarnessMetadata, Job, OrgState, SessionState, Task, Turn, WorkflowState
from schemas.harness import Harness, HarnessEntry
from schemas.status import Status
from worker.ports import JobIdentity

TEAM, TENANT, ORG = "team-1", "tenant-1", "org-1"
PERMISSIONS = ("agent:write", "session:write", "harness:manage", "workflow:report")
ADA = {"subject": "ada", "team_ids": [TEAM], "tenant": TENANT, "org_id": ORG, "permissions": list(PERMISSIONS)}
EVE = ADA | {"subject": "eve", "team_ids": ["team-2"], "tenant": "tenant-2", "org_id": "org-2"}
BOB = ADA | {"subject": "bob", "permissions": ["harness:view"]}
PARTIAL_OBJECTS = 3


@dataclass(frozen=True, slots=True)
class Say:
    """A command to be sent; `follows`: what the world does right before."""

    type: str
    key: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the cast starts in the simulated world."""

    label: str
    """Label of Jobs, which holds the evaluation's id."""
    agents: Sequence[str]
    zones: Sequence[str]
    job: Callable[[str], JobIdentity]
    """Start a Job under an evaluation's label."""
    task: Callable[[str, str], object]
    """Start a task at an agent."""
    turn: Callable[[str, str, str], object]
    """Start a turn in a zone: zone, session id, turn id."""


@dataclass(slots=True)
class Cast:
    """Everybody, and the objects that have to be in the store before the first command."""

    players: list["Player"] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    bystanders: list[JobIdentity] = field(default_factory=list)
    """Jobs that no command is about."""


class Player(ABC):
    """One aggregate."""

    key: str

    @abstractmethod
    def next(self, random: Random) -> Say:
        """Its next command."""


def uuid(random: Random) -> str:
    """A version 4 UUID."""
    bits = (random.getrandbits(128) & ~(0xF << 76) & ~(0xC << 60)) | (4 << 76) | (8 << 60)
    text = f"{bits:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def assemble(random: Random, stage: Stage, aggregates: int, now: datetime) -> Cast:
    """So many aggregates: evaluations for the most part, one org at least, sessions and creations."""
    cast = Cast()
    makers: list[Callable[[Random, Stage, Cast, datetime], Player]] = [Org]
    makers += random.choices((Evaluation, Creation, Session), weights=(6, 2, 3), k=max(aggregates - 1, 1))
    cast.players = [make(random, stage, cast, now) for make in makers]
    cast.bystanders = [stage.job(uuid(random)) for _ in range(2)]
    return cast


def _who(random: Random) -> dict[str, Any]:
    """Mostly whoever may."""
    return random.choices((ADA, EVE, BOB), weights=(94, 3, 3))[0]


def _cancel_options(random: Random) -> dict[str, Any]:
    options: dict[str, Any] = {"grace_period_seconds": random.choice((0, 1, 5, 30)), "cleanup": random.random() < 0.9}
    if random.random() < 0.3:
        options["mode"] = "force"
    if random.random() < 0.5:
        options["deadline_seconds"] = random.choice((10, 30, 60, 120))
    if random.random() < 0.03:
        options["dry_run"] = True
    return options


def _body(state: WorkflowState | SessionState | OrgState) -> bytes:
    return Document(state=state).model_dump_json().encode()


class Evaluation(Player):
    """An evaluation with no Job, one or two; some are not recorded, some begin late."""

    def __init__(self, random: Random, stage: Stage, cast: Cast, now: datetime) -> None:
        self.id = uuid(random)
        self.key = f"evaluation/{self.id}"
        self._stage = stage
        self._reported = 0
        jobs = [stage.job(self.id) for _ in range(random.choices((0, 1, 2), weights=(2, 6, 2))[0])]
        self._unrecorded = [job for job in jobs if random.random() < 0.2]
        state = WorkflowState(
            workflow_id=self.id,
            team_id=TEAM,
            status=random.choice((Status.CREATED, Status.STARTING, Status.RUNNING)),
            created_at=now,
            jobs=tuple(
                Job(namespace=job.namespace, name=job.name, uid=job.uid, owner=job.owner)
                for job in jobs
                if job not in self._unrecorded
            ),
        )
        cast.objects[f"workflows/{self.id}.json"] = _body(state)
        folder = f"teams/{TEAM}/evaluations/{self.id}"
        cast.objects[f"{folder}/request.json"] = b'{"model": "m"}'
        for number in range(random.randrange(PARTIAL_OBJECTS + 1)):
            cast.objects[f"{folder}/partial/{number}.json"] = b"{}"

    def next(self, random: Random) -> Say:
        data = {"actor": _who(random), "evaluation_id": self.id}
        what = random.choices(
            ("cancel", "forward", "phase", "outcome", "job", "stale"), weights=(40, 12, 20, 12, 8, 4)
        )[0]
        if what == "cancel":
            return Say("evaluation.cancel", self.key, data | _cancel_options(random))
        if what == "job":
            return Say("workflow.update", self.key, data | {"job": self._job()})
        self._reported += 1
        report = {
            "forward": {"status": random.choice(("starting", "running", "saving"))},
            "phase": {"status": "running", "phase": f"step {self._reported}"},
            "outcome": {"status": random.choice(("succeeded", "failed", "complete")), "error_message": "so it said"},
            "stale": {"status": "created"},
        }[what]
        return Say("workflow.update", self.key, data | report)

    def _job(self) -> dict[str, Any]:
        """One that runs and is not recorded yet, or that begins now: perhaps after its cancel."""
        job = self._unrecorded.pop() if self._unrecorded else self._stage.job(self.id)
        report = {"namespace": job.namespace, "name": job.name, "uid": job.uid, "labels": {self._stage.label: self.id}}
        return report | ({"owner": job.owner} if job.owner else {})


class Creation(Player):
    """A custom harness in the making, with a task at an agent or without."""

    def __init__(self, random: Random, stage: Stage, cast: Cast, now: datetime) -> None:
        self.id, workflow_id = uuid(random), uuid(random)
        self.key = f"custom-harness/{self.id}"
        self._stage = stage
        self._tasks = 0
        self._agents = stage.agents
        state = WorkflowState(
            workflow_id=workflow_id,
            purpose="custom_harness",
            harness_id=self.id,
            team_id=TEAM,
            status=random.choice((Status.CREATED, Status.RUNNING)),
            created_at=now,
            workflow_specific_fields=Task(**self._task(random)) if random.random() < 0.7 else None,
        )
        metadata = HarnessMetadata(harness_id=self.id, team_id=TEAM, workflow_id=workflow_id)
        cast.objects[f"custom-harnesses/{self.id}/metadata.json"] = metadata.model_dump_json().encode()
        cast.objects[f"workflows/{workflow_id}.json"] = _body(state)

    def _task(self, random: Random) -> dict[str, Any]:
        self._tasks += 1
        agent, task_id = random.choice(self._agents), f"task-{self.id}-{self._tasks}"
        self._stage.task(agent, task_id)
        return {"agent": agent, "task_id": task_id, "session_id": f"s-{self._tasks}" if random.random() < 0.5 else None}

    def next(self, random: Random) -> Say:
        data = {"actor": _who(random), "harness_id": self.id}
        what = random.choices(("cancel", "phase", "outcome", "task"), weights=(45, 25, 10, 8))[0]
        match what:
            case "cancel":
                return Say("custom_harness.cancel", self.key, data | {"team_id": TEAM} | _cancel_options(random))
            case "phase":
                report: dict[str, Any] = {"status": "running", "phase": f"step {random.randrange(1000)}"}
            case "outcome":
                report = {"status": random.choice(("succeeded", "failed"))}
            case _:
                report = {"task": {name: value for name, value in self._task(random).items() if value}}
        return Say("workflow.update", self.key, data | report)


class Session(Player):
    """A session whose turns come one after another, in a zone."""

    def __init__(self, random: Random, stage: Stage, cast: Cast, now: datetime) -> None:
        self._zone = random.choice(stage.zones)
        ulid = "".join(random.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(25))
        self.id = f"0{ulid}.{self._zone}"
        self.key = f"session/{self.id}"
        self._stage = stage
        self._number = 0
        turn = None
        if random.random() < 0.8:
            turn = Turn(turn_id=self._turn(), number=self._number, status=Status.RUNNING)
        state = SessionState(session_id=self.id, tenant=TENANT, turn=turn)
        cast.objects[f"sessions/{self.id}.json"] = _body(state)

    def _turn(self) -> str:
        """Begin the next one -> its id."""
        self._number += 1
        turn_id = f"turn-{self.id[:8]}-{self._number}"
        self._stage.turn(self._zone, self.id, turn_id)
        return turn_id

    def next(self, random: Random) -> Say:
        data: dict[str, Any] = {"actor": _who(random), "session_id": self.id}
        what = random.choices(("cancel", "turn", "outcome", "stale", "close"), weights=(40, 25, 25, 6, 2))[0]
        if what == "cancel":
            if random.random() < 0.3 and self._number:
                data["turn_id"] = f"turn-{self.id[:8]}-{self._number}"
            return Say("session.cancel", self.key, data | _cancel_options(random))
        if what == "close":
            return Say("session.update", self.key, data | {"status": random.choice(("closed", "expired"))})
        if what == "turn" or not self._number:
            self._turn()
        number = self._number if what != "stale" else max(self._number - 1, 1)
        status = random.choice(("succeeded", "failed", "done")) if what == "outcome" else "running"
        turn = {"turn_id": f"turn-{self.id[:8]}-{number}", "turn_number": number, "status": status}
        return Say("turn.update", self.key, data | turn)


class Org(Player):
    """An org with a few harnesses, whose names and parents everybody wants to change."""

    HARNESSES = 4

    def __init__(self, random: Random, stage: Stage, cast: Cast, now: datetime) -> None:
        self.id = ORG
        self.key = f"org/{self.id}"
        self._ids = [f"harness_{random.getrandbits(128):032x}" for _ in range(self.HARNESSES)]
        entries: dict[str, HarnessEntry] = {}
        for number, harness_id in enumerate(self._ids):
            harness = Harness(id=harness_id, name=f"name-{number}", created_at=now, updated_at=now)
            body = harness.model_dump_json().encode()
            sha256 = hashlib.sha256(body).hexdigest()
            cast.objects[f"blobs/{sha256}"] = body
            entries[harness_id] = HarnessEntry(name=harness.name, status=harness.status, body=sha256)
        state = OrgState(org_id=self.id, models=("m-1",), capabilities=("search",), harnesses=entries)
        cast.objects[f"orgs/{self.id}.json"] = _body(state)

    def next(self, random: Random) -> Say:
        harness_id = random.choice(self._ids)
        what = random.choices(("name", "parent", "text", "archive", "nothing"), weights=(35, 35, 25, 2, 3))[0]
        choices: dict[str, dict[str, Any]] = {
            "name": {"name": f"name-{random.randrange(self.HARNESSES + 2)}"},
            "parent": {"parent_harness_id": random.choice((*self._ids, None))},
            "text": {"description": f"take {random.randrange(1000)}", "tags": ["a", "b"][: random.randrange(3)]},
            "archive": {"status": "archived"},
            "nothing": {},
        }
        data = {"actor": _who(random), "org_id": self.id, "harness_id": harness_id, "changes": choices[what]}
        return Say("harness.update", self.key, data)
