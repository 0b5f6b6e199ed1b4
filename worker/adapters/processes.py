"""Local processes as Jobs (Linux): found by an inherited environment marker, stopped by pid, start time and boot id.

A Job is every process that carries `VERDICT_WORKER_JOB_UID=<uid>`; descendants inherit it, those that called setsid
too.  A pod is one such process.  An unreaped zombie is gone.  A signal goes through a pidfd whose start time was
compared after it was opened, so a reused pid is never hit.  What cannot be found: a process that wiped its environment
(its children inherit nothing either), and another user's.
"""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from worker.errors import Misconfigured, Refused
from worker.ports import Deletion, JobIdentity, JobView, Pod

EVALUATION_MARKER = "VERDICT_WORKER_EVALUATION_ID"
JOB_MARKER = "VERDICT_WORKER_JOB_UID"
NAMESPACE = "local"
PROC = Path("/proc")
SCAN_SECONDS = 0.02
POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.02, 0.25


class Process(NamedTuple):
    """A live process that carries our marker; pid and start time are its identity until the next boot."""

    pid: int
    started: int
    evaluation_id: str
    job_uid: str


class ProcessController:
    """Jobs of this machine and this user."""

    def __init__(self) -> None:
        self._boot_id = ""
        self._known: dict[tuple[int, int], Process | None] = {}
        self._scanned: tuple[Process, ...] = ()
        self._scanned_at = 0.0

    async def start(self) -> None:
        try:
            self._boot_id = boot_id()
        except OSError as error:
            raise Misconfigured(f"processes as Jobs need Linux's /proc: {error}") from error

    async def stop(self) -> None:
        self._known.clear()

    async def find(self, evaluation_id: str) -> Sequence[JobIdentity]:
        uids = sorted({process.job_uid for process in self._scan() if process.evaluation_id == evaluation_id})
        return [JobIdentity(NAMESPACE, _name(uid), uid) for uid in uids if uid.startswith(self._boot_id)]

    async def delete(self, job: JobIdentity) -> Deletion:
        members = self._members(job)
        for process in members:
            self._signal(process, signal.SIGTERM)
        return Deletion.ACCEPTED if members else Deletion.GONE

    async def observe(self, job: JobIdentity, *, since: JobView | None = None, timeout_seconds: float = 0) -> JobView:
        until, pause = time.monotonic() + timeout_seconds, POLL_SECONDS_MIN
        while True:
            pods = tuple(Pod(f"pid-{p.pid}", self._uid(p)) for p in self._members(job))
            view = JobView(exists=bool(pods), pods=pods)
            left = until - time.monotonic()
            if since is None or view != since or left <= 0:
                return view
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, POLL_SECONDS_MAX)

    async def delete_pod(self, job: JobIdentity, pod: Pod, grace_period_seconds: Literal[0, 1]) -> Deletion:
        for process in self._members(job):
            if self._uid(process) == pod.uid:
                self._signal(process, signal.SIGKILL)
                return Deletion.ACCEPTED
        return Deletion.GONE

    def _members(self, job: JobIdentity) -> list[Process]:
        return [process for process in self._scan() if process.job_uid == job.uid]

    def _uid(self, process: Process) -> str:
        return f"{self._boot_id}/{process.pid}/{process.started}"

    def _scan(self) -> tuple[Process, ...]:
        """All our processes; one look serves everybody for some milliseconds."""
        if time.monotonic() - self._scanned_at < SCAN_SECONDS:
            return self._scanned
        known: dict[tuple[int, int], Process | None] = {}
        for entry in os.scandir(PROC):
            if not entry.name.isdigit():
                continue
            pid = int(entry.name)
            if (started := start_time(pid)) is None:
                continue
            key = (pid, started)
            known[key] = self._known[key] if self._known.get(key) else _marked(pid, started)
        self._known = known
        self._scanned = tuple(process for process in known.values() if process)
        self._scanned_at = time.monotonic()
        return self._scanned

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


def boot_id() -> str:
    """This boot's id: after the next one, no process of before runs."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the process's start; None where it is gone or an unreaped zombie."""
    try:
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _marked(pid: int, started: int) -> Process | None:
    """The process with its markers; None where it has none, or is another user's.

    A process that is between fork and exec still shows its parent's environment, so a None is looked at again.
    """
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if JOB_MARKER.encode() not in raw:
        return None
    pairs = dict(item.partition(b"=")[::2] for item in raw.split(b"\0"))
    evaluation, job = pairs.get(EVALUATION_MARKER.encode()), pairs.get(JOB_MARKER.encode())
    if evaluation is None or job is None:
        return None
    return Process(pid, started, evaluation.decode("utf-8", "replace"), job.decode("utf-8", "replace"))


def _name(uid: str) -> str:
    return f"process-{uid.rpartition('.')[2]}"


def launch(evaluation_id: str, command: Sequence[str], *, log: Path | None = None) -> JobIdentity:
    """Start a command as a Job of this evaluation, in a session of its own, outliving us.

    Raises Misconfigured where it cannot be started.
    """
    uid = f"{boot_id()}.{secrets.token_hex(8)}"
    environment = os.environ | {EVALUATION_MARKER: evaluation_id, JOB_MARKER: uid}
    output = os.open(log or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    streams = [(os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    try:
        os.posix_spawnp(command[0], list(command), environment, file_actions=streams, setsid=True)
    except OSError as error:
        raise Misconfigured(f"{command[0]}: cannot be started: {error.strerror}") from error
    finally:
        os.close(output)
        os.close(nothing)
    return JobIdentity(NAMESPACE, _name(uid), uid)
