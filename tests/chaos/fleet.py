"""The workers of a run: `worker run` processes, killed, frozen and started again; who ends by itself is noted.

Knows processes and the worker's log lines, nothing of commands.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.chaos.stage import WORKER

READY_SECONDS = 60.0
DRAIN_SECONDS = 60.0
LOOK_SECONDS = 0.1
ENDINGS_OF_BUGS = (".bug", "worker.failed")
"""Of log events: no fault of a server or a kill may lead to one."""
SAID_ELSEWHERE = frozenset({"exception", "level"})


class Worker:
    """One name, and the process that carries it now; all its lives write to one log."""

    def __init__(self, name: str, environment: Callable[[str], dict[str, str]], folder: Path) -> None:
        self.name, self._environment, self._log = name, environment, folder / f"{name}.log"
        self._log.touch()
        self._process: asyncio.subprocess.Process | None = None
        self._frozen, self.wanted = False, False
        self._starting = asyncio.Lock()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def has_ended(self) -> bool:
        """By itself: nobody is starting it, and nobody has ended it."""
        return self.wanted and not self.runs and not self._starting.locked()

    @property
    def is_up(self) -> bool:
        """Runs, and nobody has stopped it."""
        return self.runs and not self._frozen

    async def start(self) -> None:
        """A new life, unless it has one."""
        async with self._starting:
            self.wanted = True
            if self.runs:
                return
            with self._log.open("ab") as log:
                environment = self._environment(self.name)
                self._process = await asyncio.create_subprocess_exec(
                    *(WORKER, "run"), env=environment, stdout=log, stderr=log
                )

    async def kill(self) -> None:
        """kill -9, and nobody starts it again before `start`."""
        self.wanted = False
        async with self._starting:  # a life that is just beginning ends as well
            self._signal(signal.SIGKILL)
            self._frozen = False
            if self._process is not None:
                await self._process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self._frozen = False

    async def drain(self) -> int | None:
        """SIGTERM; -> exit code, None where it had to be killed."""
        self.wanted = False
        if self._process is None:
            return 0
        self._signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), DRAIN_SECONDS)
        except TimeoutError:
            await self.kill()
            return None

    def last_error(self) -> str:
        """What its last life said of its end, in a line; the client libraries' own complaints are none."""
        for line in reversed(self._log.read_text().splitlines()):
            if not line.startswith("{"):
                return line
            if '"worker.failed"' in line:
                return str(json.loads(line)["error"])
            if '"worker.started"' in line:
                break
        return "it said nothing"

    def bugs(self) -> list[str]:
        """What its lives said of bugs, and of ends that nobody asked for: a line each."""
        lines = [_read(line) for line in self._log.read_text().splitlines()]
        return [f"{self.name}: {_short(line)}" for line in lines if line.get("event", "").endswith(ENDINGS_OF_BUGS)]

    def times_ready(self) -> int:
        return self._log.read_text().count('"worker.ready"')

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def _read(line: str) -> dict[str, Any]:
    """A line of the log; empty where it is none, or a kill has cut it, and the next life has gone on in it."""
    with suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


def _short(line: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in line.items() if name not in SAID_ELSEWHERE)


class Fleet:
    """`async with Fleet(names, environment, folder) as fleet`: all are ready, and started again when they end."""

    def __init__(self, names: Sequence[str], environment: Callable[[str], dict[str, str]], folder: Path) -> None:
        self.workers = [Worker(name, environment, folder) for name in names]
        self.ended: Counter[str] = Counter()
        """Lives that ended although nobody asked for it, by what they said."""

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(worker.start() for worker in self.workers))
            async with asyncio.timeout(READY_SECONDS):
                while not all(worker.times_ready() for worker in self.workers):
                    assert all(worker.runs for worker in self.workers), [w.last_error() for w in self.workers]
                    await asyncio.sleep(LOOK_SECONDS)
        except BaseException:
            await self._end()
            raise
        self._keeping = asyncio.create_task(self._keep(), name="keeps workers alive")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeping.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeping
        await self._end()

    async def _end(self) -> None:
        await asyncio.gather(*(worker.kill() for worker in self.workers))

    async def _keep(self) -> None:
        """As a platform does it."""
        while True:
            for worker in self.workers:
                if worker.has_ended:
                    self.ended[worker.last_error()] += 1
                    await worker.start()
            await asyncio.sleep(LOOK_SECONDS)

    def bugs(self) -> list[str]:
        """Of all workers, those that were killed as well."""
        return [bug for worker in self.workers for bug in worker.bugs()]

    async def drain(self) -> list[int | None]:
        """-> exit codes."""
        return list(await asyncio.gather(*(worker.drain() for worker in self.workers)))
