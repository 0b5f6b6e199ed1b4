"""The servers and remote sides of a run, each behind wires; topics, bucket and namespaces are there at the start.

Every worker has wires of its own to the store and to the API server.  Knows servers and settings, nothing of commands.
"""

import asyncio
import base64
import json
import os
import secrets
import signal
import ssl
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import botocore.session
import yaml  # type: ignore[import-untyped]  # comes with kubernetes_asyncio, without types
from botocore.config import Config
from kubernetes_asyncio.client import ApiClient
from kubernetes_asyncio.config import new_client_from_config

from tests.chaos.talk import HttpTalk, KafkaTalk
from tests.chaos.wires import Wire
from tests.integration.workload import Workload
from tests.services.broker import Broker
from tests.services.cluster import Cluster
from tests.services.container import HOST, Server
from tests.services.object_store import ObjectStore

WORKER = Path(sys.executable).with_name("worker")
PARTITIONS = 12
AGENT, ZONE = "demo", "zone-1"
NAMESPACE, NEXT_DOOR = "chaos", "next-door"
"""Where workers may touch Jobs, and where they may not."""
SESSION_TIMEOUT_SECONDS = 6
"""The least that a broker takes as it comes."""
START_SECONDS = 30.0
DEADLINE_SECONDS = 3600
"""Longer than any run: no failure is justified, whatever happens."""
DEADLINES = ("EVALUATION", "AGENT", "TURN")


