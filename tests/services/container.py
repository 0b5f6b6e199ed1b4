"""A server in a container: on one port for its whole life, and killed, paused and started again at will.

Through testcontainers.  Knows Docker and nothing of what the servers are for.
"""

import asyncio
import contextlib
import os
import random
import socket
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import docker
from docker.errors import APIError
from docker.models.containers import Container
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import WaitStrategy, WaitStrategyTarget

HOST = "127.0.0.1"
OWNER = "verdict-worker.tests.owner"
"""The label that says which process a container belongs to."""

# Its helper image comes from a registry; what it does, `Server` and `remove_leftovers` do here.
testcontainers_config.ryuk_disabled = True


class LogLine(WaitStrategy):
    """Ready once this start of the container wrote the text; testcontainers' own strategy finds an earlier start's."""

    def __init__(self, text: str, timeout_seconds: int) -> None:
        super().__init__()
        self._text = text.encode()
        self.with_startup_timeout(timeout_seconds).with_poll_interval(0.1)

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        """Raises TimeoutError, or RuntimeError where the container ends before; both with the end of its log."""
        wrapped = container.get_wrapped_container()
        deadline = time.monotonic() + self._startup_timeout
        while True:
            wrapped.reload()
            state = wrapped.attrs["State"]
            log = wrapped.logs(since=datetime.fromisoformat(state["StartedAt"]).timestamp())
            if self._text in log:
                return
            ending = log[-2000:].decode(errors="replace")
            if not state["Running"]:
                raise RuntimeError(f"{wrapped.name} ended with {state['ExitCode']}:\n{ending}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{wrapped.name} is not ready after {self._startup_timeout} s:\n{ending}")
            time.sleep(self._poll_interval)


class Server:
    """`with Server(...) as server`: runs until the end of the block, and leaves nothing behind.

    The coroutines are idempotent, and work in a thread: the event loop of a test goes on.
    """

    def __init__(self, container: DockerContainer, ready: WaitStrategy) -> None:
        self._container = container.with_kwargs(labels={OWNER: _owner(os.getpid())}).waiting_for(ready)
        self._ready = ready

    def __enter__(self) -> Self:
        self._container.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.__exit__(kind, error, trace)

    async def kill(self) -> None:
        """SIGKILL; connections are refused from then on."""
        await asyncio.to_thread(self._kill)

    async def stop(self, timeout_seconds: int = 10) -> None:
        """SIGTERM, and SIGKILL when it still runs after that time."""
        await asyncio.to_thread(self._docker.stop, timeout=timeout_seconds)

    async def start(self) -> None:
        """Again, with the same data on the same port -> once it is ready.  Raises TimeoutError, RuntimeError."""
        await asyncio.to_thread(self.revive)

    async def pause(self) -> None:
        """Freezes it: connections are taken, nothing is answered."""
        await asyncio.to_thread(self._pause)

    async def unpause(self) -> None:
        """It goes on where it was frozen."""
        await asyncio.to_thread(self._unpause)

    def revive(self) -> None:
        """Runs and is ready, whatever happened to it before; not for coroutines, which call start."""
        self._unpause()
        if not self._is("Running"):
            self._docker.start()
            self._ready.wait_until_ready(self._container)

    def log(self) -> str:
        """Everything that it wrote, for people."""
        return str(self._docker.logs().decode(errors="replace"))

    @property
    def _docker(self) -> Container:
        return self._container.get_wrapped_container()

    def _is(self, state: Literal["Running", "Paused"]) -> bool:
        self._docker.reload()
        return bool(self._docker.attrs["State"][state])

    def _kill(self) -> None:
        if self._is("Running"):
            self._docker.kill("SIGKILL")
            self._docker.wait()

    def _pause(self) -> None:
        if self._is("Running") and not self._is("Paused"):
            self._docker.pause()

    def _unpause(self) -> None:
        if self._is("Paused"):
            self._docker.unpause()


def remove_leftovers() -> None:
    """Removes the containers of test runs that were killed; those of runs that still go on stay."""
    client = docker.from_env()
    try:
        for container in client.containers.list(all=True, ignore_removed=True, filters={"label": OWNER}):
            owner = container.labels[OWNER]
            if owner != _owner(int(owner.partition("-")[0])):
                with contextlib.suppress(APIError):  # another run was faster
                    container.remove(force=True, v=True)
    finally:
        client.close()


def free_port() -> int:
    """Below the range of ports that outgoing connections get: while its server is down, nobody takes it by chance."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(lowest - 12_000, lowest)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return port


def _owner(pid: int) -> str:
    """A process, as nobody else will ever be called: its number, and when it started; "gone" where it is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "gone"
    return f"{pid}-{stat.rpartition(')')[2].split()[19]}"
