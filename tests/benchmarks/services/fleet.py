"""Workers as they are deployed: `worker run` processes with WORKER_STACK=services, over one group and one bucket.

They reach the object store through a proxy and the broker straight away.  Knows the command line and the environment,
nothing of commands.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from tests.benchmarks import load
from tests.integration.proxy import Proxy
from tests.services.broker import Broker
from worker.adapters.s3 import S3Store
from worker.adapters.system import SystemClock, SystemIds
from worker.settings import S3Settings

WORKER = Path(sys.executable).with_name("worker")
PARTITIONS = 12
READY_SECONDS = 60
NO_CLUSTER = {
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "current-context": "none",
    "users": [{"name": "none", "user": {}}],
}
"""A kubeconfig; a worker asks the cluster for nothing before something has to be stopped."""


@dataclass(frozen=True, slots=True)
class Hired:
    """One process, and the file that its lines go to."""

    process: Process
    lines: Path

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def events(self, name: str) -> list[dict[str, object]]:
        """Its log events of this name; the last line may be half written yet."""
        whole = self.lines.read_text().rpartition("\n")[0]
        return [line for line in map(json.loads, whole.splitlines()) if line["event"] == name]


def machine_seconds() -> float:
    """CPU that this machine has spent so far on whatever it was, all cores together, in seconds."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, waits = fields[3], fields[4]
    return (sum(fields) - idle - waits) / os.sysconf("SC_CLK_TCK")


class Fleet:
    """`hire`, `dismiss`, `kill`; who still works at the end is dismissed."""

    def __init__(self, broker: Broker, s3: S3Settings, proxy: Proxy, folder: Path) -> None:
        self.bootstrap_servers = broker.bootstrap_servers
        self.topic_prefix = f"bench-{secrets.token_hex(4)}"
        self.proxy = proxy
        self.workers: list[Hired] = []
        self._folder, self._s3, self._started = folder, s3, 0
        self._admin = AdminClient(
            {"bootstrap.servers": broker.bootstrap_servers, "log_level": 2}
        )  # the end of the broker is none
        kubeconfig = folder / "no-cluster"
        kubeconfig.write_text(json.dumps(NO_CLUSTER))
        ours = {
            "WORKER_STACK": "services",
            "WORKER_PARTITIONS": str(PARTITIONS),
            "WORKER_PROBES_PORT": "0",
            "WORKER_LOG_FORMAT": "json",
            "WORKER_RECONCILE_INTERVAL_SECONDS": "3600",  # its lists are none of what is counted
            "WORKER_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "WORKER_KAFKA__TOPIC_PREFIX": self.topic_prefix,
            "WORKER_KAFKA__GROUP": self.topic_prefix,
            "WORKER_KAFKA__REPLICATION_FACTOR": "1",
            "WORKER_S3__ENDPOINT_URL": proxy.url,
            "WORKER_S3__BUCKET": s3.bucket,
            "WORKER_S3__ACCESS_KEY": s3.access_key,
            "WORKER_S3__SECRET_KEY": s3.secret_key.get_secret_value(),
            "WORKER_KUBERNETES__KUBECONFIG": str(kubeconfig),
            "WORKER_DECISIONS__NAMESPACES": '["default"]',
        }
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")} | ours

    async def __aenter__(self) -> Self:
        made = await asyncio.create_subprocess_exec(
            WORKER, "topics", "create", env=self._environment, stdout=subprocess.DEVNULL
        )
        assert await made.wait() == 0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(self.dismiss(worker) for worker in list(self.workers)))

    @property
    def cpu_seconds(self) -> float:
        """Of all that work now, so far."""
        return sum(worker.cpu_seconds for worker in self.workers)

    async def create_documents(self, numbers: list[int]) -> None:
        """Running evaluations, written past the proxy."""
        store = S3Store(self._s3, SystemClock(), SystemIds())
        await store.start()
        try:
            await load.create_documents(store, numbers)
        finally:
            await store.stop()

    async def hire(self, count: int = 1, **settings: str) -> list[Hired]:
        """Start so many workers, -> once each is ready and the group has settled."""
        hired = [await self._start(settings) for _ in range(count)]
        await asyncio.gather(*map(self._ready, hired))
        await self.settled()
        return hired

    async def settled(self) -> None:
        """Until every worker is a member and the group moves nothing any more."""
        async with asyncio.timeout(READY_SECONDS):
            while not await asyncio.to_thread(self._is_settled):  # noqa: ASYNC110  # it happens elsewhere
                await asyncio.sleep(0.1)

    async def dismiss(self, worker: Hired) -> None:
        """SIGTERM, as a platform stops it: it drains."""
        await self._end(worker, signal.SIGTERM)

    async def kill(self, worker: Hired) -> None:
        """SIGKILL: its session has to time out."""
        await self._end(worker, signal.SIGKILL)

    async def _end(self, worker: Hired, how: signal.Signals) -> None:
        self.workers.remove(worker)
        if worker.process.returncode is None:
            worker.process.send_signal(how)
        await worker.process.wait()

    async def _start(self, settings: dict[str, str]) -> Hired:
        self._started += 1
        lines = self._folder / f"worker-{self._started}.log"
        environment = self._environment | settings
        with lines.open("w") as out, lines.with_suffix(".err").open("w") as err:
            process = await asyncio.create_subprocess_exec(WORKER, "run", env=environment, stdout=out, stderr=err)
        self.workers.append(Hired(process, lines))
        return self.workers[-1]

    async def _ready(self, worker: Hired) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while not worker.events("worker.ready"):
                assert worker.process.returncode is None, worker.lines.with_suffix(".err").read_text()
                await asyncio.sleep(0.05)

    def _is_settled(self) -> bool:
        described = self._admin.describe_consumer_groups([self.topic_prefix])[self.topic_prefix].result()
        return bool(described.state == ConsumerGroupState.STABLE and len(described.members) == len(self.workers))
