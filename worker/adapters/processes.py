"""Local processes as Jobs (Linux): found by an inherited environment marker, stopped by pid, start time and boot id.

A Job is every process that carries `VERDICT_WORKER_JOB_UID=<uid>`; descendants inherit it, those that called setsid
too.  A pod is one such process.  An unreaped zombie is gone.  A signal goes through a pidfd whose start time was
compared after it was opened, so a reused pid is never hit.  What cannot be found: a process that wiped its environment
before it was seen (its children inherit nothing either), and another user's.

A look reads /proc/PID/stat of every process, and its environment only once per exec: exec puts the environment at
another address of a new address space, and stat shows that address.  Where it shows none (another user's process, a
kernel thread), the kernel refuses the environment as well.
"""

import asyncio
import math
import os
import secrets
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from worker.errors import Misconfigured, Refused, Unavailable
from worker.ports import Deletion, JobIdentity, JobView, Pod

EVALUATION_MARKER = "VERDICT_WORKER_EVALUATION_ID"
JOB_MARKER = "VERDICT_WORKER_JOB_UID"
NAMESPACE = "local"
PROC = "/proc"
LOOK_SECONDS = 0.02
LOOK_COSTS = 5  # a look is good for so many times of what it cost: at most a sixth of the loop's time goes into looks
STAT_BYTES_MAX = 4096
ENVIRONMENT_BYTES_MAX = 8 * 1024 * 1024  # Linux allows 6 MiB at exec
POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.02, 0.25


class Process(NamedTuple):
    """A live process that carries our marker; pid and start time are its identity until the next boot."""

    pid: int
    started: int
    evaluation_id: str
    job_uid: str


class Stat(NamedTuple):
    """What /proc/PID/stat says: clock ticks from boot to the start, and where exec put the environment."""

    started: int
    environment_at: int
    environment_bytes: int


class ProcessController:
    """Jobs of this machine and this user."""

    def __init__(self) -> None:
        self._boot_id = ""
        self._seen: dict[int, tuple[Stat, Process | None]] = {}
        self._processes: tuple[Process, ...] = ()
        self._looked_at = self._fresh_until = -math.inf

    async def start(self) -> None:
        try:
            self._boot_id = boot_id()
            ours = _stat(os.getpid())
        except OSError as error:
            raise Misconfigured(f"processes as Jobs need Linux's /proc: {error}") from error
        if ours is None or not ours.environment_at:
            raise Misconfigured("processes as Jobs need a /proc that shows where an environment is (proc_pid_stat(5))")

    async def stop(self) -> None:
        self._seen.clear()
        self._processes = ()
        self._looked_at = self._fresh_until = -math.inf

    async def find(self, evaluation_id: str) -> Sequence[JobIdentity]:
        processes = await self._look_now()
        uids = sorted({process.job_uid for process in processes if process.evaluation_id == evaluation_id})
        return [JobIdentity(NAMESPACE, _name(uid), uid) for uid in uids if uid.startswith(self._boot_id)]

    async def delete(self, job: JobIdentity) -> Deletion:
        _expect_local(job)
        members = _members(await self._look_now(), job)
        for process in members:
            self._signal(process, signal.SIGTERM)
        return Deletion.ACCEPTED if members else Deletion.GONE

    async def observe(self, job: JobIdentity, *, since: JobView | None = None, timeout_seconds: float = 0) -> JobView:
        _expect_local(job)
        until, pause = time.monotonic() + timeout_seconds, POLL_SECONDS_MIN
        while True:
            view = self._view(self._look(), job)
            if view.gone:
                view = self._view(await self._look_now(), job)  # "gone" is proof, so it is never an older look
            left = until - time.monotonic()
            if since is None or view != since or left <= 0:
                return view
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, POLL_SECONDS_MAX)

    async def delete_pod(self, job: JobIdentity, pod: Pod, grace_period_seconds: Literal[0, 1]) -> Deletion:
        _expect_local(job)
        for process in _members(await self._look_now(), job):
            if self._uid(process) == pod.uid:
                self._signal(process, signal.SIGKILL)
                return Deletion.ACCEPTED
        return Deletion.GONE

    def _view(self, processes: Sequence[Process], job: JobIdentity) -> JobView:
        pods = tuple(Pod(f"pid-{p.pid}", self._uid(p)) for p in _members(processes, job))
        return JobView(exists=bool(pods), pods=pods)

    def _uid(self, process: Process) -> str:
        return f"{self._boot_id}/{process.pid}/{process.started}"

    async def _look_now(self) -> tuple[Process, ...]:
        """A look that began after the call; calls of one turn of the loop share it."""
        called = time.monotonic()
        await asyncio.sleep(0)
        return self._look() if self._looked_at > called else self._scan()

    def _look(self) -> tuple[Process, ...]:
        """A look that may be some milliseconds old, so that many observers cost no more than one."""
        return self._processes if time.monotonic() < self._fresh_until else self._scan()

    def _scan(self) -> tuple[Process, ...]:
        self._looked_at = time.monotonic()
        seen: dict[int, tuple[Stat, Process | None]] = {}
        try:
            for name in os.listdir(PROC):  # noqa: PTH208  # Path objects would double the cost
                if name.isdigit() and (stat := _stat(pid := int(name))) is not None:
                    seen[pid] = self._recognise(pid, stat)
        except OSError as error:  # such as no descriptor left: what is running is unknown
            raise Unavailable(f"{PROC} cannot be read: {error}") from error
        self._seen = seen
        self._processes = tuple(process for _, process in seen.values() if process)
        now = time.monotonic()
        self._fresh_until = now + max(LOOK_SECONDS, (now - self._looked_at) * LOOK_COSTS)
        return self._processes

    def _recognise(self, pid: int, stat: Stat) -> tuple[Stat, Process | None]:
        """Read the markers once per exec; a process that was ours and shows none any more stays what it was."""
        known, process = self._seen.get(pid, (None, None))
        if stat == known:
            return known, process
        marked = _marked(pid, stat)
        if marked is None and known is not None and known.started == stat.started:
            marked = process
        return stat, marked

    def _signal(self, process: Process, number: signal.Signals) -> None:
        """Through a pidfd, and only if the start time is still the one that was seen."""
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return
        try:
            if process.pid != os.getpid() and start_time(process.pid) == process.started:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise Refused(f"pid {process.pid} belongs to another user") from error
        finally:
            os.close(descriptor)


