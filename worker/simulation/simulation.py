"""One simulation: servers, workers that come and go, an API tier, bad weather; then calm, and the check of everything.

The workers are the production engine over the production adapters; only what those call is a model.  What users set by
`WORKER_*` holds here as well, apart from addresses.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from random import Random

from aiokafka.structs import TopicPartition

from worker import bootstrap
from worker.adapters.a2a import A2AClient
from worker.adapters.executor import HttpExecutor
from worker.adapters.kafka import KafkaLog, KafkaStream
from worker.adapters.kubernetes import KubernetesController
from worker.adapters.s3 import S3Store
from worker.errors import WorkerError
from worker.ports import Headers, Ports, Topic
from worker.runtime.service import Service
from worker.settings import S3Settings, Settings
from worker.simulation.cast import Cast, Stage, assemble
from worker.simulation.gathering import gather
from worker.simulation.hearing import listening
from worker.simulation.invariants import check, story
from worker.simulation.kafka import SimulatedConnection, broker_with_topics
from worker.simulation.kubernetes import Cluster
from worker.simulation.loop import run
from worker.simulation.outcome import Case, Outcome
from worker.simulation.process import EPOCH, Process
from worker.simulation.producer import Producer
from worker.simulation.remote import Remote
from worker.simulation.s3 import Bucket
from worker.simulation.weather import Weather
from worker.simulation.world import World

NAMESPACE = "jobs"
AGENTS = ("agent-1", "agent-2")
ZONES = ("zone-1", "zone-2")
COMMANDS_PER_AGGREGATE = 7
SECONDS_PER_COMMAND = (0.3, 1.5)
"""Between two commands, on average: how busy the workers are differs from seed to seed."""
COMMAND_BYTES_MAX = 64 * 1024
"""Smaller than is usual, so that what is too large costs little."""
RESTART_SECONDS = (0.5, 8.0)
LOOK_SECONDS = 1.0
RECONCILED_SECONDS = 150.0
CALM_SECONDS_MAX = 7200.0
"""Without faults everything has to be done by then; a clock that was set back by an hour keeps a deadline that long."""
STOP_SECONDS_MAX = 120.0
STORIES_MAX = 2


def simulate(case: Case, settings: Settings) -> Outcome:
    """Run it to its end; the same case gives the same outcome, as long as the code is the same."""

    async def main() -> Outcome:
        return await Simulation(World(case.seed, case.plan), case, settings).run()

    return run(main(), Random(f"{case.seed}/loop"))


class Simulation:
    """Made inside of the loop; `run` once."""

    def __init__(self, world: World, case: Case, settings: Settings, cast: Cast | None = None) -> None:
        """`cast` in place of the drawn one."""
        self.world, self.case = world, case
        self.settings = _settings(settings, case)
        self.broker = broker_with_topics(
            world, self.settings.kafka, partitions=case.scale.partitions, command_bytes_max=COMMAND_BYTES_MAX
        )
        self.bucket = Bucket(world)
        self.cluster = Cluster(world, NAMESPACE, self.settings.decisions.job_label)
        self.remote = Remote(world, AGENTS, ZONES)
        self.workers: dict[int, Process] = {}
        """Those that live, by slot."""
        self.started: list[Process] = []
        """All that have ever lived, in order."""
        self.cast = self._drawn_cast() if cast is None else cast
        self.producer = Producer(
            world,
            self.cast.players,
            self._append,
            partitions=case.scale.partitions,
            command_bytes_max=COMMAND_BYTES_MAX,
        )
        self.writes_before = 0
        """Writes that were there before the first command."""
        self._stopping: dict[Process, asyncio.Event] = {}
        self._closing = False
        self._chance = world.random("simulation")
        self._bugs: list[str] = []

    async def run(self) -> Outcome:
        """From the first command to the verdict on everything."""
        return await self.play(self._as_drawn)

    async def play(self, script: Callable[[Weather], Awaitable[None]]) -> Outcome:
        """Whatever a script makes happen, then calm, and the verdict on everything."""
        weather = self._weather()
        with listening(self.world, self._bugs):
            await script(weather)
            await self.calm(weather)
            await self.close()
        return self.outcome()

    async def _as_drawn(self, weather: Weather) -> None:
        """All workers at once, and everything by chance."""
        scale = self.case.scale
        self.prepare()
        self.remote.start()
        for slot in range(scale.workers):
            self.start(slot)
        weather.start()
        await self.producer.run(scale.commands, scale.commands * self._chance.uniform(*SECONDS_PER_COMMAND))

    def _drawn_cast(self) -> Cast:
        stage = Stage(
            label=self.settings.decisions.job_label,
            agents=AGENTS,
            zones=ZONES,
            job=self.cluster.create_job,
            task=self.remote.start_task,
            turn=self.remote.start_turn,
        )
        aggregates = max(2, self.case.scale.commands // COMMANDS_PER_AGGREGATE)
        return assemble(self.world.random("cast"), stage, aggregates, EPOCH)

    def prepare(self) -> None:
        """The objects of the cast."""
        for key, body in self.cast.objects.items():
            self.bucket.write(key, body)
        self.writes_before = len(self.bucket.writes)

    def _append(self, partition: int, key: bytes, value: bytes, headers: Headers) -> int:
        return self.broker.append(self._name(Topic.COMMANDS), partition, key, value, headers)

    def _name(self, topic: Topic) -> str:
        return f"{self.settings.kafka.topic_prefix}.{topic.value}"

    # ------------------------------------------------------------------------------ workers

    def start(self, slot: int) -> Process:
        """The next life of a worker."""
        lives = sum(process.name.startswith(f"worker-{slot}.") for process in self.started)
        process = self.world.start(f"worker-{slot}.{lives}", self._work, lambda process: self._ended(slot, process))
        self.workers[slot] = process
        self.started.append(process)
        return process

    async def _work(self, process: Process) -> None:
        """What `worker run` is, but for signals and probes."""
        stopping = self._stopping[process] = asyncio.Event()
        engine = bootstrap.engine(self.settings, self._ports(process))
        service = Service(engine, None, {}, self.settings.drain_timeout_seconds)
        try:
            await service.serve(stopping)
        except WorkerError as error:
            self.world.tell(process.name, "cannot run", str(error))

    def _ports(self, process: Process) -> Ports:
        settings, decisions = self.settings, self.settings.decisions
        slot = process.name.partition(".")[0]
        kafka = settings.kafka.model_copy(update={"group_instance_id": slot if self._static else ""})
        connection = SimulatedConnection(self.broker, kafka, COMMAND_BYTES_MAX)
        return Ports(
            log=KafkaLog(connection),
            stream=KafkaStream(connection),
            store=S3Store(settings.s3, process.clock, process.ids, connect=self.bucket.connect),
            jobs=KubernetesController(
                settings.kubernetes,
                namespaces=decisions.namespaces,
                label=decisions.job_label,
                connect=self.cluster.connect,
            ),
            agents=A2AClient(self.remote.agents(), open_session=self.remote.open_session),
            executors=HttpExecutor(self.remote.zones(), open_session=self.remote.open_session),
            clock=process.clock,
            ids=process.ids,
        )

    @cached_property
    def _static(self) -> bool:
        """Whether workers keep their name over a restart (K10): some seeds do."""
        return self.world.random("static").random() < 0.5

    def _ended(self, slot: int, process: Process) -> None:
        """Whatever ended it, somebody starts it again."""
        self.workers.pop(slot, None)
        self._stopping.pop(process, None)
        if not self._closing:
            self.world.after(self._chance.uniform(*RESTART_SECONDS), lambda: self.start(slot))

    def _terminate(self, process: Process) -> None:
        if stopping := self._stopping.get(process):
            stopping.set()

    def _weather(self) -> Weather:
        return Weather(
            self.world,
            lambda: list(self.workers.values()),
            session_timeout_seconds=self.settings.kafka.session_timeout_seconds,
            servers={"F11": self.broker.wire, "F34": self.cluster.service},
            rebalance=self.broker.rebalance,
            burst=self.bucket.burst,
            terminate=self._terminate,
        )

    # ------------------------------------------------------------------------------ the end

    async def calm(self, weather: Weather) -> None:
        """No faults any more, until everything is done, or has had the time for it."""
        self.world.note("world", "calm")
        self.world.faults.off()
        weather.clear()
        for server in (self.bucket, self.remote):
            server.calm()
        began = self.world.now
        while self.world.now - began < CALM_SECONDS_MAX:
            await asyncio.sleep(LOOK_SECONDS)
            waited = self.world.now - began
            if self._lag() == 0 and not self._open() and (not self._unsettled() or waited > RECONCILED_SECONDS):
                return

    def _lag(self) -> int:
        """Commands that no position has passed."""
        topic, group = self._name(Topic.COMMANDS), self.settings.kafka.group
        lag = 0
        for partition in range(self.case.scale.partitions):
            position = self.broker.position(group, topic, partition)
            _, end = self.broker.bounds([TopicPartition(topic, partition)])[TopicPartition(topic, partition)]
            lag += end - (position[0] if position else 0)
        return lag

    def _open(self) -> bool:
        """Whether a document holds a command without a verdict."""
        return any(b'"open":[{' in found.body for key, found in self.bucket.objects.items() if key.endswith(".json"))

    def _unsettled(self) -> bool:
        return any(key.startswith("unsettled/") for key in self.bucket.objects)

    async def close(self) -> None:
        """Stop every worker, as a deployment that is taken down does."""
        self._closing = True
        for process in list(self.workers.values()):
            self._terminate(process)
        until = self.world.now + STOP_SECONDS_MAX
        while self.workers and self.world.now < until:  # noqa: ASYNC110  # an end may come of many things
            await asyncio.sleep(LOOK_SECONDS)

    def outcome(self) -> Outcome:
        """The verdict on everything, as it is now."""
        evidence = gather(self)
        violations = check(evidence)
        keys = dict.fromkeys(violation.key for violation in violations if violation.key)
        told = [line for key in list(keys)[:STORIES_MAX] for line in story(self.world.history, evidence, key)]
        bugs = [f"BUG {text}" for text in (*self.world.bugs, *self._bugs)]
        return Outcome(
            case=self.case,
            records=len(self.producer.sent),
            verdicts=sum(len(each) for each in evidence.topics[Topic.RESULTS.value]),
            faults=dict(self.world.faults.counts),
            simulated_seconds=self.world.now,
            trace_hash=self.world.trace_hash,
            violations=(*map(str, violations), *bugs),
            story=tuple(told),
        )


def _settings(given: Settings, case: Case) -> Settings:
    """The user's, over the servers of the simulation."""
    decisions = given.decisions.model_copy(update={"namespaces": (NAMESPACE,)})
    return given.model_copy(
        update={
            "stack": "services",
            "partitions": case.scale.partitions,
            "command_bytes_max": COMMAND_BYTES_MAX,
            "agents": {name: {} for name in AGENTS},
            "zones": {name: {} for name in ZONES},
            "decisions": decisions,
            "s3": S3Settings(bucket="documents"),
        }
    )
