"""A scripted API server on the loopback, for answers that a real one seldom gives.

What a real one does is shown in tests/integration.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from worker.adapters.kubernetes import KubernetesController
from worker.ports import JobIdentity, Pod
from worker.settings import KubernetesSettings

EVALUATION = "99999999-1111-4111-8111-111111111111"
JOB = JobIdentity("runs", "job-1", "job-uid")
POD = Pod("job-1-x", "pod-uid")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def a_job(*, uid: str = JOB.uid, owner: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    references = [owner] if owner else []
    return {"metadata": {"namespace": "runs", "name": "job-1", "uid": uid, "ownerReferences": references}} | status


def only_of_this_evaluation(job: dict[str, Any]) -> Handler:
    """The one Job that there is; none where those of others are asked for."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return listed() if "!=" in request.query.get("labelSelector", "") else listed(job)

    return handler


def a_pod(phase: str = "Running") -> dict[str, Any]:
    return {"metadata": {"name": POD.name, "uid": POD.uid}, "status": {"phase": phase}}


def listed(*items: dict[str, Any], following: str = "") -> web.Response:
    metadata = {"resourceVersion": "7"} | ({"continue": following} if following else {})
    return web.json_response({"kind": "SomeList", "metadata": metadata, "items": list(items)})


def refusal(status: int, reason: str, message: str = "", **headers: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message or reason, "code": status}
    return web.json_response(body, status=status, headers=headers)


@dataclass
class Asked:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    token: str
    body: Any


@dataclass
class Api:
    """Answers as its handlers say, else as an empty cluster; `asked` is what came in."""

    kubeconfig: Path
    """Names it, with a token file beside it that holds `first`."""
    asked: list[Asked] = field(default_factory=list)
    jobs: Handler | None = None
    pods: Handler | None = None
    deletes: Handler | None = None
    watches: Handler | None = None
    others: Handler | None = None
    tokens: frozenset[str] = frozenset({"Bearer first"})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        token = request.headers.get("Authorization", "")
        self.asked.append(Asked(request.method, request.path, dict(request.query), token, body))
        if token not in self.tokens:
            return refusal(401, "Unauthorized")
        if request.method == "DELETE":
            handler, otherwise = self.deletes, refusal(404, "NotFound")
        elif "watch" in request.query:
            handler, otherwise = self.watches, refusal(403, "Forbidden", "cannot watch")
        elif request.path.endswith("/jobs"):
            handler, otherwise = self.jobs, listed()
        elif request.path.endswith("/pods"):
            handler, otherwise = self.pods, listed()
        else:
            handler, otherwise = self.others, refusal(404, "NotFound")
        return await handler(request) if handler else otherwise

    def count(self, method: str, path_end: str = "", **query: str) -> int:
        return sum(
            asked.method == method and asked.path.endswith(path_end) and query.items() <= asked.query.items()
            for asked in self.asked
        )


def always(response: Callable[[], web.Response]) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return response()

    return handler


@asynccontextmanager
async def scripted(folder: Path) -> AsyncIterator[Api]:
    """It listens; its files are in the folder."""
    api = Api(folder / "kubeconfig")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _write_kubeconfig(api.kubeconfig, runner.addresses[0][1])
    try:
        yield api
    finally:
        await runner.cleanup()


def _write_kubeconfig(path: Path, port: int) -> None:
    entries = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
    }
    path.write_text(json.dumps(entries))
    path.with_name("token").write_text("first")


@asynccontextmanager
async def controller(api: Api, request_timeout_seconds: float = 5) -> AsyncIterator[KubernetesController]:
    """The adapter over it, started."""
    settings = KubernetesSettings(kubeconfig=str(api.kubeconfig), request_timeout_seconds=request_timeout_seconds)
    jobs = KubernetesController(settings, namespaces=("runs", "more"), label="verdict-worker/evaluation-id")
    await jobs.start()
    try:
        yield jobs
    finally:
        await jobs.stop()
