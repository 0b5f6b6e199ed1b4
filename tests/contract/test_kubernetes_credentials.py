"""The Kubernetes adapter's credentials: rotated, refused, and unusable from the start."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.contract.scripted_cluster import (
    EVALUATION,
    JOB,
    Api,
    always,
    controller,
    scripted,
)
from worker import bootstrap
from worker.adapters.kubernetes import KubernetesController
from worker.adapters.kubernetes.connection import connector
from worker.errors import Misconfigured, Refused, Unavailable
from worker.ports import Deletion
from worker.settings import KubernetesSettings, load


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with scripted(tmp_path) as api:
        yield api


@pytest.fixture
async def jobs(api: Api) -> AsyncIterator[KubernetesController]:
    async with controller(api) as jobs:
        yield jobs


async def test_a_rotated_token_is_read_again_and_the_request_goes_through(api: Api, jobs: KubernetesController) -> None:
    api.deletes = always(lambda: web.json_response({"kind": "Job"}))
    api.tokens = frozenset({"Bearer second"})
    (api.kubeconfig.parent / "token").write_text("second")
    assert await jobs.delete(JOB) == Deletion.ACCEPTED
    assert await jobs.delete(JOB) == Deletion.ACCEPTED
    assert [each.token for each in api.asked] == ["Bearer first", "Bearer second", "Bearer second"]


async def test_many_requests_with_an_old_token_load_the_new_one_once(api: Api) -> None:
    settings, loads = KubernetesSettings(kubeconfig=str(api.kubeconfig)), 0

    async def counted() -> Any:
        nonlocal loads
        loads += 1
        return await connector(settings)()

    jobs = KubernetesController(settings, namespaces=("runs",), label="label", connect=counted)
    await jobs.start()
    api.tokens = frozenset({"Bearer second"})
    (api.kubeconfig.parent / "token").write_text("second")
    assert await asyncio.gather(*(jobs.find(EVALUATION) for _ in range(20))) == [[]] * 20
    assert loads == 2
    await jobs.stop()


async def test_credentials_that_stay_unknown_are_refused_after_one_more_try(
    api: Api, jobs: KubernetesController
) -> None:
    api.tokens = frozenset()
    with pytest.raises(Refused, match="does not know this worker's credentials"):
        await jobs.delete(JOB)
    assert api.count("DELETE") == 2


async def test_credentials_that_are_just_being_replaced_are_an_outage(api: Api, jobs: KubernetesController) -> None:
    api.tokens = frozenset()
    await asyncio.to_thread(api.kubeconfig.unlink)
    with pytest.raises(Unavailable, match="credentials cannot be loaded again"):
        await jobs.delete(JOB)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "users: [{name: u, user: {token: open-sesame, tokenFile: 3}}]",
        '{"current-context": "here", "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],'
        ' "clusters": [{"name": "c", "cluster": {"server": "https://c.test", "certificate-authority-data": "e30="}}],'
        ' "users": [{"name": "u", "user": {"token": "open-sesame"}}]}',
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_named_in_one_line_without_its_secrets(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(Misconfigured) as caught:
        await connector(KubernetesSettings(kubeconfig=str(path)))()
    assert "\n" not in str(caught.value)
    assert "open-sesame" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_missing_file_or_context_and_no_pod_around_us_are_told_by_setting(tmp_path: Path, api: Api) -> None:
    for settings, said in (
        (KubernetesSettings(kubeconfig=str(tmp_path / "none")), "WORKER_KUBERNETES__KUBECONFIG: .*/none: no such file"),
        (
            KubernetesSettings(kubeconfig=str(api.kubeconfig), context="there"),
            "WORKER_KUBERNETES__CONTEXT: .*kubeconfig has no context there; there are ",
        ),
        (KubernetesSettings(), "WORKER_KUBERNETES__KUBECONFIG is not set, and this is no pod"),
    ):
        with pytest.raises(Misconfigured, match=said):
            await connector(settings, tmp_path)()


@pytest.mark.parametrize("namespaces", [(), ("runs", ".."), ("Runs",), ("*",), ("",)])
async def test_namespaces_that_are_not_named_or_cannot_be_are_told_by_setting(
    api: Api, namespaces: tuple[str, ...]
) -> None:
    settings = KubernetesSettings(kubeconfig=str(api.kubeconfig))
    with pytest.raises(Misconfigured, match=r"^WORKER_DECISIONS__NAMESPACES: (must be set|no namespace can be called)"):
        await KubernetesController(settings, namespaces=namespaces, label="label").start()


async def test_the_embedded_stacks_namespace_is_no_default_of_the_services(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_STACK", "services")
    monkeypatch.setenv("WORKER_KUBERNETES__KUBECONFIG", str(api.kubeconfig))
    with pytest.raises(Misconfigured, match=r"^WORKER_DECISIONS__NAMESPACES: must be set where WORKER_STACK=services"):
        await bootstrap.ports(load()).jobs.start()
    monkeypatch.setenv("WORKER_DECISIONS__NAMESPACES", '["local"]')
    jobs = bootstrap.ports(load()).jobs
    await jobs.start()
    await jobs.stop()


async def test_stop_is_tolerated_before_start_and_twice_and_nothing_is_answered_after_it(api: Api) -> None:
    jobs = KubernetesController(KubernetesSettings(kubeconfig=str(api.kubeconfig)), namespaces=("runs",), label="label")
    await jobs.stop()
    await jobs.start()
    await jobs.stop()
    await jobs.stop()
    with pytest.raises(Unavailable, match="is not open"):
        await jobs.find(EVALUATION)
