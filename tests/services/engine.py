"""The Docker engine: found, or else installed and started.

Installs on Debian and its kin.  Knows nothing of images and containers.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("docker.io", "busybox-static", "iptables")
"""What an engine, and an image FROM scratch, need."""
TOOLS = {"busybox": "busybox-static", "jlink": "openjdk-17-jdk-headless", "mvn": "maven"}
"""What the recipes run, and the package that has it.  Go has to be there already: Debian's is too old for them."""
PID_FILE = Path("/var/run/docker.pid")
CONTAINERD_PID_FILE = Path("/var/run/docker/containerd/containerd.pid")
START_SECONDS = 90


class Missing(Exception):
    """The engine or a tool is not there, and cannot be had from here; the text says what to do."""


def answers() -> bool:
    """Whether an engine can be reached; `DOCKER_HOST` counts."""
    if not shutil.which("docker"):
        return False
    try:
        command = ["docker", "info", "--format", "{{.ServerVersion}}"]
        asked = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0 and bool(asked.stdout.strip())


def ensure(log: Path) -> str:
    """Installs and starts what is missing -> what was done, in a line; `log` takes the engine's output.

    The caller holds a lock, so that one starts it at a time.  Raises Missing.
    """
    if answers():
        return "engine: answers"
    done = "started"
    if not shutil.which("dockerd"):
        install(PACKAGES)
        done = "installed and started"
    _start(log)
    _wait(log)
    return f"engine: {done}"


def install_tools() -> None:
    """Installs what the recipes need and this machine lacks.  Raises Missing."""
    if missing := [package for tool, package in TOOLS.items() if not shutil.which(tool)]:
        install(missing)
    if not shutil.which("go"):
        raise Missing("install Go 1.24 or later (go.dev)")


def install(packages: Sequence[str]) -> None:
    """By apt; right after boot the machine's own updates may hold its locks, so both steps wait.  Raises Missing."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"install {', '.join(packages)} (only root on Debian or its kin does it by itself)")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _apt(["update", "-q"], environment, attempts=30)
    _apt(["install", "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *packages], environment)


def _apt(arguments: list[str], environment: dict[str, str], attempts: int = 1) -> None:
    """The lists' lock knows no waiting, so `update` is tried again."""
    for attempt in range(attempts):
        if attempt:
            time.sleep(5)
        ran = subprocess.run(["apt-get", *arguments], capture_output=True, text=True, env=environment, check=False)
        if ran.returncode == 0:
            return
        if "Could not get lock" not in ran.stderr:
            break
    raise Missing(f"apt-get {arguments[0]} failed:\n{ran.stdout[-1000:]}{ran.stderr[-2000:]}")


def _start(log: Path) -> None:
    """In a session of its own: it outlives whoever called, and no Ctrl-C or closed terminal reaches it."""
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "start", "docker"], check=False, capture_output=True)
        return
    if os.geteuid() != 0:
        raise Missing("start the Docker engine (only root does it by itself)")
    if _is(PID_FILE, "dockerd"):
        return  # somebody else's, still on its way up
    # Left by an engine that was killed, on a disk that survives a boot: by now the number may be somebody else's, whom
    # the engine would take for itself, or for its containerd, and refuse to start.
    for file, command in ((PID_FILE, "dockerd"), (CONTAINERD_PID_FILE, "containerd")):
        if not _is(file, command):
            file.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )


def _is(pid_file: Path, command: str) -> bool:
    """Whether the process of a pid file runs that command."""
    try:
        name = Path(f"/proc/{int(pid_file.read_text())}/comm").read_text()
    except (OSError, ValueError):
        return False
    return name.strip() == command


def _wait(log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if time.monotonic() > deadline:
            end = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise Missing(f"the engine does not answer after {START_SECONDS} s; {log} ends with:\n{end}")
        time.sleep(0.3)
