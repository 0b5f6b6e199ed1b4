"""The values of the model: records, documents, what a worker holds, what broker and store hold, a configuration.

Everything is a tuple, so that states can be compared and hashed.  It knows no step and no rule.
"""

from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")
At = tuple[int, int]
"""Coordinates of a record: partition, offset."""


def put_at(items: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*items[:index], value, *items[index + 1 :])


# ------------------------------------------------------------------------------------------ commands and documents


class Record(NamedTuple):
    """A command record; its coordinates follow from its place in the logs."""

    command: str
    kind: Literal["cancel", "report", "job", "set"]
    time: int  # ce_time
    argument: str = ""  # the reported status, or the Job that is reported
    aggregate: int = 0
    after: Literal["", "created"] = ""  # "created": it is published after the aggregate was created
    expires: bool = False  # refused once the clock has passed, unless it is known already
    expects: int | None = None  # expected_version
    deadline: bool = False  # fails, 504, once the clock has passed while its effect is under way


class Verdict(NamedTuple):
    """A remembered one names the record first answered, from which its event id comes, and the version."""

    command: str
    code: int
    at: At | None = None
    version: int | None = None


class Input(NamedTuple):
    """One decided input: a command's record, or (`at` is None) what its effect reported."""

    command: str
    at: At | None = None
    seen: tuple[str, ...] = ()


class Open(NamedTuple):
    """A command whose intent is recorded and whose verdict is not."""

    command: str
    at: At
    time: int


class Answered(NamedTuple):
    """A command in the verdict memory."""

    command: str
    at: At
    time: int
    verdict: Verdict


class Failure(NamedTuple):
    """A 5xx, kept until its transaction is known to have committed."""

    command: str
    at: At
    verdict: Verdict


class Job(NamedTuple):
    """An identity that is recorded, and whether it was seen gone."""

    name: str
    gone: bool


class Event(NamedTuple):
    """A status event."""

    version: int
    what: str


class Doc(NamedTuple):
    """One document; the last three fields are ghosts, which only the checks read."""

    status: str = "running"
    jobs: tuple[Job, ...] = ()
    open: tuple[Open, ...] = ()
    answered: tuple[Answered, ...] = ()
    failures: tuple[Failure, ...] = ()
    horizon: int = 0
    outbox: tuple[Event, ...] = ()
    revision: int = 0
    version: int = 0
    audit_seq: int = 0
    fences: tuple[At, ...] = ()  # records for whose refusal the ETag was moved
    inputs: tuple[Input, ...] = ()  # ghost: every input that was decided
    said: tuple[tuple[str, Verdict], ...] = ()  # ghost: every verdict that was ever remembered
    forgotten: tuple[str, ...] = ()  # ghost: commands that left the memory


# ------------------------------------------------------------------------------------------ one worker's memory

Stage = Literal["queued", "fresh", "performing", "observed", "finished", "sent", "committed"]


class Task(NamedTuple):
    """Where a record stands; `fresh`: queued, and its document was read after it was fetched."""

    stage: Stage
    jobs: tuple[str, ...] = ()  # performing: what is being stopped; observed: what was seen gone
    verdict: Verdict | None = None  # finished, sent: what is published for it

    @property
    def code(self) -> int:
        return self.verdict.code if self.verdict else 0


class Entry(NamedTuple):
    """A document in the cache; `verified`: this producer committed since it was read (must 3)."""

    document: Doc | None
    verified: bool


class Assignment(NamedTuple):
    """One partition as one worker holds it: nothing of it may survive a new producer (must 5)."""

    phase: Literal["renewing", "renewed", "positioned", "running"]
    tasks: tuple[Task, ...] = ()  # per offset
    cache: tuple[Entry | None, ...] = ()  # per aggregate
    acknowledged: tuple[int, ...] = ()  # per aggregate: the highest version that is known to be published
    dirty: tuple[bool, ...] = ()  # per aggregate: the outbox has to go out
    sent: tuple[int, ...] | None = None  # per aggregate: the highest version in the open transaction


# ------------------------------------------------------------------------------------------ broker and store


class Position(NamedTuple):
    """The first unfinished offset, the one after the highest finished, the unfinished ones between."""

    first: int = 0
    highest: int = 0
    unfinished: tuple[int, ...] = ()

    def passed(self, offset: int) -> bool:
        return offset < self.first or (offset < self.highest and offset not in self.unfinished)


class Transaction(NamedTuple):
    """An open one; its status records stand in the tail already, where no reader of committed data sees them."""

    partition: int
    worker: int
    verdicts: tuple[tuple[int, Verdict], ...]
    position: Position


