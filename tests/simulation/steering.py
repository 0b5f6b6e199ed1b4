"""A simulation that a test steers: its own few aggregates and commands, workers put to sleep in the middle of a call.

A schedule is a script over a `Scene`: it says what is given, and makes workers begin, sleep, wake and die at named
calls; no fault strikes that the script does not make.  What it ends with is checked as any simulation is.  Judges
nothing of what workers do.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any

import pytest

from schemas.cloudevents import headers
from schemas.documents import Document, OrgState, SessionState, Turn, WorkflowState
from schemas.harness import Harness, HarnessEntry
from schemas.status import Status
from tests.simulation.steered import Kept, PartedWire, WatchedBucket
from worker.ports import JobIdentity, Topic
from worker.settings import Settings
from worker.simulation.cast import ADA, ORG, TEAM, TENANT, Cast
from worker.simulation.faults import NO_FAULTS
from worker.simulation.kubernetes import JobWish
from worker.simulation.loop import run
from worker.simulation.outcome import Case, Outcome, Scale
from worker.simulation.process import EPOCH, Process
from worker.simulation.remote import Turn as RunningTurn
from worker.simulation.remote import TurnWish
from worker.simulation.simulation import Simulation
from worker.simulation.world import Line, World

Json = dict[str, Any]
EVALUATION = "11111111-1111-4111-8111-111111111111"
ZONE = "zone-1"
SESSION = f"{'0' * 26}.{ZONE}"
EVALUATION_KEY, SESSION_KEY, ORG_KEY = f"evaluation/{EVALUATION}", f"session/{SESSION}", f"org/{ORG}"
HARNESSES = tuple(f"harness_{number:032x}" for number in range(2))
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 150.0
APART_SECONDS = 5.0
"""How long a zombie that wakes up does not hear that it is one."""
OF_THE_GROUP = ("Heartbeat", "JoinGroup", "SyncGroup", "LeaveGroup")
OF_TRANSACTIONS = ("AddPartitionsToTxn", "AddOffsetsToTxn")


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

    def evaluation(self, wish: JobWish | None = None, **fields: Any) -> JobIdentity:
        """An evaluation that runs, with a Job."""
        job = self.job(wish)
        recorded = {"namespace": job.namespace, "name": job.name, "uid": job.uid}
        self.cast.objects[workflow_path()] = workflow_body(jobs=[recorded], **fields)
        return job

    def job(self, wish: JobWish | None = None) -> JobIdentity:
        """A Job that runs under the evaluation's label until it is deleted, or as is wished."""
        return self.cluster.create_job(EVALUATION, wish or JobWish())

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

    def send(
        self, type: str, command_id: str, *, key: str = EVALUATION_KEY, time: datetime | None = None, **data: Any
    ) -> int:
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

    def at(
        self, process: Process, call: str, about: str = "", act: Callable[[], object] = lambda: None
    ) -> Awaitable[None]:
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

    def wakes(self, process: Process, unheard: tuple[str, ...] = OF_THE_GROUP) -> None:
        """It goes on where it was, as a zombie: for some seconds the broker does not hear these requests of it."""
        assert process.state == "frozen", f"{process.name} does not sleep"
        self.world.note(process.name, "wakes")
        if unheard:
            self.wire.parted[process.name] = unheard
            self.world.after(APART_SECONDS, lambda: self.wire.parted.pop(process.name))
        self.world.loop.wake(process)

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Let time pass until something holds.  Raises AssertionError where it never does."""
        end = self.world.now + PATIENCE_SECONDS
        while not holds():  # what is looked at tells nobody
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


seeds = pytest.mark.parametrize("seed", ["1", "2", "3"])
"""A schedule holds in whatever order the loop takes the steps of one moment."""
Script = Callable[[Scene], Awaitable[None]]


def play(seed: str, script: Script) -> Outcome:
    """Run a schedule to its end; every promise has to be kept."""

    async def main() -> Outcome:
        scene = Scene(World(seed, NO_FAULTS), seed)
        return await scene.play(lambda _: script(scene))

    outcome = run(main(), Random(f"{seed}/loop"))
    assert outcome.violations == (), "\n".join((*outcome.violations, *outcome.story))
    return outcome


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
