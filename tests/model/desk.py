"""One worker at one of its partitions, in one state of the world: what its steps are told, and what they yield."""

from collections.abc import Iterator
from typing import NamedTuple

from tests.model.broker import start_producer
from tests.model.state import RESTART, Assignment, Configuration, Record, State, Task, put_at


class Move(NamedTuple):
    """A step that can be taken: what it is called, whether it is a fault, where it leads."""

    label: str
    fault: bool
    state: State


Moves = Iterator[Move]


class Desk(NamedTuple):
    """Where a worker sits."""

    c: Configuration
    s: State
    worker: int
    partition: int
    assignment: Assignment

    @property
    def log(self) -> tuple[Record, ...]:
        return self.c.logs[self.partition]

    @property
    def rightful(self) -> bool:
        """Whether the group assigned the partition to this worker."""
        return self.s.owner[self.partition] == self.worker

    @property
    def transactional_id(self) -> int:
        return self.c.transactional_id(self.worker, self.partition)

    @property
    def fenced(self) -> bool:
        """Whether another producer has taken the transactional id over."""
        return self.s.holder[self.transactional_id] != self.worker

    def hold(self, assignment: Assignment | None, s: State | None = None) -> State:
        """The state in which the worker holds this of its partition."""
        s = s or self.s
        row = put_at(s.assigned[self.worker], self.partition, assignment)
        return s._replace(assigned=put_at(s.assigned, self.worker, row))

    def stage(self, offset: int, task: Task, s: State | None = None) -> State:
        """The state in which a record has got there."""
        tasks = put_at(self.assignment.tasks, offset, task)
        return self.hold(self.assignment._replace(tasks=tasks), s)


def renew(desk: Desk) -> Moves:
    """A new assignment: the producer starts, then the position is read (must 5)."""
    early = desk.c.bug == "position read before the producer starts"
    match desk.assignment.phase:
        case "renewing" if early:
            yield Move("renew: position", False, desk.hold(_read_position(desk)._replace(phase="positioned")))
        case "renewing":
            yield Move("renew: producer", False, desk.hold(Assignment("renewed"), _start_producer(desk)))
        case "renewed":
            yield Move("renew: position", False, desk.hold(_read_position(desk)))
        case "positioned":
            running = desk.assignment._replace(phase="running")
            yield Move("renew: producer", False, desk.hold(running, _start_producer(desk)))
        case "running":
            raise AssertionError("an assignment that runs is dropped before it is renewed")


def drop(desk: Desk, label: str, *, fault: bool, s: State | None = None) -> Moves:
    """Any error of a producer: nothing in memory survives; a zombie gives up, or starts again and fences the owner."""
    s = s or desk.s
    fresh = Assignment("renewing")
    if desk.c.bug == "memory survives a new producer":
        tasks = tuple(Task("finished", verdict=t.verdict) if t.stage == "sent" else t for t in desk.assignment.tasks)
        fresh = desk.assignment._replace(phase="positioned", tasks=tasks, sent=None)
    if desk.rightful:
        yield Move(label, fault, desk.hold(fresh, s))
        return
    yield Move(f"{label}, gives up", fault, desk.hold(None, s))
    if s.may(RESTART):
        yield Move(f"{label}, starts again", True, desk.hold(fresh, s.spend(RESTART)))


def _start_producer(desk: Desk) -> State:
    return start_producer(desk.c, desk.s, desk.worker, desk.partition)


def _read_position(desk: Desk) -> Assignment:
    position, n = desk.s.position[desk.partition], len(desk.c.documents)
    tasks = tuple(Task("committed" if position.passed(o) else "queued") for o in range(len(desk.log)))
    return Assignment("running", tasks, (None,) * n, (0,) * n, (False,) * n)
