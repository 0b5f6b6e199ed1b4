"""A whole worker over Kafka, with documents in a file and doubles of what is stopped: here, or in a process of its own.

python -m tests.integration.kafka_worker SETTINGS FOLDER       runs until it is killed
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from schemas.audit import DecisionSettings
from schemas.documents import WorkflowState
from tests.contract.stack import JOB, Jobs, Nobody, evaluation_id, message, workflow_key
from tests.integration.kafka_world import COMMAND_BYTES_MAX, KafkaWorld, until
from worker.adapters.kafka import Connection, KafkaLog, KafkaStream
from worker.adapters.sqlite import Database, SqliteStore
from worker.adapters.system import SystemClock, SystemIds
from worker.ports import Outgoing, Ports
from worker.runtime.engine import Engine, EngineSettings
from worker.settings import KafkaSettings


class Worker:
    """One engine; several may work over one folder and one set of topics."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        nobody: Any = Nobody()
        self.store, self.jobs = SqliteStore(Database(folder / "worker.db")), Jobs()
        ports = Ports(
            log=KafkaLog(connection),
            stream=KafkaStream(connection),
            store=self.store,
            jobs=self.jobs,
            agents=nobody,
            executors=nobody,
            clock=SystemClock(),
            ids=SystemIds(),
        )
        self.engine = Engine(ports, EngineSettings(decisions=DecisionSettings(), build="test"))

    async def owns(self, partitions: int) -> None:
        await until(lambda: len(self.engine.consumer.partitions) == partitions)


async def create(store: SqliteStore, count: int, **state: Any) -> None:
    """Running evaluations, numbered from 1, each with a Job."""
    for n in range(1, count + 1):
        whole = {"workflow_id": evaluation_id(n), "team_id": "team-1", "status": "running", "jobs": [JOB], **state}
        document = {"state": WorkflowState.model_validate(whole).model_dump(mode="json")}
        await store.create(workflow_key(n), json.dumps(document).encode())


def updates(count: int, keys: int, start: int = 0) -> list[Outgoing]:
    """Reports of a phase, over so many evaluations."""
    return [message("workflow.update", f"u{i}", 1 + i % keys, phase=f"phase {i}") for i in range(start, start + count)]


async def answered(world: KafkaWorld, count: int, seconds: float = 60) -> list[dict[str, Any]]:
    """The verdicts, once so many are committed."""
    async with asyncio.timeout(seconds):
        while True:
            if len(found := await world.verdicts()) >= count:
                return found
            await asyncio.sleep(0.2)


def once_each(verdicts: list[dict[str, Any]]) -> list[str]:
    """The ids of the commands, having seen that no record of a command was answered twice."""
    places = [(verdict["command"]["at"]["partition"], verdict["command"]["at"]["offset"]) for verdict in verdicts]
    assert len(set(places)) == len(places)
    return sorted(verdict["command"]["id"] for verdict in verdicts)


async def main(settings: str, folder: str) -> None:
    worker = Worker(Connection(KafkaSettings.model_validate_json(settings), COMMAND_BYTES_MAX), Path(folder))
    await worker.engine.start()
    sys.stdout.write("started\n")
    sys.stdout.flush()
    await worker.engine.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
