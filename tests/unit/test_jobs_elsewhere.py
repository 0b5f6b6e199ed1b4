"""A Job in a namespace that is not ours is not touched; that nothing of it is found is no proof that it stopped."""

from collections.abc import AsyncIterator
from typing import NoReturn

import pytest

from worker.adapters.kubernetes import KubernetesController
from worker.adapters.processes import ProcessController
from worker.errors import Refused
from worker.ports import JobController, JobIdentity, JobView, Pod
from worker.settings import KubernetesSettings

ELSEWHERE = JobIdentity("elsewhere", "job", "uid-1")


async def nobody() -> NoReturn:
    raise AssertionError("the cluster was asked")


@pytest.fixture(params=["kubernetes", "processes"])
async def jobs(request: pytest.FixtureRequest) -> AsyncIterator[JobController]:
    controller: JobController = ProcessController()
    if request.param == "kubernetes":
        controller = KubernetesController(KubernetesSettings(), namespaces=("ours",), label="l", connect=nobody)
    yield controller
    await controller.stop()


async def test_it_is_not_asked_to_stop(jobs: JobController) -> None:
    with pytest.raises(Refused, match="elsewhere"):
        await jobs.delete(ELSEWHERE)
    with pytest.raises(Refused, match="elsewhere"):
        await jobs.delete_pod(ELSEWHERE, Pod("pod", "uid-2"), 1)


async def test_it_is_not_said_to_be_gone(jobs: JobController) -> None:
    with pytest.raises(Refused, match="elsewhere"):
        await jobs.observe(ELSEWHERE)
    with pytest.raises(Refused, match="elsewhere"):
        await jobs.observe(ELSEWHERE, since=JobView(True), timeout_seconds=1)
