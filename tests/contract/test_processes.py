"""Local processes as Jobs: real processes, really stopped."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import cast

import pytest

from worker.adapters.processes import ProcessController, launch, start_time
from worker.ports import Deletion, JobIdentity, JobView

EVALUATION = "99999999-1111-4111-8111-111111111111"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
FAMILY = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
)


@pytest.fixture
async def jobs() -> AsyncIterator[ProcessController]:
    controller = ProcessController()
    await controller.start()
    yield controller
    for job in await controller.find(EVALUATION):
        for pod in (await controller.observe(job)).pods:
            await controller.delete_pod(job, pod, 1)
    await controller.stop()


async def until(jobs: ProcessController, job: JobIdentity, pods: int) -> JobView:
    async with asyncio.timeout(5):
        while True:
            view = await jobs.observe(job)
            if len(view.pods) == pods:
                return view
            await asyncio.sleep(0.02)


def python(code: str) -> JobIdentity:
    return launch(EVALUATION, [sys.executable, "-c", code])


async def test_a_polite_process_goes_when_asked(jobs: ProcessController) -> None:
    job = python("import time; time.sleep(60)")
    view = await until(jobs, job, 1)
    assert await jobs.delete(job) == Deletion.ACCEPTED
    assert (await jobs.observe(job, since=view, timeout_seconds=5)).gone
    assert await jobs.delete(job) == Deletion.GONE


async def test_a_process_that_ignores_sigterm_is_killed_as_a_pod(jobs: ProcessController) -> None:
    job = python(STUBBORN)
    view = await until(jobs, job, 1)
    await asyncio.sleep(0.3)
    await jobs.delete(job)
    assert not (await jobs.observe(job, since=view, timeout_seconds=0.3)).gone
    assert await jobs.delete_pod(job, view.pods[0], 1) == Deletion.ACCEPTED
    assert (await jobs.observe(job, since=view, timeout_seconds=5)).gone
    assert await jobs.delete_pod(job, view.pods[0], 1) == Deletion.GONE


async def test_grandchildren_are_found_though_one_called_setsid_and_the_root_died(jobs: ProcessController) -> None:
    job = python(FAMILY)
    view = await until(jobs, job, 3)
    root = min(int(pod.uid.split("/")[1]) for pod in view.pods)
    os.kill(root, signal.SIGKILL)
    assert len((await until(jobs, job, 2)).pods) == 2
    await jobs.delete(job)
    await until(jobs, job, 0)


async def test_no_other_job_is_touched(jobs: ProcessController) -> None:
    one, other = python("import time; time.sleep(60)"), python("import time; time.sleep(60)")
    await until(jobs, one, 1)
    before = await until(jobs, other, 1)
    assert sorted(job.uid for job in await jobs.find(EVALUATION)) == sorted([one.uid, other.uid])
    await jobs.delete(one)
    await until(jobs, one, 0)
    assert await jobs.observe(other) == before


async def test_an_unreaped_zombie_is_gone(jobs: ProcessController) -> None:
    job = python("pass")
    await until(jobs, job, 0)
    assert (await jobs.observe(job)).gone


async def test_a_reused_pid_is_not_the_process_that_was_seen(jobs: ProcessController) -> None:
    job = python("import time; time.sleep(60)")
    [pod] = (await until(jobs, job, 1)).pods
    boot, pid, started = pod.uid.split("/")
    assert start_time(int(pid)) == int(started)
    stale = pod.__class__(pod.name, f"{boot}/{pid}/{int(started) - 1}")
    assert await jobs.delete_pod(job, stale, 1) == Deletion.GONE
    assert cast(int, start_time(int(pid))) == int(started)
