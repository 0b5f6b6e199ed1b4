"""The images of the servers: named for their recipe, built once per machine, outside of the tree.

Knows the recipes' folders and Docker's command line; nothing of containers.
"""

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services import engine

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Image:
    """An image: the folder of its recipe, and the version of the server in it."""

    name: str
    version: str

    @property
    def variable(self) -> str:
        """Names an image of the same recipe, in a registry of one's own: pulled, in place of a build.

        (No `WORKER_`: the worker refuses variables of that prefix which are no settings of it.)
        """
        return f"SERVICES_{self.name.upper()}_IMAGE"

    @property
    def tag(self) -> str:
        """Changes with the recipe, so that an image is never older than what the tree says."""
        return os.environ.get(self.variable) or f"verdict-worker/{self.name}:{self.version}-{self._digest()}"

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for file in sorted(path for path in (HERE / self.name).iterdir() if path.is_file()):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()[:12]


KAFKA = Image("kafka", "4.1.1")
S3 = Image("s3", "1.8.0")
KUBERNETES = Image("kubernetes", "1.34.4")
PYTHON = Image("python", platform.python_version())  # no server: what the worker's own image is made on
ALL = (PYTHON, KAFKA, S3, KUBERNETES)  # the quickest first


class BuildFailed(Exception):
    """An image cannot be had; the text ends with what the build said."""


def cache() -> Path:
    """Where images are built and the engine's log is: once per machine."""
    if named := os.environ.get("SERVICES_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verdict-worker" / "services"


def exists(image: Image) -> bool:
    """Whether the engine has it; False as well where there is no engine."""
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", image.tag]
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def ensure(image: Image) -> str:
    """Pulls or builds it where it is not there -> what was done, in a line.  Raises BuildFailed, Missing.

    Safe to run twice at once: the second waits for the first, and finds the image.
    """
    if exists(image):
        return f"{image.name}: {image.tag}"
    with locked(image.name):
        if exists(image):
            return f"{image.name}: {image.tag}, built meanwhile"
        began = time.monotonic()
        if os.environ.get(image.variable):
            _run(["docker", "pull", "--quiet", image.tag], image)
            return f"{image.name}: {image.tag}, pulled"
        engine.install_tools()
        _run(["bash", str(HERE / image.name / "build.sh"), image.tag], image)
        return f"{image.name}: {image.tag}, built in {time.monotonic() - began:.0f} s"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds a lock of this machine's user; whoever is killed lets go of it."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str], image: Image) -> None:
    """The output goes to a log; nothing is asked on standard input."""
    folder = cache() / image.name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    environment = {**os.environ, "DOCKER_BUILDKIT": "0", "BUILD": str(folder), "PYTHON": sys.executable}
    with log.open("w") as output:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, check=False
        )
    if ran.returncode:
        raise BuildFailed(f"{image.name}: {' '.join(command)} failed; {log} ends with:\n{log.read_text()[-3000:]}")
