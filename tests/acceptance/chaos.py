"""The crash test: the real worker, killed again and again while it works; then the checker.

`python -m tests.acceptance.chaos [--small] [--seed N]`.  A kill counts only for what was found after it, with the
worker dead and the file at rest: work was in flight; and the commit tap had said no end (inside a commit), or a
document was `cancelling` with an open command (between intent and outcome).  Kills, kinds and findings are printed.
"""

import argparse
import asyncio
import os
import platform
import secrets
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from random import Random
from typing import IO

from tests.acceptance import load as loads
from worker.adapters.sqlite import Database, SqliteStore, SqliteStream

ROOT = Path(__file__).parents[2]
TAP = Path(__file__).with_name("commit_tap.py")
COMMIT, INTENT, OTHER = "inside a commit", "between intent and outcome", "elsewhere, work in flight"
IDLE, GONE = "with nothing in flight (not counted)", "it had ended by itself (a failure)"
REST_SECONDS_MAX = 120.0
PIPE_BYTES = 1024 * 1024
CANCELLING = """
SELECT count(*) FROM objects WHERE key >= 'workflows/' AND key < 'workflows0'
AND json_extract(CAST(body AS TEXT), '$.state.status') = 'cancelling'
AND json_array_length(CAST(body AS TEXT), '$.state.open') > 0
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything; `quotas`: kills that are needed at least, by window."""

    commands: int
    aggregates: int
    kills: int
    quotas: dict[str, int]


FULL = Plan(commands=2000, aggregates=200, kills=30, quotas={COMMIT: 5, INTENT: 5})
SMALL = Plan(commands=300, aggregates=30, kills=6, quotas={COMMIT: 1, INTENT: 1})


