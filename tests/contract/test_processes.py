"""What local processes add to the contract of Jobs: which processes belong to one, and which never do."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from worker.adapters.processes import (
    EVALUATION_MARKER,
    JOB_MARKER,
    ProcessController,
    boot_id,
    launch,
    start_time,
)
from worker.errors import Misconfigured
from worker.ports import Deletion, JobIdentity, JobView, Pod

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]
EVALUATION = "99999999-4444-4444-8444-444444444444"
FAMILY = "setsid sleep 60 & (sleep 60 & wait) & wait"
MAIN_THREAD_ENDS = (
    "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
    "ctypes.CDLL(None).pthread_exit(None)"
)
FORKS_WITHOUT_EXEC = "import os, time; os.fork(); time.sleep(60)"


@pytest.fixture
async def jobs() -> AsyncIterator[ProcessController]:
    controller = ProcessController()
    await controller.start()
    yield controller
    for job in await controller.find(EVALUATION):
        for pod in (await controller.observe(job)).pods:
            await controller.delete_pod(job, pod, 1)
    await controller.stop()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a shell script of our own, waiting for us on its standard input, with these variables; ends it after."""
    started: list[asyncio.subprocess.Process] = []

    async def one(script: str, **variables: str) -> asyncio.subprocess.Process:
        environment = os.environ | variables
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("sh", "-c", script, stdin=pipe, env=environment)
        started.append(process)
        return process

    yield one
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(jobs: ProcessController, job: JobIdentity, wanted: Callable[[JobView], bool]) -> JobView:
    async with asyncio.timeout(10):
        while True:
            view = await jobs.observe(job)
            if wanted(view):
                return view
            await asyncio.sleep(0.02)


async def true(condition: Callable[[], bool]) -> None:
    """Wait until it is."""
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


def pids(view: JobView) -> list[int]:
    return sorted(int(pod.uid.split("/")[1]) for pod in view.pods)


def sh(script: str) -> JobIdentity:
    return launch(EVALUATION, ["sh", "-c", script])


def fresh_job() -> JobIdentity:
    """An identity for processes that a test marks by itself."""
    return JobIdentity("local", "process-test", f"{boot_id()}.{os.urandom(8).hex()}")


def marks(job: JobIdentity) -> dict[str, str]:
    return {EVALUATION_MARKER: EVALUATION, JOB_MARKER: job.uid}


def mark(which: int, job: JobIdentity) -> str:
    """NAME=value of the evaluation's (0) or the Job's (1) marker."""
    name, value = list(marks(job).items())[which]
    return f"{name}={value}"


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def state_of(pid: int) -> str:
    """The letter in /proc/PID/stat: Z is a zombie."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_descendants_are_found_though_one_called_setsid_and_the_root_died(jobs: ProcessController) -> None:
    job = sh(FAMILY)
    family = pids(await until(jobs, job, lambda view: len(view.pods) == 4))
    os.kill(family[0], signal.SIGKILL)
    left = await until(jobs, job, lambda view: len(view.pods) == 3)
    assert pids(left) == family[1:]
    sessions = {os.getsid(pid) for pid in family[1:]}
    assert len(sessions) == 2
    await jobs.delete(job)
    await until(jobs, job, lambda view: view.gone)
    assert [pid for pid in family if start_time(pid)] == []


async def test_a_child_that_forks_and_does_not_exec_is_found(jobs: ProcessController) -> None:
    job = launch(EVALUATION, [sys.executable, "-c", FORKS_WITHOUT_EXEC])
    await until(jobs, job, lambda view: len(view.pods) == 2)


async def test_an_unreaped_zombie_is_gone(jobs: ProcessController) -> None:
    job = sh("exec sleep 60")
    [pid] = pids(await until(jobs, job, lambda view: len(view.pods) == 1))
    os.kill(pid, signal.SIGKILL)
    assert (await until(jobs, job, lambda view: view.gone)).pods == ()
    assert state_of(pid) == "Z"
    assert start_time(pid) is None


async def test_a_process_whose_main_thread_ended_is_not_gone(jobs: ProcessController) -> None:
    job = launch(EVALUATION, [sys.executable, "-c", MAIN_THREAD_ENDS])
    [pid] = pids(await until(jobs, job, lambda view: len(view.pods) == 1))
    await true(lambda: state_of(pid) == "Z")
    view = await jobs.observe(job)
    assert pids(view) == [pid]
    assert await jobs.delete_pod(job, view.pods[0], 1) == Deletion.ACCEPTED
    await until(jobs, job, lambda view: view.gone)


async def test_a_reused_pid_is_not_the_process_that_was_seen(jobs: ProcessController) -> None:
    job = sh("exec sleep 60")
    [pod] = (await until(jobs, job, lambda view: len(view.pods) == 1)).pods
    boot, pid, started = pod.uid.split("/")
    assert start_time(int(pid)) == int(started)
    for stale in (f"{boot}/{pid}/{int(started) - 1}", f"another-boot/{pid}/{started}"):
        assert await jobs.delete_pod(job, Pod(pod.name, stale), 1) == Deletion.GONE
    assert start_time(int(pid)) == int(started)


def go(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")


async def test_a_process_becomes_a_job_by_an_exec_long_after_it_was_first_seen(
    jobs: ProcessController, start: Start
) -> None:
    job = fresh_job()
    process = await start('read go; exec env "$MARK_1" "$MARK_2" sleep 60', MARK_1=mark(0, job), MARK_2=mark(1, job))
    for _ in range(3):
        assert (await jobs.observe(job)).gone
        await asyncio.sleep(0.03)
    go(process)
    view = await until(jobs, job, lambda view: len(view.pods) == 1)
    assert pids(view) == [process.pid]


async def test_a_process_that_was_seen_as_its_parents_belongs_to_the_job_that_it_becomes(
    jobs: ProcessController, start: Start
) -> None:
    """Between fork and exec a Job that is launched from within another Job shows the other one's environment."""
    outer, inner = fresh_job(), fresh_job()
    script = 'read go; exec env "$MARK" sleep 60'
    process = await start(script, MARK=mark(1, inner), **marks(outer))
    assert pids(await until(jobs, outer, lambda view: len(view.pods) == 1)) == [process.pid]
    go(process)
    assert pids(await until(jobs, inner, lambda view: len(view.pods) == 1)) == [process.pid]
    assert (await jobs.observe(outer)).gone
    assert await jobs.delete(outer) == Deletion.GONE
    assert start_time(process.pid)


