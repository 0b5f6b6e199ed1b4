"""The worker's own image, made from deploy/Dockerfile as users make it, and what is said to and by a worker inside it.

The base is this machine's Python and the releases come from a folder: inside of the build there is no network.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.services import images
from worker.ports import JobIdentity

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
LOCKS = tuple(sorted((DEPLOY / "locks").glob("*.lock")))
REPOSITORY = "verdict-worker/worker"
KEPT = 5
"""Images of earlier states of the tree that stay; each takes as much space as its dependencies."""
WITH_WHEELS = """
FROM {base}
COPY pip /opt/pip/pip
COPY wheels /opt/wheels
ENV PYTHONPATH=/opt/pip PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/wheels
"""


def run(
    command: list[str], environment: Mapping[str, str] | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """In the root of the tree; `environment` goes on top of this process's, `given` is the standard input."""
    whole = {**os.environ, "DOCKER_BUILDKIT": "0", **(environment or {})}
    return subprocess.run(command, env=whole, input=given, capture_output=True, text=True, check=False, cwd=ROOT)


def said(command: list[str], environment: Mapping[str, str] | None = None, given: str = "") -> str:
    """-> the standard output of a command that succeeds.  Raises AssertionError, with all that it said."""
    ran = run(command, environment, given)
    assert ran.returncode == 0, f"{' '.join(command)}: {ran.returncode}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


# ------------------------------------------------------------------------------------------------ the image


@cache  # one for a test run, whatever happens to the tree meanwhile
def worker_image() -> str:
    """Built where there is none of this state of the tree -> its tag."""
    copied = [ROOT / name for name in (".dockerignore", "LICENSE", "README.md", "pyproject.toml")]
    copied += [DEPLOY / "Dockerfile", *LOCKS, *(ROOT / "schemas").rglob("*"), *(ROOT / "worker").rglob("*")]
    tag = f"{REPOSITORY}:{_digest(copied)}"
    with images.locked("worker"):
        if not _exists(tag):
            base = [f"BASE_IMAGE={images.PYTHON.tag}", f"BUILD_IMAGE={_build_image()}"]
            arguments = [word for each in base for word in ("--build-arg", each)]
            said(["docker", "build", "-q", "--network", "none", "-f", "deploy/Dockerfile", *arguments, "-t", tag, "."])
            tags = said(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY]).split()
            for old in tags[KEPT:]:
                run(["docker", "rmi", old])  # one that runs, for somebody else's tests, stays
    return tag


def _build_image() -> str:
    """The base, with pip and the locks' wheels in it -> its tag."""
    tag = f"{REPOSITORY}-build:{_digest(LOCKS)}"
    if _exists(tag):
        return tag
    import pip  # the one that made this environment

    with tempfile.TemporaryDirectory(dir=images.cache()) as folder:
        locks = [word for lock in LOCKS for word in ("-r", str(lock))]
        download = ["download", "-q", "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:"]
        said([sys.executable, "-m", "pip", *download, "-d", f"{folder}/wheels", *locks])
        said(["cp", "-r", str(Path(pip.__file__).parent), f"{folder}/pip"])
        (Path(folder) / "Dockerfile").write_text(WITH_WHEELS.format(base=images.PYTHON.tag))
        said(["docker", "build", "-q", "-t", tag, folder])
    return tag


def _exists(tag: str) -> bool:
    return bool(said(["docker", "images", "-q", tag]))


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256(images.PYTHON.tag.encode())
    for file in sorted(each for each in files if each.is_file() and "__pycache__" not in each.parts):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


# ------------------------------------------------------------------------------------------------ what goes through it


def evaluation(evaluation_id: str, job: JobIdentity) -> str:
    """A running evaluation with its Job, as `worker create` takes it."""
    fields = {"workflow_id": evaluation_id, "team_id": "demo", "status": "running", "request": {"model": "m"}}
    jobs = [{"namespace": job.namespace, "name": job.name, "uid": job.uid}]
    return json.dumps({"kind": "workflow", "jobs": jobs, **fields})


def read_committed(bootstrap_servers: str, topic: str) -> list[dict[str, Any]]:
    """All that is committed on a topic now, read by librdkafka."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: list[dict[str, Any]] = []
        open_ends = set(partitions)
        while open_ends:
            message = consumer.poll(10)
            assert message is not None, f"{topic}: no end within 10 s"
            if error := message.error():
                assert error.code() == KafkaError._PARTITION_EOF, error  # its public name
                open_ends.discard(message.partition() or 0)
            else:
                found.append(json.loads(message.value() or b""))
        return found
    finally:
        consumer.close()
