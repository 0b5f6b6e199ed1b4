"""`worker run` while broker and bucket are away: it waits, says so, and goes on when they come; SIGTERM ends it."""

import asyncio
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.integration.kafka_world import KafkaWorld, until
from tests.services.broker import Broker
from tests.services.container import free_port
from tests.services.object_store import ObjectStore

WORKER = Path(sys.executable).with_name("worker")
KUBECONFIG = {
    "clusters": [{"name": "far", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "nobody", "user": {}}],
    "contexts": [{"name": "far", "context": {"cluster": "far", "user": "nobody"}}],
    "current-context": "far",
}


class Starting:
    """A worker that runs, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, port: int) -> None:
        self.process, self._log, self._port = process, log, port

    async def says(self, event: str, text: str = "") -> None:
        """Wait for it.  Raises TimeoutError, AssertionError where the process has ended."""
        await until(lambda: self.said(event, text) or self.process.returncode is not None)
        assert self.said(event, text), self._log.read_text()

    def said(self, event: str, text: str = "") -> bool:
        """Whether a line of its log is this event's, and its error has this text in it."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return any(line["event"] == event and text in line.get("error", "") for line in lines)

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        return await asyncio.to_thread(self._get)

    def _get(self) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5) as answer:
                return int(answer.status), json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)


@asynccontextmanager
async def starting(world: KafkaWorld, s3: ObjectStore, bucket: str, folder: Path) -> AsyncIterator[Starting]:
    kubeconfig, log, port = folder / "kubeconfig", folder / "worker.log", free_port()
    kubeconfig.write_text(json.dumps(KUBECONFIG))
    settings = {
        "STACK": "services",
        "PROBES_PORT": str(port),
        "KAFKA__BOOTSTRAP_SERVERS": world.settings.bootstrap_servers,
        "KAFKA__TOPIC_PREFIX": world.settings.topic_prefix,
        "KAFKA__GROUP": world.settings.group,
        "KAFKA__SESSION_TIMEOUT_SECONDS": "6",
        "KAFKA__HEARTBEAT_INTERVAL_SECONDS": "0.2",
        "S3__ENDPOINT_URL": s3.endpoint_url,
        "S3__BUCKET": bucket,
        "S3__ACCESS_KEY": s3.access_key,
        "S3__SECRET_KEY": s3.secret_key,
        "KUBERNETES__KUBECONFIG": str(kubeconfig),
        "DECISIONS__NAMESPACES": '["evaluations"]',
    }
    environment = os.environ | {f"WORKER_{name}": value for name, value in settings.items()}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(WORKER, "run", env=environment, stdout=output, stderr=output)
    try:
        yield Starting(process, log, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_broker_and_bucket_that_are_away_at_the_start_are_waited_for(
    kafka: Broker, s3: ObjectStore, bucket: str, topic_prefix: str, group: str, tmp_path: Path
) -> None:
    world = KafkaWorld(kafka, topic_prefix, group, partitions=1)
    await world.create()
    await asyncio.gather(kafka.kill(), s3.kill())
    async with starting(world, s3, bucket, tmp_path) as worker:
        await worker.says("dependency.unavailable", "WORKER_S3__ENDPOINT_URL: ")
        await asyncio.sleep(0.2)  # the probes come after the first try
        assert (await worker.readiness())[0] == 503
        await s3.start()
        await worker.says("dependency.unavailable", "kafka: ")
        assert (await worker.readiness())[0] == 503
        await kafka.start()
        await worker.says("worker.ready")
        assert await worker.readiness() == (200, {"status": "ready", "why": {}})
        worker.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.process.wait(), 20) == 0


async def test_a_worker_that_waits_for_them_stops_when_it_is_told_to(
    kafka: Broker, s3: ObjectStore, bucket: str, topic_prefix: str, group: str, tmp_path: Path
) -> None:
    world = KafkaWorld(kafka, topic_prefix, group, partitions=1)
    await kafka.kill()
    async with starting(world, s3, bucket, tmp_path) as worker:
        await worker.says("dependency.unavailable", "kafka: ")
        worker.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.process.wait(), 20) == 0
        assert worker.said("worker.stopped")
        assert not worker.said("worker.failed")
