"""Kafka as a model: the port's contract over the real adapter, the facts that the real server passes, and its faults.

Knows nothing of the worker's runtime.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from tests.contract.suites import log, stream
from tests.contract.suites.kafka_facts import PARTITIONS, KafkaFacts
from worker.adapters.kafka import Connection, KafkaLog, KafkaStream
from worker.errors import AssignmentLost, WorkerError
from worker.ports import Assignment, CommandLog, EventStream, Outgoing, Position, Record, Topic
from worker.settings import KafkaSettings
from worker.simulation.faults import CATALOGUE, NO_FAULTS, Plan
from worker.simulation.kafka import SimulatedConnection, broker_with_topics
from worker.simulation.loop import run
from worker.simulation.process import Process
from worker.simulation.world import World

COMMAND_BYTES_MAX = 8 * 1024 * 1024
SETTINGS = KafkaSettings(
    session_timeout_seconds=6,
    heartbeat_interval_seconds=0.2,
    request_timeout_seconds=5,
    transaction_timeout_seconds=15,
    replication_factor=1,
)
OF_THIS_MACHINE = {
    "test_records_come_in_offset_order_per_partition_as_they_were_published": "compares with the machine's clock",
    "test_a_fetch_of_nothing_returns_after_the_time_out": "measures with the machine's clock",
    "test_kill_9_leaves_whole_commits_and_a_log_that_another_worker_can_have": "starts a process",
    "test_processes_that_publish_at_once_lose_nothing_and_keep_their_own_order": "starts processes",
}
"""Bodies of the contract that no simulated loop can run, and why."""


class Rig:
    """The model in a world of its own: for the contracts, and for the facts."""

    exclusive = False
    source = ""

    def __init__(self, partitions: int, plan: Plan = NO_FAULTS, seed: str = "1", **settings: Any) -> None:
        self.world = World(seed, plan)
        self.settings = SETTINGS.model_copy(update=settings)
        self.broker = broker_with_topics(
            self.world, self.settings, partitions=partitions, command_bytes_max=COMMAND_BYTES_MAX
        )
        self.connection: Connection = self.connect()
        self.log: CommandLog = KafkaLog(self.connection)
        self.stream: EventStream = KafkaStream(self.connection)

    def connect(self, **settings: Any) -> Connection:
        return SimulatedConnection(self.broker, self.settings.model_copy(update=settings), COMMAND_BYTES_MAX)

    def another(self) -> CommandLog:
        return KafkaLog(self.connect())

    async def trim(self, partition: int, before: int) -> None:
        self.broker.trim(self.connection.topic(Topic.COMMANDS), partition, before)

    async def away(self) -> None:
        self.broker.wire.away = True

    async def back(self) -> None:
        self.broker.wire.away = False

    async def end_again(self, producer: Any) -> None:
        manager = producer._txn_manager
        end = self.broker.transactions.end
        end(manager.transactional_id, manager.producer_id, manager.producer_epoch, commit=True)

    async def stop(self) -> None:
        await self.log.stop()
        await self.stream.stop()


def bodies(suite: type) -> list[Any]:
    """Every test of a suite, with the cases of those that have some."""
    found = []
    for name, body in inspect.getmembers(suite, inspect.iscoroutinefunction):
        if not name.startswith("test_") or name in OF_THIS_MACHINE:
            continue
        marks = [mark for mark in getattr(body, "pytestmark", []) if mark.name == "parametrize"]
        for number, values in enumerate(marks[0].args[1] if marks else [()]):
            names = marks[0].args[0] if marks else ()
            arguments = {names: values} if isinstance(names, str) else dict(zip(names, values, strict=True))
            found.append(pytest.param(suite, name, arguments, id=f"{name}-{number}" if marks else name))
    assert len(found) > 10
    return found


Body = Callable[..., Awaitable[None]]


def in_the_loop(make: Callable[[], Rig], body: Body, seed: str = "1") -> Rig:
    """Run a body over a rig, and stop what it used; nothing may be left, and nothing raised that nobody took."""

    async def main() -> Rig:
        rig = make()
        await body(rig)
        await rig.stop()
        assert rig.world.bugs == []
        return rig

    return run(main(), Random(seed))


@pytest.mark.parametrize(("suite", "name", "arguments"), bodies(log.LogContract))
def test_the_contract_of_the_log_holds_over_the_model(suite: type, name: str, arguments: dict[str, Any]) -> None:
    body = getattr(suite(), name)
    in_the_loop(lambda: Rig(log.PARTITIONS, group_instance_id="worker-0"), lambda rig: body(rig, **arguments))


@pytest.mark.parametrize(("suite", "name", "arguments"), bodies(stream.StreamContract))
def test_the_contract_of_the_stream_holds_over_the_model(suite: type, name: str, arguments: dict[str, Any]) -> None:
    body = getattr(suite(), name)
    in_the_loop(lambda: Rig(stream.PARTITIONS), lambda rig: body(rig, **arguments))


@pytest.mark.parametrize(("suite", "name", "arguments"), bodies(KafkaFacts))
def test_the_facts_hold_of_the_model(suite: type, name: str, arguments: dict[str, Any]) -> None:
    body = getattr(suite(), name)
    in_the_loop(lambda: Rig(PARTITIONS), lambda rig: body(rig, **arguments))


# ------------------------------------------------------------------------------------------------ faults

OURS = ("F2", "F3", "F4", "F5", "F7", "F8", "F9", "F10", "F11", "F13", "F14", "F15", "F16")
OFTEN = {"F7": 0.02, "F9": 0.05, "F10": 0.05, "F13": 0.05, "F14": 0.5, "F15": 0.5, "F16": 0.02}
"""More often than the catalogue says, where that is seldom."""
COMMANDS, SHARED = 40, 3


class Worker:
    """Answers every command with a result, in a transaction with the position, and starts again after an error."""

    def __init__(self, connection: Connection) -> None:
        self._log = KafkaLog(connection)
        self._assignments: dict[int, Assignment] = {}
        self._next: dict[int, int] = {}
        self.stopping = asyncio.Event()

    async def assigned(self, assignment: Assignment) -> None:
        self._assignments[assignment.partition] = assignment
        self._next[assignment.partition] = assignment.position.offset if assignment.position else 0
        self._log.seek(assignment, self._next[assignment.partition])

    async def revoked(self, partition: int) -> None:
        self._assignments.pop(partition, None)

    async def main(self) -> None:
        with suppress(WorkerError):
            await self._log.start(self)
            while not self.stopping.is_set():
                await self._answer(await self._log.fetch(20, 1.0))
        await self._log.stop()

    async def _answer(self, records: Sequence[Record]) -> None:
        for record in records:
            assignment = self._assignments.get(record.partition)
            if assignment is None or record.offset != self._next[record.partition]:
                continue
            result = Outgoing(Topic.RESULTS, record.key or b"", record.value or b"")
            try:
                await self._log.commit(assignment, [result], Position(record.offset + 1))
                self._next[record.partition] += 1
            except AssignmentLost:
                renewed = await self._log.renew(assignment)
                if self._assignments.get(record.partition) is assignment:
                    await self.assigned(renewed)


async def worked(rig: Rig) -> None:
    """Two workers in bad weather, until every command has its result; those that end are started again."""
    stops: dict[Process, asyncio.Event] = {}
    topic, results = rig.connection.topic(Topic.COMMANDS), rig.connection.topic(Topic.RESULTS)

    def begin(slot: int, life: int) -> None:
        async def main(process: Process) -> None:
            worker = Worker(rig.connect(group_instance_id=f"worker-{slot}", stall_timeout_seconds=2.0))
            stops[process] = worker.stopping
            await worker.main()

        rig.world.start(f"worker-{slot}.{life}", main, lambda _: ended(slot, life))

    def ended(slot: int, life: int) -> None:
        if not over.is_set():
            rig.world.after(1.0, lambda: begin(slot, life + 1))

    over = asyncio.Event()
    for slot in range(2):
        begin(slot, 1)
    chance = rig.world.random("commands")
    for number in range(COMMANDS):
        await asyncio.sleep(chance.expovariate(2.0))
        rig.broker.append(topic, number % SHARED, b"key", b"%d" % number)
        _disturb(rig, chance, stops)
    rig.world.faults.off()
    async with asyncio.timeout(300):
        while sum(len(rig.broker.committed(results, number)) for number in range(SHARED)) < COMMANDS:  # noqa: ASYNC110
            await asyncio.sleep(1)
    over.set()
    for stop in stops.values():
        stop.set()
    await asyncio.sleep(120)
    found = [each.value or b"" for number in range(SHARED) for each in rig.broker.committed(results, number)]
    assert sorted(found, key=int) == [b"%d" % number for number in range(COMMANDS)]


def _disturb(rig: Rig, chance: Random, stops: dict[Process, asyncio.Event]) -> None:
    """What the weather does, at about every tenth command: partitions move, the broker goes, a worker is to end."""
    plan, what = rig.world.faults.plan, chance.random()
    if what < 0.1 and plan.rate("F5") and rig.broker.rebalance():
        rig.world.faults.met("F5")
    elif what < 0.2 and plan.rate("F11"):
        rig.broker.wire.away = True
        rig.world.after(chance.uniform(0.5, 8.0), lambda: setattr(rig.broker.wire, "away", False))
    elif what < 0.3 and plan.rate("F15"):
        running = [process for process in stops if process.state == "running"]
        if running:
            stops[running[0]].set()


def plan_of(*faults: str) -> Plan:
    return Plan(rates=NO_FAULTS.rates | {fault: OFTEN.get(fault, max(CATALOGUE[fault].rate, 0.02)) for fault in faults})


def in_bad_weather(plan: Plan, seed: str) -> Rig:
    return in_the_loop(lambda: Rig(SHARED, plan, seed, request_timeout_seconds=2.0), worked, seed)


@pytest.mark.parametrize("fault", OURS)
def test_under_each_fault_which_strikes_every_command_has_one_visible_result(fault: str) -> None:
    counts = [in_bad_weather(plan_of(fault), f"{seed}").world.faults.counts for seed in range(2)]
    assert sum(count[fault] for count in counts) > 0
    late = {"F10"} if fault == "F4" else set()  # a late request may open a transaction that nobody ends
    assert {struck for count in counts for struck in count} <= {fault} | late


@pytest.mark.parametrize("seed", ["1", "2", "3", "4"])
def test_under_all_of_them_at_once_too_and_the_same_seed_gives_the_same_trace(seed: str) -> None:
    plan = plan_of("F1", *OURS)
    first, again = in_bad_weather(plan, seed), in_bad_weather(plan, seed)
    assert first.world.trace_hash == again.world.trace_hash
    assert first.world.trace_hash != in_bad_weather(plan, f"{seed} another").world.trace_hash


def test_without_faults_none_is_counted() -> None:
    assert in_bad_weather(NO_FAULTS, "1").world.faults.counts == {}


def test_a_transaction_that_takes_too_long_is_ended_by_the_coordinator_and_counted() -> None:
    """F10, as it comes by itself."""

    async def body(rig: Rig) -> None:
        producer: Any = rig.connection.transactional(0)
        await producer.start()
        await producer.begin_transaction()
        await producer.send(rig.connection.topic(Topic.RESULTS), b"left open", None, 0)
        await asyncio.sleep(2 * rig.settings.transaction_timeout_seconds)
        assert [ended.committed for ended in rig.broker.history] == [False]
        await producer.stop()

    assert in_the_loop(lambda: Rig(1), body).world.faults.counts == {"F10": 1}


def test_a_position_read_right_after_a_commit_may_be_stale_and_is_not_once_the_id_was_initialised() -> None:
    """K4 and F14: on a real broker 288 of 300 were."""

    async def body(rig: Rig) -> None:
        place = TopicPartition(rig.connection.topic(Topic.COMMANDS), 0)
        admin: Any = rig.connection.admin()
        await admin.start()
        stale = 0
        for offset in range(1, 21):
            producer: Any = rig.connection.transactional(0)
            await producer.start()
            assert rig.broker.position(rig.settings.group, *place) == ((offset - 1, "") if offset > 1 else None)
            await producer.begin_transaction()
            await producer.send_offsets_to_transaction({place: OffsetAndMetadata(offset, "")}, rig.settings.group)
            await producer.commit_transaction()
            found = await admin.list_consumer_group_offsets(rig.settings.group, partitions=[place])
            stale += found[place].offset != offset
            await producer.stop()
        assert stale > 5
        await admin.close()

    in_the_loop(lambda: Rig(1, plan_of("F14")), body)
