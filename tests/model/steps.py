"""All that can happen next: the steps of both workers, and what the world does to them.

Every step is atomic, and everything may happen between two steps.  A zombie is a worker that goes on after a
takeover; a crash is a zombie that never moves again.
"""

from collections.abc import Iterator

from tests.model.broker import end_transaction
from tests.model.commit import effects, transaction
from tests.model.desk import Desk, Moves, renew
from tests.model.lane import lane
from tests.model.musts import check_write
from tests.model.state import RESTART, TAKEOVER, WITH_A_JOB, Assignment, Configuration, State, put_at

Step = tuple[str, bool, State]
"""Label, whether it counts as recovery (the rightful owner's own steps, no fault), next state."""


def steps(c: Configuration, s: State) -> Iterator[Step]:
    """Every step that this state has."""
    for worker in (0, 1):
        for partition, assignment in enumerate(s.assigned[worker]):
            if assignment is not None:
                desk = Desk(c, s, worker, partition, assignment)
                which = f" of p{partition}" if len(c.logs) > 1 else ""
                who = f"{'owner' if desk.rightful else 'zombie'}{which}: "
                for label, fault, state in _worker(desk):
                    yield who + label, desk.rightful and not fault, state
    for label, state in _world(c, s):
        yield label, False, state


def _worker(desk: Desk) -> Moves:
    if desk.assignment.phase != "running":
        yield from renew(desk)
        return
    for aggregate in range(len(desk.c.documents)):
        yield from lane(desk, aggregate)
    yield from effects(desk)
    yield from transaction(desk)


def _world(c: Configuration, s: State) -> Iterator[tuple[str, State]]:
    for partition in range(len(c.logs)):
        if s.may(TAKEOVER):
            yield f"takeover of p{partition}", _takeover(s, partition)
    for x, opened in enumerate(s.transaction):
        if s.late[x] and opened:
            yield "late EndTxn commits", end_transaction(s, x, commit=True)
    if s.put:
        aggregate, old, new = s.put
        check_write(old, new, fence=len(new.inputs) == len(old.inputs))
        yield "late PUT arrives", s._replace(store=put_at(s.store, aggregate, new), put=None)
    for aggregate, later in enumerate(c.documents):
        if later is None and s.store[aggregate] is None:
            yield f"a{aggregate} is created", s._replace(store=put_at(s.store, aggregate, WITH_A_JOB))
    if c.clock and not s.expired:
        yield "the clock passes expiry and deadline", s._replace(expired=True)


def _takeover(s: State, partition: int) -> State:
    """The other worker is assigned the partition; the old owner does not know yet."""
    worker = 1 - s.owner[partition]
    s = s.spend(TAKEOVER)
    row = put_at(s.assigned[worker], partition, Assignment("renewing"))
    return s._replace(owner=put_at(s.owner, partition, worker), assigned=put_at(s.assigned, worker, row))


# ------------------------------------------------------------------------------------------ fewer states


def tidy(c: Configuration, s: State) -> State:
    """Forget what can have no effect any more, and call the owner of the first partition worker 0."""
    if s.put and s.store[s.put.aggregate] != s.put.old:
        s = s._replace(put=None)
    for worker in (0, 1):
        for partition, assignment in enumerate(s.assigned[worker]):
            if assignment and _is_spent(Desk(c, s, worker, partition, assignment)):
                s = Desk(c, s, worker, partition, assignment).hold(None)
    return _swapped(s) if s.owner[0] == 1 and c.bug != "one transactional id per worker" else s


def _is_spent(desk: Desk) -> bool:
    """A fenced zombie with nothing to write, and no fault left to start again with."""
    held = desk.assignment
    idle = held.phase == "running" and held.sent is None and not any(held.dirty)
    if desk.rightful or not idle or not desk.fenced or desk.s.may(RESTART):
        return False
    return all(task.stage in ("committed", "finished") for task in held.tasks)


def _swapped(s: State) -> State:
    def other(worker: int | None) -> int | None:
        return None if worker is None else 1 - worker

    return s._replace(
        owner=tuple(1 - worker for worker in s.owner),
        holder=tuple(other(worker) for worker in s.holder),
        latest=tuple(other(worker) for worker in s.latest),
        assigned=(s.assigned[1], s.assigned[0]),
        transaction=tuple(t and t._replace(worker=1 - t.worker) for t in s.transaction),
    )
