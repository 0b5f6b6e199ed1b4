"""Log events: the catalogue, and how lines are written.

One canonical line per command record, `command.answered`; everything else is about the worker itself.  No line holds
a subject, a reason, a credential or the data of a command (so a traceback never shows local variables).  `ORDINARY`
events are seen in every run that does work; `TROUBLE` events say that something wants attention, or wanted it.
"""

import logging
import sys
from typing import Literal

import structlog

ORDINARY = {
    "worker.started": "the build, the stack and the process that runs",
    "worker.ready": "partitions are owned and commands are consumed; where the probes listen",
    "partition.assigned": "a partition is ours, from this offset on",
    "command.answered": "the canonical line: a record's verdict is committed; `seconds` since the record's timestamp",
    "command.dead_letter": "a record that nobody can act on went to the dead letters, with the reason",
    "worker.draining": "asked to stop: what is being decided is committed, effects resume with the next owner",
    "worker.stopped": "everything is released",
}
TROUBLE = {
    "partition.full": "512 commands (or their bytes) are unfinished: the partition waits",
    "partition.resumed": "the partition takes commands in again",
    "partition.stopped": "the position is outside of the log: the partition stands still until somebody decides",
    "partition.misrouted": "a record is in another partition than its key's: correct, but unordered (first one only)",
    "position.unreadable": "commit metadata cannot be read: everything from the position is decided again",
    "assignment.lost": "a commit failed or was fenced: the partition's memory is dropped and the position read again",
    "dependency.unavailable": "store, log, cluster, agent or executor is away: the work is kept and tried again",
    "document.conflict": "a write lost, or does not know its outcome: the step is repeated on what is stored (debug)",
    "command.bug": "something unclassified was raised: the record is a dead letter; with the traceback",
    "effect.bug": "something unclassified was raised by an effect: it is tried again; with the traceback",
    "reconciler.resumed": "commands were published to resume what is unsettled",
    "checkpoint.unsigned": "no key is set: checkpoints of the audit log are made without a signature",
    "checkpoint.failed": "the audit log could not be sealed; it is tried again at the next interval",
    "checkpoint.log_cut": "the audit log ends before the last checkpoint's range does: something was removed from it",
    "library.message": "a client library warns, such as aiokafka of a broker that is away; in its own words",
    "worker.drain_cut": "the drain was cut short by its deadline: the rest is fetched again",
    "worker.failed": "it cannot start, or a part that it cannot do without has ended: the process stops",
}
CATALOGUE = ORDINARY | TROUBLE
REPEATED_SECONDS, REPEATED_MAX = 10.0, 1000
log = structlog.get_logger()

Format = Literal["auto", "json", "console"]


def configure(format: Format = "auto", level: str = "info") -> None:
    """Lines to standard output: JSON, or colours where `auto` finds a terminal."""
    console = sys.stdout.isatty() if format == "auto" else format == "console"
    shared: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.types.Processor]
    if console:
        rendering = [
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
        factory: object = structlog.PrintLoggerFactory()
    else:
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
        factory = structlog.BytesLoggerFactory(sys.stdout.buffer)
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=factory,  # type: ignore[arg-type]  # either of the two factories
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Libraries()], force=True)


class _Libraries(logging.Handler):
    """What client libraries write through the standard library becomes a line like any other.

    The same again within ten seconds is only counted: a client without its broker says so a hundred times a second.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[tuple[str, str], list[float]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        what = (record.name, str(record.msg))
        since, repeated = self._said.get(what, (-REPEATED_SECONDS, 0))
        if record.created - since < REPEATED_SECONDS:
            self._said[what][1] += 1
            return
        if len(self._said) >= REPEATED_MAX:
            self._said.clear()
        self._said[what] = [record.created, 0]
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  # whatever its arguments raise, a handler never does
            text = str(record.msg)
        more = {"repeated": int(repeated)} if repeated else {}
        if record.levelno >= logging.ERROR:
            log.error("library.message", library=record.name, message=text, exc_info=record.exc_info, **more)
        else:
            log.warning("library.message", library=record.name, message=text, **more)


def _json(line: dict[str, object], **_: object) -> bytes:
    from pydantic_core import to_json

    return to_json(line, fallback=str)
