"""What workers log while a simulation runs: part of the story; what they log of bugs is a violation."""

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from worker.errors import WorkerError
from worker.simulation.world import World, current

BUGS = frozenset({"command.bug", "effect.bug", "worker.failed"})
"""Log events that say that something unclassified was raised."""


@contextmanager
def listening(world: World, bugs: list[str]) -> Iterator[None]:
    """Nothing is written meanwhile; `bugs` takes a line for each."""

    def heard(_: object, level: str, line: MutableMapping[str, Any]) -> str:
        event = str(line.pop("event"))
        text = " ".join(f"{name}={value}" for name, value in line.items() if name != "exc_info")
        process, error = current(), line.get("exc_info")
        if event in BUGS and not isinstance(error, WorkerError):  # a worker may end itself, and say so
            bugs.append(f"{event} {text} {error!r}")
        world.tell(process.name if process else "world", event, text)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[heard],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
