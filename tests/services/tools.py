"""The command lines of who deploys: kubectl and Docker Compose, found on this machine, or else built and installed.

Knows neither images nor what is deployed.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.services import engine, images

RECIPE = Path(__file__).parent / "kubectl"
COMPOSE_PACKAGE = "docker-compose"
"""Debian's; where `docker compose` is there, that is taken."""


def kubectl() -> str:
    """-> the command.  Raises Missing."""
    built = _built()
    if command := shutil.which("kubectl") or (str(built) if built.is_file() else None):
        return command
    raise engine.Missing("no kubectl: make services")


def compose() -> list[str]:
    """-> the command, of a word or two.  Raises Missing."""
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if asked.returncode == 0:
        return ["docker", "compose"]
    if command := shutil.which("docker-compose"):
        return [command]
    raise engine.Missing("no Docker Compose: make services")


def ensure() -> str:
    """Builds and installs what is missing -> what is there, in a line.  Raises Missing."""
    try:
        found = compose()
    except engine.Missing:
        engine.install([COMPOSE_PACKAGE])
        found = compose()
    try:
        return f"tools: {kubectl()}, {' '.join(found)}"
    except engine.Missing:
        _build()
        return f"tools: {kubectl()}, built, {' '.join(found)}"


def _built() -> Path:
    return images.cache() / "kubectl" / "kubectl"


def _build() -> None:
    """From Go's modules, as its servers are: some minutes."""
    target = _built()
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(target), "."]
    ran = subprocess.run(
        command, cwd=RECIPE, env={**os.environ, "CGO_ENABLED": "0"}, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise engine.Missing(f"kubectl cannot be built:\n{ran.stderr[-2000:]}")
