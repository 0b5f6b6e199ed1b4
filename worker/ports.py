"""The ports: all that the runtime, the handler and the domain know of the outside world.

Small protocols and the values that cross them.  Errors are those of `errors.py`; every method may raise `Unavailable`.
All times are aware UTC datetimes; durations are seconds.  One contract suite per port (tests/contract) runs against
every implementation.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

# ------------------------------------------------------------------------------------------------ the log


class Topic(StrEnum):
    """The topics, named without their prefix."""

    COMMANDS = "commands"
    RESULTS = "results"
    STATUS = "status"
    AUDIT = "audit"
    CHECKPOINTS = "checkpoints"
    DEAD_LETTERS = "dead-letters"


Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read: committed data only."""

    topic: Topic
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be published; its partition follows from the key (murmur2, as Kafka's Java client does it)."""

    topic: Topic
    key: bytes
    value: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands: the first unfinished offset, and the unfinished ones below the highest finished.

    `metadata` is opaque to the log (at most 4,096 characters), committed and read together with the offset.
    """

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One partition, ours from now on; `epoch` is unique to this assignment and grows per partition.

    `position` is None where nothing was ever committed.  `log_start` and `log_end` bound the log when it was read.
    `partitions` is how many the topic has.
    """

    partition: int
    epoch: int
    position: Position | None
    log_start: int
    log_end: int
    partitions: int


class PartitionOwner(Protocol):
    """What the log tells its reader; implemented by the runtime."""

    async def assigned(self, assignment: Assignment) -> None:
        """The partition is ours; records follow from `assignment.position` after `CommandLog.seek`."""

    async def revoked(self, partition: int) -> None:
        """The partition is another's; returns within a bound, after which nothing of it is sent any more."""


class CommandLog(Protocol):
    """The commands of the partitions that this worker owns, and the one atomic commit."""

    async def start(self, owner: PartitionOwner) -> None:
        """Join; `owner.assigned` is called for each partition, now or later.  Raises Misconfigured."""

    async def fetch(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records of all partitions that are not paused, in offset order per partition.

        Returns early with what there is, empty after the time-out.  One caller at a time.
        """

    def seek(self, assignment: Assignment, offset: int) -> None:
        """Fetch this partition from `offset` on.  Raises PositionLost outside of the log."""

    def pause(self, assignment: Assignment) -> None:
        """Deliver nothing of this partition until `resume`; idempotent, a no-op for an old epoch."""

    def resume(self, assignment: Assignment) -> None:
        """Undo `pause`; idempotent, a no-op for an old epoch."""

    async def commit(self, assignment: Assignment, records: Sequence[Outgoing], position: Position) -> None:
        """One transaction: all records and the position, or nothing.  One at a time per assignment.

        Raises AssignmentLost where the epoch is not the current one, or the outcome is unknown; on any exception
        the assignment is over, and the caller goes on with `renew`.
        """

    async def renew(self, assignment: Assignment) -> Assignment:
        """The same partition as a new assignment (higher epoch, fresh position), delivering nothing until `seek`.

        Raises AssignmentLost where the partition is another's by now.
        """

    async def stop(self) -> None:
        """Leave; tolerates stop before start and a second stop."""


class EventStream(Protocol):
    """Publish commands, read any topic: what an API tier does; safe beside a running worker."""

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[tuple[int, int]]:
        """Append, durably, in order; -> (partition, offset) each.  All or nothing is not promised.

        Raises OutcomeUnknown.
        """

    async def bounds(self, topic: Topic) -> Mapping[int, tuple[int, int]]:
        """-> {partition: (first offset, offset after the last committed record)}."""

    def read(self, topic: Topic, start: Mapping[int, int], *, follow: bool) -> AsyncIterator[Record]:
        """Committed records from these offsets on, in offset order per partition.

        Without `follow` it ends at the end as it was when the reading began; with it, it waits for more.
        """

    async def stop(self) -> None:
        """Release; tolerates a second stop."""


# ------------------------------------------------------------------------------------------------ the store


@dataclass(frozen=True, slots=True)
class Stored:
    """An object and its version (an ETag: opaque, compared only)."""

    body: bytes
    version: str


class Unchanged:
    """The object still has the version that was named."""


class DocumentStore(Protocol):
    """Objects under keys; compare-and-set is the fence.  Calls on different keys may run at once."""

    async def start(self) -> None:
        """Open, and probe that conditions are honoured.  Raises Misconfigured."""

    async def load(self, key: str) -> Stored | None:
        """The object, or None where there is none."""

    async def load_if_changed(self, key: str, version: str) -> Stored | Unchanged | None:
        """As `load`, but `Unchanged` (no body) where it still has this version."""

    async def create(self, key: str, body: bytes) -> str:
        """Write only if absent; -> version.  Raises Conflict, OutcomeUnknown."""

    async def replace(self, key: str, body: bytes, version: str) -> str:
        """Write only if it has this version; -> the new one.  Raises Conflict (gone, too), OutcomeUnknown."""

    async def put(self, key: str, body: bytes) -> None:
        """Write whatever is there; idempotent: for blobs (immutable content under its hash) and markers.

        Raises OutcomeUnknown.
        """

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove; a missing key is success."""

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Keys below the prefix in byte order, later than `after`."""

    async def stop(self) -> None:
        """Release; tolerates stop before start and a second stop."""


# ------------------------------------------------------------------------------------------------ what is stopped


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """A Job (or a process group, embedded) that is never confused with another: the uid is never used again.

    `owner` names the object above the Job ("apiVersion/kind/name/uid") that would create it again, if there is one.
    """

    namespace: str
    name: str
    uid: str
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod (embedded: a process) by uid (embedded: pid, start time, boot id)."""

    name: str
    uid: str
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class JobView:
    """What is left of a Job.  `held_by` are finalizers that hold it; `outcome` is what it reported before."""

    exists: bool
    pods: tuple[Pod, ...] = ()
    outcome: Literal["completed", "failed"] | None = None
    held_by: tuple[str, ...] = ()

    @property
    def gone(self) -> bool:
        """Neither the Job nor any of its pods is there."""
        return not self.exists and not self.pods


class Deletion(StrEnum):
    """How a delete was received."""

    ACCEPTED = "accepted"
    REMOVED = "removed"  # from the API, without proof that it ended
    GONE = "gone"
    NOT_OURS = "not_ours"  # the name belongs to another uid: it was left alone


class JobController(Protocol):
    """Jobs and their pods.  Every method names a uid; nothing else is ever touched.

    Raises Refused where the cluster forbids it.  All methods are idempotent and may run at once.
    """

    async def start(self) -> None: ...

    async def find(self, evaluation_id: str) -> Sequence[JobIdentity]:
        """Jobs that carry this evaluation's label (embedded: environment marker) in the allowed namespaces."""

    async def delete(self, job: JobIdentity) -> Deletion:
        """Ask it to stop, politely (dependents too); returns before it has.  Pods keep their own grace period."""

    async def observe(self, job: JobIdentity, *, since: JobView | None = None, timeout_seconds: float = 0) -> JobView:
        """What is left.  With `since`: as soon as it differs from that, at the latest after the time-out."""

    async def delete_pod(self, job: JobIdentity, pod: Pod, grace_period_seconds: Literal[0, 1]) -> Deletion:
        """1: killed, and the node confirms it.  0: -> REMOVED, from the API without proof (embedded: as 1)."""

    async def stop(self) -> None: ...


class TaskState(StrEnum):
    """What an agent says of a task; the first five are not final."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input-required"
    AUTH_REQUIRED = "auth-required"
    UNKNOWN = "unknown"  # a word that no version of A2A has
    COMPLETED = "completed"
    CANCELED = "canceled"
    FAILED = "failed"
    REJECTED = "rejected"


class TaskAnswer(StrEnum):
    """What an agent answers instead of a task."""

    NOT_FOUND = "not_found"  # -32001
    NOT_CANCELABLE = "not_cancelable"  # -32002
    UNSUPPORTED = "unsupported"  # the agent cannot cancel at all


class AgentClient(Protocol):
    """A2A agents by the name that the settings know.  Raises Refused (not in the settings, 401, 403)."""

    async def start(self) -> None: ...

    async def cancel(self, agent: str, task_id: str, session_id: str | None) -> TaskState | TaskAnswer:
        """Ask to cancel; idempotent, as the task id is never used again."""

    async def get(self, agent: str, task_id: str) -> TaskState | TaskAnswer:
        """The task's state now."""

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TurnAnswer:
    """What an executor says of the turn that was named.

    `cancelled`: it was running and has stopped.  `finished`: it had ended before, `outcome` if known.
    `not_running`: the executor knows nothing of it, or runs another turn.  `cancelling`: accepted, not stopped yet.
    """

    status: Literal["cancelled", "finished", "not_running", "cancelling"]
    outcome: Literal["succeeded", "failed", "cancelled"] | None = None


class TurnExecutor(Protocol):
    """Remote executor groups by zone.  Raises Refused (zone not in the settings, 401, 403)."""

    async def start(self) -> None: ...

    async def cancel(self, zone: str, session_id: str, turn_id: str, timeout_seconds: float) -> TurnAnswer:
        """Ask to cancel this turn, never "the running one"; idempotent.  May wait up to the time-out for the end."""

    async def stop(self) -> None: ...


# ------------------------------------------------------------------------------------------------ time and chance


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall clock, aware UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    def fresh(self) -> str:
        """128 random bits, 32 lowercase hex digits."""

    def jitter(self) -> float:
        """Uniform in [0, 1), for backoff."""

    def nonce(self) -> bytes:
        """12 random bytes, for AES-GCM."""


@dataclass(slots=True)
class Ports:
    """Everything that bootstrap puts together for one stack."""

    log: CommandLog
    stream: EventStream
    store: DocumentStore
    jobs: JobController
    agents: AgentClient
    executors: TurnExecutor
    clock: Clock
    ids: Ids