class Put(NamedTuple):
    """A conditional write under way that nobody waits for."""

    aggregate: int
    old: Doc
    new: Doc


Fault = Literal[0, 1, 2, 3]
TAKEOVER: Fault = 0
RESTART: Fault = 1
LOST_PUT: Fault = 2
LOST_COMMIT: Fault = 3


class Budget(NamedTuple):
    """Faults that may still happen, per kind and in all."""

    takeovers: int
    restarts: int
    lost_puts: int
    lost_commits: int
    in_all: int


class State(NamedTuple):
    """Everything, between two steps."""

    store: tuple[Doc | None, ...]  # per aggregate
    running: tuple[str, ...]  # Jobs that run
    expired: bool  # the clock has passed every expiry and deadline
    owner: tuple[int, ...]  # per partition: the worker that the group assigned it to
    holder: tuple[int | None, ...]  # per transactional id: the worker with the current producer epoch
    latest: tuple[int | None, ...]  # ghost, per partition: the worker whose producer started last
    transaction: tuple[Transaction | None, ...]  # per transactional id
    late: tuple[bool, ...]  # per transactional id: an EndTxn is under way that nobody waits for
    position: tuple[Position, ...]  # per partition
    results: tuple[tuple[Verdict | None, ...], ...]  # per partition and offset: the visible verdict
    tail: tuple[tuple[tuple[Event, int | None], ...], ...]  # per aggregate: not yet readable, with its transaction
    told: tuple[tuple[Event, ...], ...]  # per aggregate: first occurrences, as readers of committed data see them
    assigned: tuple[tuple[Assignment | None, ...], ...]  # per worker and partition
    put: Put | None
    budget: Budget

    def may(self, fault: Fault) -> bool:
        return bool(self.budget[fault] and self.budget.in_all)

    def spend(self, fault: Fault) -> "State":
        budget = Budget(*put_at(tuple(self.budget), fault, self.budget[fault] - 1))
        return self._replace(budget=budget._replace(in_all=budget.in_all - 1))


# ------------------------------------------------------------------------------------------ what is explored

Amendment = Literal["verified", "refusals fence", "failures kept", "refusals first"]
ALL: frozenset[Amendment] = frozenset({"verified", "refusals fence", "failures kept", "refusals first"})
Bug = Literal[
    "",
    "412 taken as a verdict",
    "entry leaves before its commit",
    "failed send not awaited",
    "horizon not raised",
    "intent after effect",
    "late Job ignored",
    "load does not publish",
    "memory survives a new producer",
    "one transactional id per worker",
    "position read before the producer starts",
    "refusal on a stale cache",
    "trimmed when published",
    "unchanged not remembered",
    "unfinished set dropped",
    "verdict outside the write",
    "verdict without its outbox",
]
WITH_A_JOB = Doc(jobs=(Job("J1", False),))


class Configuration(NamedTuple):
    """What is explored: the records of each partition, the documents, the faults, the rules that hold."""

    name: str
    logs: tuple[tuple[Record, ...], ...]
    documents: tuple[Doc | None, ...] = (WITH_A_JOB,)  # None: created at some later time, with a Job
    jobs: tuple[str, ...] = ("J1",)
    budget: Budget = Budget(1, 1, 1, 1, 2)
    memory_commands: int = 1
    clock: bool = False  # the clock may pass every expiry and deadline, once
    amended: frozenset[Amendment] = ALL
    bug: Bug = ""

    def transactional_id(self, worker: int, partition: int) -> int:
        return worker if self.bug == "one transactional id per worker" else partition


def initial(c: Configuration) -> State:
    """Nobody has started; worker 0 owns the first partition, worker 1 the second."""
    partitions = len(c.logs)
    ids = 2 if c.bug == "one transactional id per worker" else partitions
    owner = tuple(p % 2 for p in range(partitions))
    begin = Assignment("renewing")
    return State(
        store=c.documents,
        running=c.jobs,
        expired=False,
        owner=owner,
        holder=(None,) * ids,
        latest=(None,) * partitions,
        transaction=(None,) * ids,
        late=(False,) * ids,
        position=(Position(),) * partitions,
        results=tuple((None,) * len(log) for log in c.logs),
        tail=((),) * len(c.documents),
        told=((),) * len(c.documents),
        assigned=tuple(tuple(begin if owner[p] == w else None for p in range(partitions)) for w in (0, 1)),
        put=None,
        budget=c.budget,
    )