class Worker:
    """One life of `worker run`, with the tap on its commits."""

    def __init__(self, folder: Path, log: IO[bytes]) -> None:
        self.path = folder / "worker.db"
        self._tap, descriptor = os.pipe()
        fcntl(self._tap, F_SETPIPE_SZ, PIPE_BYTES)  # it must never block the worker
        os.set_blocking(self._tap, False)
        self.process = subprocess.Popen(
            [sys.executable, TAP, str(descriptor), "run"],
            env=os.environ | {"WORKER_DATA_DIR": str(folder), "WORKER_PROBES_ENABLED": "false"},
            pass_fds=(descriptor,),
            stdout=log,
            stderr=log,
        )
        os.close(descriptor)
        self._said = b""

    def listen(self, timeout_seconds: float) -> bool:
        """Wait for the tap; -> whether the worker is inside a commit as far as it has said so."""
        if select.select([self._tap], [], [], timeout_seconds)[0]:
            self._drain()
        return bool(self._open_commit())

    def _drain(self) -> None:
        try:
            while chunk := os.read(self._tap, PIPE_BYTES):
                self._said = (self._said + chunk)[-1000:]
        except BlockingIOError:
            return

    def _open_commit(self) -> dict[int, int]:
        """The positions that are being committed, by partition: what was said after the last `)`."""
        lines = self._said.rpartition(b")\n")[2].splitlines()
        pairs = [line.removeprefix(b"( ").split(b":") for line in lines]
        return {int(partition): int(offset) for partition, offset in pairs}

    def kill(self) -> tuple[str, bool]:
        """kill -9; -> (the window that it hit, whether an open commit had become durable)."""
        if self.process.poll() is not None:
            os.close(self._tap)
            return GONE, False
        self.process.kill()
        self.process.wait()
        self._drain()
        os.close(self._tap)
        moved = self._open_commit()
        with closing(sqlite3.connect(self.path)) as connection:
            positions = dict(connection.execute('SELECT partition, "offset" FROM positions').fetchall())
            [(cancelling,)] = connection.execute(CANCELLING).fetchall()
            in_flight = bool(cancelling) or _behind(connection)
        durable = bool(moved) and moved.items() <= positions.items()
        if not in_flight:
            return IDLE, durable
        return (COMMIT if moved else INTENT if cancelling else OTHER), durable

    def stop(self) -> int:
        """SIGTERM; -> exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        os.close(self._tap)
        return code


def _behind(connection: sqlite3.Connection) -> bool:
    """Whether a command record has no verdict and no dead letter yet; by position and unfinished set."""
    ends = connection.execute("SELECT partition, \"offset\" FROM ends WHERE topic = 'commands'").fetchall()
    positions = {p: (offset, text) for p, offset, text in connection.execute(POSITIONS)}
    return any(positions.get(partition, (None, ""))[0] != end for partition, end in ends)


POSITIONS = 'SELECT partition, "offset", metadata FROM positions'


class Run:
    """One crash test in one folder."""

    def __init__(self, plan: Plan, seed: int, folder: Path) -> None:
        self.plan, self.folder, self.random = plan, folder, Random(seed)  # noqa: S311  # a story, no secret
        self.kills: Counter[str] = Counter()
        self.durable = 0
        self.published: Counter[str] = Counter()
        self.load = loads.build(self.random, commands=plan.commands, aggregates=plan.aggregates)
        self.path = folder / "worker.db"
        database = Database(self.path)
        self._stream, self._store = SqliteStream(database), SqliteStore(database)
        self._left = list(reversed(self.load.steps))

    @property
    def counted(self) -> int:
        return sum(self.kills[window] for window in (COMMIT, INTENT, OTHER))

    async def go(self) -> str | None:
        """Create, publish, kill, until everything is published and killed for; -> what went wrong."""
        await self._store.start()
        for key, body in self.load.objects.items():
            await self._store.put(key, body)
        try:
            with (self.folder / "worker.log").open("ab") as log:
                while self.counted < self.plan.kills or self._missing():
                    if not self._left:
                        return f"all is published, and only {self.counted} kills hit: {dict(self.kills)}"
                    await self._round(log)
                    if self.kills[GONE]:
                        return "the worker ended by itself, see worker.log"
                worker = Worker(self.folder, log)
                await self._publish(len(self._left))
                return self._rest(worker)
        finally:
            await self._stream.stop()

    def _missing(self) -> list[str]:
        return [window for window, quota in self.plan.quotas.items() if self.kills[window] < quota]

    async def _round(self, log: IO[bytes]) -> None:
        """One life: commands while it is down, while it starts and while it works; then the kill."""
        share = max(4, len(self._left) // (self.plan.kills - self.counted + 3 if self._left else 1))
        await self._publish(share // 3)
        worker = Worker(self.folder, log)
        aim = self._aim()
        if aim == OTHER:
            await asyncio.sleep(self.random.uniform(0.1, 1.5))
            await self._publish(share - share // 3)
        else:
            worker.listen(10)
            await self._publish(share - share // 3)
            await asyncio.sleep(self.random.uniform(0, 1))
            self._lie_in_wait(worker, aim)
        window, durable = worker.kill()
        self.kills[window] += 1
        self.durable += durable

    def _aim(self) -> str:
        """Mostly at what is still missing."""
        return self.random.choice(self._missing() or [COMMIT, INTENT, OTHER])

    def _lie_in_wait(self, worker: Worker, aim: str) -> None:
        until = time.monotonic() + 2
        if aim == COMMIT:
            skip = self.random.randrange(4)
            while time.monotonic() < until and (not worker.listen(0.2) or skip):
                skip -= skip > 0
            return
        while time.monotonic() < until:
            with closing(sqlite3.connect(self.path)) as connection:
                if connection.execute(CANCELLING).fetchone()[0]:
                    break
            time.sleep(0.02)
        time.sleep(self.random.uniform(0, 0.3))

    async def _publish(self, count: int) -> None:
        """In bursts of up to 20, as several producers would."""
        while count > 0 and self._left:
            burst = [self._left.pop() for _ in range(min(count, self.random.randint(1, 20), len(self._left)))]
            for step in burst:
                if step.before:
                    step.before()
                self.published[step.kind] += 1
            await self._stream.publish([step.record for step in burst])
            count -= len(burst)

    def _rest(self, worker: Worker) -> str | None:
        """Wait until every command is answered, then drain."""
        until = time.monotonic() + REST_SECONDS_MAX
        while time.monotonic() < until and worker.process.poll() is None:
            worker.listen(0)
            with closing(sqlite3.connect(self.path)) as connection:
                if not _behind(connection):
                    code = worker.stop()
                    return f"the worker's exit code is {code}" if code else None
            time.sleep(0.1)
        window, _ = worker.kill()
        return f"not at rest after {REST_SECONDS_MAX:g} s: killed {window}"


def checked(path: Path) -> int:
    """The checker as a process of its own, without site packages: it can know nothing of the product."""
    command = [sys.executable, "-S", "-m", "tests.acceptance.checker", str(path)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, check, print; -> exit code.  What a failed run left behind stays for looking at."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--small", action="store_true", help="the size of make test")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the story; timing is its own")
    options = parser.parse_args(arguments)
    folder, began = Path(tempfile.mkdtemp(prefix="chaos-")), time.monotonic()
    sys.stdout.write(f"crash test: seed {options.seed}; {machine()}\n")
    run = Run(SMALL if options.small else FULL, options.seed, folder)
    try:
        wrong = asyncio.run(run.go())
        sys.stdout.write(report(run, time.monotonic() - began))
        sys.stdout.flush()
        found = checked(run.path)
    finally:
        run.load.end()
    if wrong or found:
        sys.stdout.write(f"FAILED{f': {wrong}' if wrong else ''}; what is left is in {folder}\n")
        return 1
    shutil.rmtree(folder)
    sys.stdout.write("passed\n")
    return 0


def machine() -> str:
    """What it ran on, for comparing."""
    system = f"Linux {platform.release()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"


def report(run: Run, seconds: float) -> str:
    """The counts of a run, as a table."""
    lines = [f"{sum(run.published.values())} commands over {run.plan.aggregates} aggregates in {seconds:.0f} s"]
    lines += [f"  {count:5} {kind}" for kind, count in sorted(run.published.items())]
    lines += [f"{run.counted} kills -9 while work was in flight"]
    for window in (COMMIT, INTENT, OTHER, IDLE, GONE):
        note = f", of which {run.durable} had become durable" if window == COMMIT else ""
        lines.append(f"  {run.kills[window]:5} {window}{note}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
