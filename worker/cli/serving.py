"""`worker run`, `demo`, `reconcile` and `diagram`: the short ones, which hand over to who does the work.

Each loads what it needs by itself: a start of the worker waits for nothing of the others.
"""

import json

import structlog

from worker.cli.exits import Exit, Wrong
from worker.cli.printing import say

log = structlog.get_logger()


async def serve() -> Exit:
    """The worker itself, until it is told to stop.  What it raises at its start stands in the log as well."""
    from worker import bootstrap, settings
    from worker.errors import WorkerError
    from worker.telemetry import logs

    try:
        return Exit(await bootstrap.service(settings.load()).run())
    except Exception as error:
        if not structlog.is_configured():  # what the settings say of the log is not known
            logs.configure()
        known = isinstance(error, WorkerError)
        log.error("worker.failed", error=str(error) if known else type(error).__name__, exc_info=not known)
        raise


async def play(*, as_json: bool) -> Exit:
    """The demo; what it starts has settings of its own."""
    from worker.demo import run_demo

    return Exit(await run_demo(json=as_json))


async def reconcile(*, as_json: bool) -> Exit:
    """One round of the reconciler; a running worker's own asks for nothing twice, as ids follow from the markers."""
    from worker.cli.opening import opened
    from worker.runtime.reconciler import Reconciler
    from worker.telemetry import logs

    logs.configure(level="warning")
    async with opened() as (ports, _):
        published = await Reconciler(ports.store, ports.stream, ports.clock).once()
    say([json.dumps({"published": published}) if as_json else f"{published} resume commands published"])
    return Exit.DONE


async def draw(name: str | None, *, as_json: bool) -> Exit:
    """One diagram or all.  Raises Wrong."""
    from worker.cli.diagrams import diagrams

    drawn = diagrams()
    if name is not None and name not in drawn:
        raise Wrong(f"{name}: no such lifecycle; there are {', '.join(drawn)}")
    chosen = {name: drawn[name]} if name else drawn
    say([json.dumps(chosen)] if as_json else "\n".join(chosen.values()).splitlines())
    return Exit.DONE
