"""S3 as a model: the store's contract over the real adapter, what a real server does, and every fault of the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from schemas.documents import Document, WorkflowState
from tests.contract.suites.s3_facts import Rig as AnyRig
from tests.contract.suites.s3_facts import S3Facts
from tests.contract.suites.store import StoreContract
from tests.contract.suites.store import World as AnyWorld
from worker.adapters.s3 import S3Store
from worker.errors import Conflict, Misconfigured, OutcomeUnknown, Unavailable, WorkerError
from worker.ports import DocumentStore, Stored
from worker.settings import S3Settings
from worker.simulation.faults import NO_FAULTS, Faults, Plan
from worker.simulation.loop import run
from worker.simulation.process import Process, ProcessClock, SeededIds
from worker.simulation.s3 import Bucket
from worker.simulation.world import World

SETTINGS = S3Settings(endpoint_url="http://s3.test", bucket="bucket", read_timeout_seconds=1)
DOCUMENT = "workflows/99999999-1111-4111-8111-111111111111.json"
BODY = (
    Document(state=WorkflowState(workflow_id="99999999-1111-4111-8111-111111111111", team_id="t"))
    .model_dump_json()
    .encode()
)


def store_of(bucket: Bucket, world: World, settings: S3Settings = SETTINGS) -> S3Store:
    return S3Store(settings, ProcessClock(world.loop), SeededIds(world.random("ids")), connect=bucket.connect)


def only(**rates: float) -> Plan:
    return Plan(rates=NO_FAULTS.rates | rates)


# ------------------------------------------------------------------------------ the contract


class SimulatedS3:
    """The adapter over the model."""

    versions_repeat = True
    any_key = False
    source = ""

    def __init__(self) -> None:
        self.world = World("1", NO_FAULTS)
        self.bucket = Bucket(self.world)
        self.store: DocumentStore = self.another()

    def another(self) -> DocumentStore:
        return store_of(self.bucket, self.world, SETTINGS.model_copy(update={"prefix": "verdicts/"}))


class TestContract(StoreContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[AnyWorld]:
        world = SimulatedS3()
        await world.store.start()
        yield world
        await world.store.stop()

    def test_what_was_acknowledged_is_there_after_kill_9(self) -> None:  # type: ignore[override]  # on its own loop
        """Of a simulated process, whose steps never end."""
        acknowledged: list[int] = []

        async def main() -> int:
            world = SimulatedS3()

            async def write(process: Process) -> None:
                store = world.another()
                await store.start()
                version = await store.create("counter", b"0")
                while True:
                    number = len(acknowledged) + 1
                    version = await store.replace("counter", b"%d" % number, version)
                    acknowledged.append(number)

            process = world.world.start("writer", write, lambda _: None)
            await asyncio.sleep(1)
            world.world.kill(process, "SIGKILL")
            await asyncio.sleep(1)
            return int(world.bucket.objects["verdicts/counter"].body)

        assert run(main(), Random("1")) in (len(acknowledged), len(acknowledged) + 1)
        assert len(acknowledged) > 20


# ------------------------------------------------------------------------------ the facts


class Rig:
    """A client of the model, and faults by their rates."""

    bucket = SETTINGS.bucket

    def __init__(self) -> None:
        self.world = World("1", NO_FAULTS)
        self.model = Bucket(self.world)
        self.client: Any = self.model.connect(SETTINGS)

    async def another(self) -> Any:
        return self.model.connect(SETTINGS)

    def lose_replies(self) -> None:
        self._always("F17")

    def cut_bodies(self) -> None:
        self._always("F23")

    def hang(self) -> None:
        self._always("F20")

    def undecided(self) -> None:
        self._always("F18")

    def go_away(self) -> None:
        self.model.service.away = True

    def throttle(self) -> None:
        self.model.burst(60)

    def recover(self) -> None:
        self.world.faults = Faults(NO_FAULTS, "1")
        self.model.service.away = False
        self.model.calm()

    def _always(self, fault: str) -> None:
        self.world.faults = Faults(only(**{fault: 1.0}), "1")


class TestFacts(S3Facts):
    @pytest.fixture
    async def rig(self) -> AnyRig:
        return Rig()


# ------------------------------------------------------------------------------ the faults


class Try:
    """A store over a model under a plan, and how it fared."""

    def __init__(self, plan: Plan) -> None:
        self.world = World("1", NO_FAULTS)
        self.bucket = Bucket(self.world)
        self.store = store_of(self.bucket, self.world)
        self._plan = plan

    async def start(self) -> "Try":
        await self.store.start()
        self.bucket.write(DOCUMENT, BODY)
        self.world.faults = Faults(self._plan, "1")
        return self

    async def count_up(self) -> None:
        """Replace the document as a worker does, forty times, whatever comes in between."""
        revision = 0
        while revision < 40:
            try:
                stored = await self.store.load(DOCUMENT)
                assert stored is not None
                document = Document.model_validate_json(stored.body)
                revision = document.revision + 1
                changed = document.model_copy(update={"revision": revision, "write_id": f"{revision}"})
                await self.store.replace(DOCUMENT, changed.model_dump_json().encode(), stored.version)
            except (Conflict, OutcomeUnknown, Unavailable):
                await asyncio.sleep(0.1)

    def revisions(self) -> list[int]:
        written = [write.body for write in self.bucket.writes if write.key == DOCUMENT]
        return [Document.model_validate_json(body or b"").revision for body in written]


@pytest.mark.parametrize("fault", ["F17", "F18", "F20", "F21", "F23", "F25"])
async def test_whatever_strikes_compare_and_set_loses_no_update(fault: str) -> None:
    tried = await Try(only(**{fault: 0.3})).start()
    await tried.count_up()
    assert tried.world.faults.counts[fault] > 5
    assert tried.revisions() == list(range(len(tried.revisions())))


async def test_f19_a_burst_is_met_by_whoever_asks_meanwhile() -> None:
    tried = await Try(NO_FAULTS).start()
    tried.bucket.burst(5)
    with pytest.raises(Unavailable) as error:
        await tried.store.load(DOCUMENT)
    assert error.value.retry_after_seconds in (1, 2, 3)
    await asyncio.sleep(5)
    assert await tried.store.load(DOCUMENT) is not None
    assert tried.world.faults.counts == {"F19": 1}


async def test_f20_a_write_may_be_carried_out_long_after_its_sender_has_given_up() -> None:
    tried = await Try(only(F20=0.5)).start()
    arrived = 0
    for number in range(40):
        with suppress(OutcomeUnknown):
            await tried.store.put(f"blobs/{number}", b"body")
        arrived += f"blobs/{number}" in tried.bucket.objects
    await asyncio.sleep(60)
    assert len([key for key in tried.bucket.objects if key.startswith("blobs/")]) > arrived


async def test_f21_a_conditional_write_wins_or_loses_by_an_etag_that_repeats() -> None:
    tried = await Try(only(F21=1.0)).start()
    won = 0
    for number in range(20):
        stored = await tried.store.load(DOCUMENT)
        assert stored is not None
        document = Document.model_validate_json(stored.body)
        body = document.model_copy(update={"revision": document.revision + 1, "write_id": f"{number}"})
        try:
            await tried.store.replace(DOCUMENT, body.model_dump_json().encode(), stored.version)
            won += 1
        except Conflict:
            await asyncio.sleep(0.1)
            assert await tried.store.load(DOCUMENT) == stored, "A, B, A"
    assert 0 < won < 20
    assert tried.world.faults.counts["F21"] == 20


async def test_f22_a_server_that_ignores_conditions_is_refused_at_the_start() -> None:
    tried = await Try(only(F22=1.0)).start()
    await tried.store.stop()
    with pytest.raises(Misconfigured, match="ignores"):
        await tried.store.start()
    assert tried.world.faults.counts == {"F22": 1}
    tried.world.faults.off()
    tried.bucket.ignore_conditions = True
    with pytest.raises(Misconfigured, match="ignores"):
        await tried.store.start()
    assert tried.world.faults.counts["F22"] > 1
    tried.bucket.calm()
    await tried.store.start()


async def test_f23_a_body_is_cut_off_or_belongs_to_another_version_than_its_etag() -> None:
    tried = await Try(only(F23=1.0)).start()
    first = tried.bucket.objects[DOCUMENT].etag
    tried.bucket.write(DOCUMENT, BODY + b" ")
    seen: list[Stored] = []
    for _ in range(20):
        try:
            stored = await tried.store.load(DOCUMENT)
        except Unavailable:
            continue
        assert stored is not None
        seen.append(stored)
    assert 0 < len(seen) < 20
    assert seen[0] == Stored(BODY + b" ", first)
    with pytest.raises(Conflict):
        await tried.store.replace(DOCUMENT, BODY, seen[0].version)


async def test_f24_what_may_vanish_does_and_documents_never() -> None:
    tried = await Try(only(F24=1.0)).start()
    await tried.store.put("teams/t/evaluations/e/partial/1", b"")
    await tried.store.put("unsettled/evaluation/e/1", b"{}")
    await tried.store.delete(["teams/t/evaluations/e/partial/1", "unsettled/evaluation/e/1"])
    assert tried.world.faults.counts == {"F24": 1}
    assert [(write.process, write.key) for write in tried.bucket.writes if write.body is None][-2:] == [
        ("platform", "teams/t/evaluations/e/partial/1"),
        ("world", "unsettled/evaluation/e/1"),
    ]
    await tried.count_up()
    await tried.store.stop()
    with pytest.raises(Unavailable):  # the probe's own object
        await tried.store.start()
    assert tried.world.faults.counts["F24"] > 1


async def test_f25_somebody_elses_write_changes_nothing_but_revision_and_write_id() -> None:
    tried = await Try(only(F25=1.0)).start()
    before = await tried.store.load(DOCUMENT)
    assert before is not None
    with pytest.raises(Conflict):
        await tried.store.replace(DOCUMENT, BODY, before.version)
    after = await tried.store.load(DOCUMENT)
    assert after is not None
    found, changed = (Document.model_validate_json(stored.body) for stored in (before, after))
    assert changed.revision == found.revision + 1
    assert changed.write_id != found.write_id
    assert changed.model_copy(update={"revision": found.revision, "write_id": found.write_id}) == found


# ------------------------------------------------------------------------------ determinism


def hashes(seed: str) -> list[str]:
    async def main() -> str:
        world = World(seed, Plan())
        bucket = Bucket(world)
        bucket.write(DOCUMENT, BODY)

        async def work(process: Process) -> None:
            store = store_of(bucket, world)
            await store.start()
            while True:
                try:
                    stored = await store.load(DOCUMENT)
                    assert stored is not None
                    await store.replace(DOCUMENT, stored.body + b" ", stored.version)
                    await store.put(f"teams/t/evaluations/e/partial/{process.name}", b"")
                    await store.delete(await store.list("teams/"))
                except WorkerError:
                    await asyncio.sleep(0.1)

        for name in ("a", "b", "c"):
            world.start(name, work, lambda _: None)
        await asyncio.sleep(20)
        return world.trace_hash

    return [run(main(), Random(seed)) for _ in range(2)]


def test_the_same_seed_gives_the_same_trace() -> None:
    first, again = hashes("1")
    assert first == again
    assert hashes("2")[0] != first
