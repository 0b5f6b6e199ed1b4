"""A simulation that a test steers: its own few aggregates and commands, workers put to sleep in the middle of a call.

A schedule is a script over a `Scene`: it says what is given, makes workers begin, sleep, wake and die at named calls, and
returns what it has seen; no fault strikes that the script does not make.  What it ends with is checked as any
simulation is.  Judges nothing of what workers do.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any, TypeVar

from schemas.cloudevents import headers
from schemas.documents import Document, OrgState, SessionState, Turn, WorkflowState
from schemas.harness import Harness, HarnessEntry
from schemas.status import Status
from worker.ports import JobIdentity, Topic
from worker.settings import Settings
from worker.simulation.cast import ADA, ORG, TEAM, TENANT, Cast
from worker.simulation.faults import NO_FAULTS
from worker.simulation.kafka.broker import Wire
from worker.simulation.kubernetes import JobWish
from worker.simulation.loop import run
from worker.simulation.outcome import Case, Outcome, Scale
from worker.simulation.process import EPOCH, Process
from worker.simulation.remote import Turn as RunningTurn
from worker.simulation.remote import TurnWish
from worker.simulation.s3 import Bucket
from worker.simulation.s3.client import lost
from worker.simulation.s3.objects import PreconditionFailed
from worker.simulation.service import never
from worker.simulation.simulation import Simulation
from worker.simulation.weather import Weather
from worker.simulation.world import Line, World, current

Json = dict[str, Any]
Seen = TypeVar("Seen")
EVALUATION = "11111111-1111-4111-8111-111111111111"
ZONE = "zone-1"
SESSION = f"{'0' * 26}.{ZONE}"
EVALUATION_KEY, SESSION_KEY, ORG_KEY = f"evaluation/{EVALUATION}", f"session/{SESSION}", f"org/{ORG}"
HARNESSES = tuple(f"harness_{number:032x}" for number in range(2))
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 600.0
APART_SECONDS = 5.0
OF_THE_GROUP = ("Heartbeat", "JoinGroup", "SyncGroup", "LeaveGroup")


@dataclass(frozen=True, slots=True)
class Put:
    """A write as it arrived, and how it was answered."""

    seconds: float
    process: str
    key: str
    status: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A write that is under way; whoever has sent it saw its connection break.  `arrives`: now."""

    arrives: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Wait:
    """For a write of a process."""

    process: str
    key: str
    act: Callable[[], object]
    kept: asyncio.Future[Kept]


class WatchedBucket(Bucket):
    """A bucket that remembers how writes were answered, and lets one be late where a script says so."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.puts: list[Put] = []
        self._now = world.loop.time
        self._waits: list[Wait] = []

    def keep(self, process: Process, key: str, act: Callable[[], object]) -> asyncio.Future[Kept]:
        """Its next write there is late; `act` at the moment at which it should have arrived."""
        wait = Wait(process.name, key, act, asyncio.get_running_loop().create_future())
        self._waits.append(wait)
        return wait.kept

    def put(self, who: str, key: str, body: bytes, if_match: str | None, if_none_match: str | None) -> str:
        for wait in self._waits:
            if (wait.process, wait.key) == (who, key):
                self._waits.remove(wait)
                wait.kept.set_result(Kept(lambda: self._arrives_late(who, key, body, if_match, if_none_match)))
                wait.act()
                raise lost(self.endpoint_url)
        try:
            etag = super().put(who, key, body, if_match, if_none_match)
        except PreconditionFailed:
            self.puts.append(Put(self._now(), who, key, 412))
            raise
        self.puts.append(Put(self._now(), who, key, 200))
        return etag

    def _arrives_late(self, who: str, key: str, body: bytes, if_match: str | None, if_none_match: str | None) -> None:
        with suppress(PreconditionFailed):  # nobody is there to hear of it
            self.put(who, key, body, if_match, if_none_match)

    def answers(self, process: Process, key: str) -> list[int]:
        """The statuses of a process's writes of a key, in order of their arrival."""
        return [put.status for put in self.puts if (put.process, put.key) == (process.name, key)]