class Stage:
    """`async with Stage(folder, ["worker-1", ...]) as stage`: everything is ready; at the end nothing is left."""

    def __init__(self, folder: Path, workers: Sequence[str]) -> None:
        self.folder, self.prefix, self.bucket = folder, f"chaos-{secrets.token_hex(4)}", f"chaos-{secrets.token_hex(4)}"
        self._exit = AsyncExitStack()
        self.log = Wire(lambda: self._broker_at, KafkaTalk)
        self.broker = Broker()
        self.store, self.cluster = ObjectStore(), Cluster(folder)
        self._workers = workers
        self._wires: dict[str, tuple[Wire, Wire]] = {}
        self.agent_url = self.executor_url = ""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self.log)
            self.broker = Broker(
                {"advertised.listeners": f"PLAINTEXT://{HOST}:{self.log.port},BROKER://localhost:9092"}
            )
            servers: tuple[Server, ...] = (self.broker, self.store, self.cluster)
            await asyncio.gather(*(self._enter(opened, server) for server in servers))
            await self._lay_wires(opened)
            self.agent_url = await self._remote(opened, "agent")
            self.executor_url = await self._remote(opened, "executor")
            self.client = await opened.enter_async_context(await self._kubernetes())
            self.s3 = s3_client(self.store)
            opened.callback(self.s3.close)
            await asyncio.gather(self._namespaces(), self._topics(), asyncio.to_thread(self._make_bucket))
            self._exit = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    def environment(self, worker: str) -> dict[str, str]:
        """What this worker is told: our settings, and nothing that this process was told."""
        ours = {
            "WORKER_STACK": "services",
            "WORKER_PARTITIONS": str(PARTITIONS),
            "WORKER_PROBES_PORT": "0",
            "WORKER_LOG_FORMAT": "json",
            "WORKER_AGENTS": json.dumps({AGENT: {"url": self.agent_url}}),
            "WORKER_ZONES": json.dumps({ZONE: {"url": self.executor_url}}),
            **{f"WORKER_DECISIONS__DEADLINE_SECONDS_{what}": str(DEADLINE_SECONDS) for what in DEADLINES},
            "WORKER_DECISIONS__NAMESPACES": json.dumps([NAMESPACE]),
            "WORKER_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "WORKER_KAFKA__CLIENT_ID": worker,
            "WORKER_KAFKA__TOPIC_PREFIX": self.prefix,
            "WORKER_KAFKA__GROUP": self.prefix,
            "WORKER_KAFKA__REPLICATION_FACTOR": "1",
            "WORKER_KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION_TIMEOUT_SECONDS),
            "WORKER_KAFKA__HEARTBEAT_INTERVAL_SECONDS": "0.5",
            "WORKER_KAFKA__REQUEST_TIMEOUT_SECONDS": "5",
            "WORKER_KAFKA__TRANSACTION_TIMEOUT_SECONDS": "15",
            "WORKER_S3__BUCKET": self.bucket,
            "WORKER_S3__ACCESS_KEY": self.store.access_key,
            "WORKER_S3__SECRET_KEY": self.store.secret_key,
        }
        if worker in self._wires:
            ours["WORKER_S3__ENDPOINT_URL"] = f"http://{HOST}:{self._wires[worker][0].port}"
            ours["WORKER_KUBERNETES__KUBECONFIG"] = str(self.folder / f"{worker}.kubeconfig")
        return {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")} | ours

    @property
    def store_wires(self) -> list[Wire]:
        """One a worker; operations say whose they are."""
        return [store for store, _ in self._wires.values()]

    @property
    def api_wires(self) -> list[Wire]:
        return [api for _, api in self._wires.values()]

    @property
    def bootstrap_servers(self) -> str:
        """Through the wire: a broker sends its clients there as well."""
        return f"{HOST}:{self.log.port}"

    def access(self) -> dict[str, Any]:
        """How topics, bucket and cluster are read by who knows nothing of us (`gather`)."""
        token, authority = self._credentials()
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "prefix": self.prefix,
            "partitions": PARTITIONS,
            "s3": {
                "endpoint_url": self.store.endpoint_url,
                "region_name": self.store.region,
                "aws_access_key_id": self.store.access_key,
                "aws_secret_access_key": self.store.secret_key,
            },
            "bucket": self.bucket,
            "api": {"url": self.cluster.url, "token": token, "authority": authority},
        }

    async def revive(self) -> None:
        """Whatever was done to the servers, they run and answer."""
        await asyncio.gather(self.broker.start(), self.store.start(), self.cluster.start())

    # ------------------------------------------------------------------------------ how it is set up

    @property
    def _broker_at(self) -> tuple[str, int]:
        return _place(f"//{self.broker.bootstrap_servers}")

    async def _enter(self, opened: AsyncExitStack, server: Server) -> None:
        await asyncio.to_thread(server.__enter__)
        opened.callback(server.__exit__, None, None, None)

    async def _lay_wires(self, opened: AsyncExitStack) -> None:
        token, authority = self._credentials()
        trusting = ssl.create_default_context(cadata=authority)
        for worker in self._workers:
            store = Wire(lambda: _place(self.store.endpoint_url), partial(HttpTalk, worker))
            api = Wire(lambda: _place(self.cluster.url), partial(HttpTalk, worker), trusting)
            self._wires[worker] = (await opened.enter_async_context(store), await opened.enter_async_context(api))
            config = _kubeconfig(f"http://{HOST}:{api.port}", token)
            (self.folder / f"{worker}.kubeconfig").write_text(json.dumps(config))

    def _credentials(self) -> tuple[str, str]:
        """-> the administrator's token, and the authority (PEM) that vouches for the API server."""
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        return config["users"][0]["user"]["token"], authority

    async def _remote(self, opened: AsyncExitStack, name: str) -> str:
        """One of the demo's remote sides in a process of its own; -> its URL."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"worker.demo.{name}", "--port", "0"),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                start_new_session=True,
            )

        async def end() -> None:
            """With what runs for it, too: that holds the pipe, whose end `wait` waits for."""
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

        opened.push_async_callback(end)
        assert process.stdout is not None, "it is piped"
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        return f"http://{HOST}:{int(line.removeprefix(b'listening on '))}"

    async def _kubernetes(self) -> ApiClient:
        return await new_client_from_config(config_file=str(self.cluster.kubeconfig))

    async def _namespaces(self) -> None:
        for name in (NAMESPACE, NEXT_DOOR):
            await Workload(self.client, name).create_namespace()

    async def _topics(self) -> None:
        made = await asyncio.create_subprocess_exec(
            *(WORKER, "topics", "create"), env=self.environment("setup"), stdout=DEVNULL
        )
        if await made.wait():
            raise RuntimeError("worker topics create has failed")

    def _make_bucket(self) -> None:
        self.s3.create_bucket(Bucket=self.bucket)


def s3_client(store: ObjectStore) -> Any:
    """Straight to the server, which may just be away: who asks is patient."""
    return botocore.session.get_session().create_client(
        "s3",
        region_name=store.region,
        endpoint_url=store.endpoint_url,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=32,
            connect_timeout=2,
            read_timeout=5,
        ),
    )


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 80)


def _kubeconfig(url: str, token: str) -> dict[str, Any]:
    return {
        "clusters": [{"name": "chaos", "cluster": {"server": url}}],
        "contexts": [{"name": "chaos", "context": {"cluster": "chaos", "user": "admin"}}],
        "current-context": "chaos",
        "users": [{"name": "admin", "user": {"token": token}}],
    }