def _members(processes: Sequence[Process], job: JobIdentity) -> list[Process]:
    return [process for process in processes if process.job_uid == job.uid]


def boot_id() -> str:
    """This boot's id: after the next one, no process of before runs."""
    return Path(PROC, "sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the process's start; None where it is gone or an unreaped zombie."""
    stat = _stat(pid)
    return None if stat is None else stat.started


def _stat(pid: int) -> Stat | None:
    """None where it is gone; a leader that ended while its other threads run is a zombie by letter, but not gone."""
    raw = _read(f"{PROC}/{pid}/stat", STAT_BYTES_MAX)
    fields = raw[raw.rfind(b")") + 2 :].split()
    if not fields or fields[0] == b"X" or (fields[0] == b"Z" and int(fields[17]) <= 1):
        return None
    at, end = int(fields[47]), int(fields[48])
    return Stat(int(fields[19]), at, end - at)


def _marked(pid: int, stat: Stat) -> Process | None:
    """The process with its markers; None where it has none, or where the kernel does not show its environment."""
    if stat.environment_bytes <= 0:  # less than nothing in the middle of an exec; after it, stat differs
        return None
    raw = b"\0" + _read(f"{PROC}/{pid}/environ", min(stat.environment_bytes, ENVIRONMENT_BYTES_MAX))
    evaluation, job = _value(raw, EVALUATION_MARKER), _value(raw, JOB_MARKER)
    return None if evaluation is None or job is None else Process(pid, stat.started, evaluation, job)


def _value(environment: bytes, name: str) -> str | None:
    _, found, rest = environment.partition(f"\0{name}=".encode())
    return rest.partition(b"\0")[0].decode("utf-8", "replace") if found else None


def _read(path: str, bytes_max: int) -> bytes:
    """The file's first bytes; empty where the process is gone, or another user's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    try:
        return os.read(descriptor, bytes_max)
    except (ProcessLookupError, PermissionError):
        return b""
    finally:
        os.close(descriptor)


def _name(uid: str) -> str:
    return f"process-{uid.rpartition('.')[2]}"


def _expect_local(job: JobIdentity) -> None:
    """A Job of somewhere else: that nothing of it is found here proves nothing."""
    if job.namespace != NAMESPACE:
        raise Refused(f"namespace {job.namespace} is not of this machine, where Jobs are processes")


def launch(evaluation_id: str, command: Sequence[str], *, log: Path | None = None) -> JobIdentity:
    """Start a command as a Job of this evaluation, in a session of its own, outliving us; output goes to `log`.

    Raises Misconfigured where it cannot be started.
    """
    uid = f"{boot_id()}.{secrets.token_hex(8)}"
    environment = os.environ | {EVALUATION_MARKER: evaluation_id, JOB_MARKER: uid}
    output = str(log or os.devnull)
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    ignored_by_python = (signal.SIGPIPE, signal.SIGXFSZ)
    try:
        os.posix_spawnp(
            command[0],
            list(command),
            environment,
            file_actions=streams,
            setsid=True,
            setsigmask=(),
            setsigdef=ignored_by_python,
        )
    except OSError as error:
        into = f", output to {log}" if log else ""
        raise Misconfigured(f"{command[0]}{into}: cannot be started: {error.strerror}") from error
    return JobIdentity(NAMESPACE, _name(uid), uid)
