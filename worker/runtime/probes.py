"""Probes for operators: `/livez`, `/readyz` and `/metrics` on one small HTTP server.  Knows only what it is told."""

from collections.abc import Callable, Mapping

from aiohttp import web

from worker.errors import Misconfigured
from worker.telemetry import metrics


class Probes:
    """`ready` says why the worker is not ready, empty: it is; the process that answers is alive."""

    def __init__(self, host: str, port: int, ready: Callable[[], Mapping[str, str]]) -> None:
        self._host, self._port, self._ready = host, port, ready
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; -> the port.  Raises Misconfigured."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, shutdown_timeout=1)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise Misconfigured(
                f"WORKER_PROBES_PORT: cannot listen on {self._host}:{self._port}: {error.strerror}"
            ) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Tolerates stop before start and a second stop."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _readyz(self, _: web.Request) -> web.Response:
        why = dict(self._ready())
        return web.json_response({"status": "not ready" if why else "ready", "why": why}, status=503 if why else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        body, content_type = metrics.exposition()
        return web.Response(body=body, headers={"Content-Type": content_type})
