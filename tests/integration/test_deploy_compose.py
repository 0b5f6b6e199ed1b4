"""deploy/compose.yaml as it is, with the images of this machine: brought up, a cancel made through it, taken down."""

import asyncio
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import yaml  # type: ignore[import-untyped]  # comes with kubernetes_asyncio, without types
from kubernetes_asyncio.client import ApiClient

from tests.integration.deployed import DEPLOY, evaluation, read_committed, said, worker_image
from tests.integration.workload import Workload
from tests.services import images, tools
from tests.services.cluster import Cluster
from tests.services.container import free_port

FILE = DEPLOY / "compose.yaml"


class Stack(NamedTuple):
    """`compose(...)` -> what it printed."""

    compose: Callable[..., str]
    bootstrap_servers: str


@pytest.fixture
def stack(kubernetes: Cluster, namespace: str, tmp_path: Path) -> Iterator[Stack]:
    ports = {name: str(free_port()) for name in ("KAFKA_PORT", "S3_PORT", "PROBES_PORT")}
    chosen = {
        "KAFKA_IMAGE": images.KAFKA.tag,
        "S3_IMAGE": images.S3.tag,
        "WORKER_IMAGE": worker_image(),
        "WORKER_USER": f"{os.getuid()}:{os.getgid()}",
        "KUBECONFIG": str(_seen_from_a_container(kubernetes, tmp_path / "kubeconfig")),
        "JOBS_NAMESPACE": namespace,
        **ports,
    }
    command = [*tools.compose(), "-p", f"verdict-worker-{secrets.token_hex(4)}", "-f", str(FILE)]

    def compose(*arguments: str, given: str = "") -> str:
        return said([*command, *arguments], chosen, given)

    try:
        compose("up", "-d")
        yield Stack(compose, f"localhost:{ports['KAFKA_PORT']}")
    finally:
        compose("down", "--volumes", "--timeout", "45")


def _seen_from_a_container(kubernetes: Cluster, path: Path) -> Path:
    config = yaml.safe_load(kubernetes.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://host.docker.internal:{urlsplit(kubernetes.url).port}"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


async def test_a_cancel_goes_through_the_whole_stack(
    stack: Stack, kubernetes_client: ApiClient, namespace: str
) -> None:
    workload, name = Workload(kubernetes_client, namespace), str(uuid4())
    job = await workload.job(name)

    async def worker(*arguments: str, given: str = "") -> str:
        return await asyncio.to_thread(stack.compose, "exec", "-T", "worker", "worker", *arguments, given=given)

    checked = await worker("topics", "check", "--json")
    assert [each["ok"] for each in json.loads(checked)] == [True] * 7
    await worker("create", "-", given=evaluation(name, job))
    await worker("send", "evaluation.cancel", name, "--wait", "30")
    [verdict] = await asyncio.to_thread(read_committed, stack.bootstrap_servers, "worker.results")
    assert (verdict["code"], verdict["receipt"]["evidence"]) == ("cancelled", "stopped")
    assert await workload.left() == []
    assert "ready" in await asyncio.to_thread(stack.compose, "exec", "-T", "worker", "python", "-c", READY)
    await asyncio.to_thread(stack.compose, "stop", "worker")
    assert "worker.stopped" in await asyncio.to_thread(stack.compose, "logs", "worker")


READY = "import urllib.request as http; print(http.urlopen('http://localhost:8081/readyz').read().decode())"