class PartedWire(Wire):
    """The way to the broker; some processes do not reach the coordinator of their group, and do not know it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.parted: list[str] = []

    async def call(self, what: str, serve: Callable[[], Seen], detail: str = "", **errors: Any) -> Seen:
        process = current()
        if process is not None and process.name in self.parted and what in OF_THE_GROUP:
            self.world.note(process.name, f"{self.name}.{what}", "is lost")
            await never()
        return await super().call(what, serve, detail, **errors)


class Scene(Simulation):
    """One partition; workers begin when the script says so."""

    bucket: WatchedBucket

    def __init__(self, world: World, seed: str) -> None:
        super().__init__(world, Case(seed, NO_FAULTS, Scale(workers=2, commands=0, partitions=1)), Settings(), Cast())
        self.bucket = WatchedBucket(world)
        self.broker.wire = self.wire = PartedWire(world)
        self.remote.calm()
        self._prepared = False

    # ------------------------------------------------------------------------------ given

    def evaluation(self, jobs: int = 1, **fields: Any) -> list[JobIdentity]:
        """An evaluation that runs, with Jobs that end at SIGTERM."""
        found = [self.job() for _ in range(jobs)]
        recorded = [{"namespace": job.namespace, "name": job.name, "uid": job.uid} for job in found]
        self.cast.objects[workflow_path()] = workflow_body(jobs=recorded, **fields)
        return found

    def job(self) -> JobIdentity:
        """A Job that runs under the evaluation's label."""
        return self.cluster.create_job(EVALUATION, JobWish())

    def session(self) -> RunningTurn:
        """A session whose first turn runs until it is cancelled."""
        turn = Turn(turn_id="turn-1", number=1, status=Status.RUNNING)
        self.cast.objects[session_path()] = _body(SessionState(session_id=SESSION, tenant=TENANT, turn=turn))
        return self.turn("turn-1")

    def turn(self, turn_id: str, wish: TurnWish | None = None) -> RunningTurn:
        """A turn begins in the zone, and runs until it is cancelled, or as is wished."""
        return self.remote.start_turn(ZONE, SESSION, turn_id, wish or TurnWish())

    def org(self) -> None:
        """An org with two harnesses."""
        entries: dict[str, HarnessEntry] = {}
        for number, harness_id in enumerate(HARNESSES):
            harness = Harness(id=harness_id, name=f"name-{number}", created_at=EPOCH, updated_at=EPOCH)
            body = harness.model_dump_json().encode()
            digest = sha256(body).hexdigest()
            self.cast.objects[f"blobs/{digest}"] = body
            entries[harness_id] = HarnessEntry(name=harness.name, body=digest)
        self.cast.objects[org_path()] = _body(OrgState(org_id=ORG, harnesses=entries))

    # ------------------------------------------------------------------------------ when: commands

    @property
    def clock(self) -> datetime:
        """What true clocks say."""
        return EPOCH + timedelta(seconds=self.world.now)

    def send(self, type: str, command_id: str, *, key: str = EVALUATION_KEY, time: datetime | None = None, **data: Any) -> int:
        """Publish a command -> its offset."""
        kind, _, name = key.partition("/")
        value = json.dumps({"actor": ADA, f"{kind}_id": name, **data}).encode()
        ce = headers(id=command_id, type=type, time=time or self.clock, subject=key, source="schedule")
        return self._append(0, key.encode(), value, ce)

    def cancel(self, command_id: str, **options: Any) -> int:
        """Cancel the evaluation."""
        return self.send("evaluation.cancel", command_id, **options)

    def report(self, command_id: str, **fields: Any) -> int:
        """Report on the evaluation."""
        return self.send("workflow.update", command_id, **fields)

    def change(self, command_id: str, harness_id: str, **changes: Any) -> int:
        """Update a harness of the org."""
        return self.send("harness.update", command_id, key=ORG_KEY, harness_id=harness_id, changes=changes)

    # ------------------------------------------------------------------------------ when: workers

    async def begins(self, slot: int) -> Process:
        """A worker starts, and owns the partition; one that sleeps has lost it by then."""
        if not self._prepared:
            self._prepared = True
            self.prepare()
        process = self.start(slot)
        await self.until(lambda: self.has_told(process, "partition.assigned"), f"{process.name} owns the partition")
        return process

    def has_told(self, process: Process, event: str) -> bool:
        """Whether it has logged that."""
        return self.times_told(process, event) > 0

    def times_told(self, process: Process, event: str) -> int:
        """How often it has logged that."""
        return sum(line[1:3] == (process.name, event) for line in self.world.history)

    def falls_asleep(self, process: Process, call: str, about: str = "") -> Awaitable[None]:
        """It will, right before its next call of that kind is sent -> to be awaited: it has."""
        return self.at(process, call, about, lambda: self.sleeps(process))

    def dies(self, process: Process, call: str, about: str = "") -> Awaitable[None]:
        """It will, right before its next call of that kind is sent; somebody starts it again."""
        return self.at(process, call, about, lambda: self.world.kill(process, f"before {call}"))

    def at(self, process: Process, call: str, about: str, act: Callable[[], object]) -> Awaitable[None]:
        """Do it when the process is about to make such a call -> to be awaited: it was."""
        return self._trap(lambda line: line.who == process.name and call in line.what and about in line.detail, act)

    def at_next(self, call: str, about: str, act: Callable[[], object]) -> Awaitable[None]:
        """The same, whoever it is."""
        return self._trap(lambda line: call in line.what and about in line.detail, act)

    def _trap(self, waits_for: Callable[[Line], bool], act: Callable[[], object]) -> Awaitable[None]:
        reached: asyncio.Future[None] = self.world.loop.create_future()

        def then(_: Line) -> None:
            reached.set_result(None)
            act()

        self.world.when(waits_for, then)
        return asyncio.wait_for(reached, PATIENCE_SECONDS)

    def keeps_back(self, process: Process, key: str, act: Callable[[], object] = lambda: None) -> Awaitable[Kept]:
        """Its next write there will be late -> to be awaited: it is under way."""
        return asyncio.wait_for(self.bucket.keep(process, key, act), PATIENCE_SECONDS)

    def sleeps(self, process: Process) -> None:
        """At once, whatever it is doing."""
        self.world.note(process.name, "sleeps")
        self.world.loop.freeze(process)

    def wakes(self, process: Process) -> None:
        """It goes on where it was, as a zombie: for some seconds it does not hear that it is no member any more."""
        self.world.note(process.name, "wakes")
        self.wire.parted.append(process.name)
        self.world.after(APART_SECONDS, lambda: self.wire.parted.remove(process.name))
        self.world.loop.wake(process)

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Let time pass until something holds.  Raises AssertionError where it never does."""
        end = self.world.now + PATIENCE_SECONDS
        while not holds():  # noqa: ASYNC110  # what is looked at tells nobody
            assert self.world.now < end, f"never: {what}"
            await asyncio.sleep(LOOK_SECONDS)

    # ------------------------------------------------------------------------------ then

    async def verdict(self, offset: int) -> Json:
        """The verdict on the record at that offset, once readers of committed data see it."""
        await self.until(lambda: self.verdicts(offset), f"a verdict on {offset}")
        return self.verdicts(offset)[0]

    def verdicts(self, offset: int) -> list[Json]:
        """All verdict records on the record at that offset."""
        found = self.broker.committed(self._name(Topic.RESULTS), 0)
        return [
            json.loads(each.value or b"") for each in found if dict(each.headers)["verdict-offset"] == b"%d" % offset
        ]

    def published(self, topic: Topic) -> list[Json]:
        """What readers of committed data see."""
        return [json.loads(each.value or b"") for each in self.broker.committed(self._name(topic), 0)]

    def state(self, path: str) -> Json:
        """Of a document, as it is stored."""
        state: Json = json.loads(self.bucket.objects[path].body)["state"]
        return state


Script = Callable[[Scene], Awaitable[Seen]]


def play(seed: str, script: Script[Seen]) -> tuple[Seen, Outcome]:
    """Run a schedule to its end; every promise has to be kept -> what the script returned, and the outcome."""

    async def main() -> tuple[Seen, Outcome]:
        scene = Scene(World(seed, NO_FAULTS), seed)
        seen: list[Seen] = []

        async def scripted(_: Weather) -> None:
            seen.append(await script(scene))

        outcome = await scene.play(scripted)
        return seen[0], outcome

    seen, outcome = run(main(), Random(f"{seed}/loop"))
    assert outcome.violations == (), "\n".join((*outcome.violations, *outcome.story))
    return seen, outcome


def workflow_path() -> str:
    return f"workflows/{EVALUATION}.json"


def session_path() -> str:
    return f"sessions/{SESSION}.json"


def org_path() -> str:
    return f"orgs/{ORG}.json"


def workflow_body(**fields: Any) -> bytes:
    """An evaluation's document, as whoever creates it writes it."""
    given = {"workflow_id": EVALUATION, "team_id": TEAM, "status": "running", "created_at": EPOCH, **fields}
    return _body(WorkflowState.model_validate(given))


def _body(state: WorkflowState | SessionState | OrgState) -> bytes:
    return Document(state=state).model_dump_json().encode()
