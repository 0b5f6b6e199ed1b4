"""The errors of the worker, as a picture.

    WorkerError
    ├── Transient              worth another try; waited out, never dead-lettered
    │   ├── Unavailable        a dependency does not answer (outage, throttling, time-out before it was sent)
    │   └── OutcomeUnknown     it may or may not have happened: reload, then repeat the step
    ├── Conflict               compare-and-set lost: reload, then repeat the step
    ├── AssignmentLost         the partition, or its producer, is no longer ours: nothing in memory survives
    ├── PositionLost           the position is outside of the log: the partition stops and says so
    ├── Refused                the other side forbids it (RBAC, 401, 403, unknown to the settings)
    └── Misconfigured          a setting is wrong, or a service is not what it must be: one line that names it

Adapters translate their client library's errors into these with `raise ... from`.  Anything else is a bug.
"""


class WorkerError(Exception):
    """Base of all errors that the worker raises itself."""


class Transient(WorkerError):
    """Worth another try under backoff."""


class Unavailable(Transient):
    """A dependency does not answer; `retry_after_seconds` is what it asked for, if it asked."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OutcomeUnknown(Transient):
    """The request may have been applied, now or later."""


class Conflict(WorkerError):
    """The document is not (any more) the version that was named, or exists already."""


class AssignmentLost(WorkerError):
    """Fenced, revoked, or the outcome of a commit is unknown: read the position afresh."""


class PositionLost(WorkerError):
    """The committed position lies outside of the log."""


class Refused(WorkerError):
    """Forbidden by the other side; its reason is the message (no secrets in it)."""


class Misconfigured(WorkerError):
    """A setting or a service is unusable; the message names it in one line."""