async def test_a_process_that_drops_its_environment_after_it_was_seen_still_belongs_to_its_job(
    jobs: ProcessController, start: Start
) -> None:
    job = fresh_job()
    process = await start("read go; exec env -i /bin/sleep 60", **marks(job))
    await until(jobs, job, lambda view: len(view.pods) == 1)
    go(process)
    await true(lambda: environment(process.pid) == b"")
    assert pids(await jobs.observe(job)) == [process.pid]
    assert await jobs.delete(job) == Deletion.ACCEPTED
    assert await process.wait() == -signal.SIGTERM


async def test_markers_are_found_behind_a_megabyte_of_environment(jobs: ProcessController, start: Start) -> None:
    job = fresh_job()
    filling = {f"FILLING_{i:02}": "x" * 100_000 for i in range(10)}
    process = await start("read go", **filling, **marks(job))
    assert environment(process.pid).index(job.uid.encode()) > 1_000_000
    assert pids(await jobs.observe(job)) == [process.pid]


@pytest.mark.parametrize("name", [f"NOT_{JOB_MARKER}", f"{JOB_MARKER}_2"])
async def test_a_variable_that_only_resembles_the_marker_makes_no_job(
    jobs: ProcessController, start: Start, name: str
) -> None:
    job = fresh_job()
    process = await start("read go", **{EVALUATION_MARKER: EVALUATION, name: job.uid, "OTHER": mark(1, job)})
    assert (await jobs.observe(job)).gone
    assert await jobs.delete(job) == Deletion.GONE
    assert start_time(process.pid)


async def test_the_worker_itself_is_never_signalled(start: Start) -> None:
    """A worker that was started from within a Job carries that Job's markers."""
    job = fresh_job()
    code = (
        "import asyncio, os, sys; from worker.adapters.processes import *; from worker.ports import JobIdentity\n"
        "async def main():\n"
        "    jobs = ProcessController(); await jobs.start(); job = JobIdentity('local', 'n', sys.argv[1])\n"
        "    view = await jobs.observe(job); assert [p.name for p in view.pods] == [f'pid-{os.getpid()}'], view\n"
        "    print(await jobs.delete(job), await jobs.delete_pod(job, view.pods[0], 1))\n"
        "asyncio.run(main())"
    )
    process = await start(
        'exec "$PYTHON" -c "$CODE" "$UID_OF_JOB"', PYTHON=sys.executable, CODE=code, UID_OF_JOB=job.uid, **marks(job)
    )
    assert await process.wait() == 0


async def test_observers_at_once_share_their_looks_at_the_process_table(jobs: ProcessController) -> None:
    job = sh("exec sleep 60")
    view = await until(jobs, job, lambda view: len(view.pods) == 1)
    began = time.process_time()
    watching = [jobs.observe(job, since=view, timeout_seconds=1) for _ in range(200)]
    assert await asyncio.gather(*watching) == [view] * 200
    assert time.process_time() - began < 5  # each with looks of its own takes many times that


def test_what_cannot_be_launched_is_one_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no-such-program"):
        launch(EVALUATION, ["no-such-program"])
    with pytest.raises(Misconfigured, match="no-such-folder"):
        launch(EVALUATION, ["sleep", "60"], log=tmp_path / "no-such-folder" / "log")


async def test_a_launched_job_leaves_its_output_in_the_log_and_ignores_no_signal(
    jobs: ProcessController, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    job = launch(EVALUATION, ["sh", "-c", "echo out; echo err >&2; grep SigIgn /proc/self/status"], log=log)
    await until(jobs, job, lambda view: view.gone)
    out, err, _, ignored = log.read_text().split()
    assert (out, err) == ("out", "err")
    assert int(ignored, 16) & 0x7FFFFFFF == 0  # of the 31 standard signals; the C library has more for itself
