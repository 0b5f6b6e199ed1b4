"""What the servers of a simulation hold and have seen, as the evidence that invariants look at.  Judges nothing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from worker.ports import Topic
from worker.simulation.invariants import Evidence, Kind, Position, Published, Touch, Transaction, Write
from worker.simulation.kafka.partition import Stored
from worker.simulation.kafka.transactions import Ended
from worker.simulation.process import EPOCH
from worker.simulation.rebuilding import rebuilt

if TYPE_CHECKING:
    from worker.simulation.simulation import Simulation

DISTURBANCES = ("sleeps", "clock")
TASKS_OF_THE_END = 0
"""Tasks that a worker which was stopped leaves behind."""


def gather(simulation: "Simulation") -> Evidence:
    """All of it, as it is now."""
    broker, bucket, settings = simulation.broker, simulation.bucket, simulation.settings
    prefix, group = settings.kafka.topic_prefix, settings.kafka.group
    partitions = range(simulation.case.scale.partitions)
    found = {number: broker.position(group, f"{prefix}.{Topic.COMMANDS}", number) for number in partitions}
    objects = {key: each.body for key, each in bucket.objects.items()}
    return Evidence(
        topics={
            topic.value: [list(map(_published, broker.committed(f"{prefix}.{topic}", number))) for number in partitions]
            for topic in Topic
        },
        positions={number: Position(*position) for number, position in found.items() if position},
        objects_before=simulation.cast.objects,
        writes=[
            Write(each.seconds, each.process, each.key, each.body) for each in bucket.writes[simulation.writes_before :]
        ],
        objects=objects,
        transactions=[_transaction(each, prefix) for each in broker.history],
        touched=sorted(_touched(simulation), key=lambda touch: touch.seconds),
        running=list(_running(simulation)),
        rebuilt=rebuilt(_audit(simulation), objects),
        disturbed=list(dict.fromkeys(line.who for line in simulation.world.history if line.what in DISTURBANCES)),
        ended_at=dict(_ended_at(simulation)),
        bystanders=[job.uid for job in simulation.cast.bystanders],
        tasks=sum(process.tasks_left for process in simulation.started),
        tasks_baseline=TASKS_OF_THE_END,
        memory_commands=settings.decisions.memory_commands,
    )


def _audit(simulation: "Simulation") -> Iterator[Stored]:
    """Committed records, each aggregate's in order."""
    topic = f"{simulation.settings.kafka.topic_prefix}.{Topic.AUDIT}"
    for number in range(simulation.case.scale.partitions):
        yield from simulation.broker.committed(topic, number)


def _published(stored: Stored) -> Published:
    seconds = stored.timestamp / 1000 - EPOCH.timestamp()
    return Published(stored.offset, seconds, stored.key, stored.value, stored.headers)


def _transaction(ended: Ended, prefix: str) -> Transaction:
    return Transaction(
        ended.seconds,
        ended.transactional_id,
        ended.epoch,
        ended.committed,
        tuple((topic.removeprefix(f"{prefix}."), partition, offset) for topic, partition, offset in ended.records),
        tuple((place.partition, Position(*position)) for _, place, position in ended.positions),
    )


def _touched(simulation: "Simulation") -> Iterator[Touch]:
    """What workers asked to stop; what a cluster does by itself is not of them."""
    for asked in simulation.remote.asked:
        kind: Kind = "task" if asked.what == "task" else "turn"
        yield Touch(asked.seconds, asked.process, kind, asked.id)
    for delete in simulation.cluster.deletes:
        yield Touch(delete.seconds, delete.process, "job", delete.job_uid or delete.uid)


def _ended_at(simulation: "Simulation") -> Iterator[tuple[tuple[Kind, str], float]]:
    for job in simulation.cluster.jobs.values():
        yield ("job", job.uid), job.ended_at
    for task in simulation.remote.tasks.values():
        yield ("task", task.id), min(task.ends_at, task.said_ended_at)
    for turn in simulation.remote.turns.values():
        yield ("turn", turn.id), min(turn.ends_at, turn.said_ended_at)


def _running(simulation: "Simulation") -> Iterator[tuple[Kind, str]]:
    now = simulation.world.now
    for uid in simulation.cluster.running():
        yield "job", uid
    for task in simulation.remote.tasks.values():
        if task.running(now) and task.said_ended_at > now:
            yield "task", task.id
    for turn in simulation.remote.turns.values():
        if turn.running(now) and turn.said_ended_at > now:
            yield "turn", turn.id
