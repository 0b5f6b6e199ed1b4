"""Outside of the lanes: effects (step 6), and one transaction after another (step 9).

Begin, sends and offsets of a transaction are one step, since nothing of them shows before the commit; the commit is
another, and everything may happen between the two.
"""

from tests.model.broker import end_transaction
from tests.model.desk import Desk, Move, Moves, drop
from tests.model.musts import must
from tests.model.state import LOST_COMMIT, Entry, Position, Task, Transaction, put_at


def effects(desk: Desk) -> Moves:
    """Step 6, outside of the lane: what a steered flight does."""
    s = desk.s
    for o, task in enumerate(desk.assignment.tasks):
        if task.stage != "performing":
            continue
        record = desk.log[o]
        doc = s.store[record.aggregate]
        assert doc is not None, "an effect was decided on it"
        intended = any(i.command == record.command and i.at is not None for i in doc.inputs)
        must(intended, "I8 an effect before its intent was durable")
        must(set(task.jobs) <= {job.name for job in doc.jobs}, "I8 an identity that is not recorded")
        hit = set(task.jobs) & set(s.running)
        wanted = doc.status == "cancelling" or any(opened.command == record.command for opened in doc.open)
        must(not hit or wanted, "an effect stops something after the teardown was settled")
        stopped = s._replace(running=tuple(job for job in s.running if job not in hit))
        label = f"perform {','.join(task.jobs) or 'nothing'} for {record.command}@{o}"
        yield Move(label, False, desk.stage(o, Task("observed", task.jobs), stopped))


def transaction(desk: Desk) -> Moves:
    """Step 9, while there is something to publish."""
    ready, outboxes = _ready(desk)
    if desk.assignment.sent is None and not ready and not outboxes:
        return
    if desk.fenced:
        yield from drop(desk, "commit: fenced", fault=False)
    elif desk.assignment.sent is None:
        yield _begin(desk, ready, outboxes)
    else:
        yield _commit(desk)
        if desk.s.may(LOST_COMMIT):
            yield from _lose(desk)


def _ready(desk: Desk) -> tuple[list[int], list[int]]:
    """Records whose verdict can go out, and aggregates whose outbox must; a verdict takes its outbox along (must 4)."""
    cache = desk.assignment.cache
    whole = desk.c.bug != "verdict without its outbox"
    ready = [
        o
        for o, task in enumerate(desk.assignment.tasks)
        if task.stage == "finished" and (cache[desk.log[o].aggregate] or task.code == 404 or not whole)
    ]
    outboxes = [a for a, dirty in enumerate(desk.assignment.dirty) if dirty and _document(desk, a)]
    return ready, outboxes if whole or not ready else []


def _document(desk: Desk, a: int) -> object:
    entry = desk.assignment.cache[a]
    return entry and entry.document


def _begin(desk: Desk, ready: list[int], outboxes: list[int]) -> Move:
    """Verdicts, whole outboxes and the position are sent."""
    x, assignment, c = desk.transactional_id, desk.assignment, desk.c
    tasks = tuple(t._replace(stage="sent") if o in ready else t for o, t in enumerate(assignment.tasks))
    tail, sent = desk.s.tail, [0] * len(assignment.dirty)
    for a in outboxes:
        entry = assignment.cache[a]
        assert entry is not None, "it was looked up"
        assert entry.document is not None, "it has an outbox"
        events = entry.document.outbox
        tail = put_at(tail, a, tail[a] + tuple((event, x) for event in events))
        sent[a] = events[-1].version if events else 0
    verdicts = tuple((o, v) for o in ready if (v := tasks[o].verdict) and c.bug != "failed send not awaited")
    opened = Transaction(desk.partition, desk.worker, verdicts, _position(desk, tasks))
    acknowledged = assignment.acknowledged
    if c.bug == "trimmed when published":
        acknowledged = tuple(map(max, acknowledged, sent))
    begun = assignment._replace(tasks=tasks, sent=tuple(sent), acknowledged=acknowledged)
    state = desk.s._replace(transaction=put_at(desk.s.transaction, x, opened), tail=tail)
    return Move(f"begin commit of {ready} and events up to {sent}", False, desk.hold(begun, state))


def _position(desk: Desk, tasks: tuple[Task, ...]) -> Position:
    done = [o for o, task in enumerate(tasks) if task.stage in ("sent", "committed")]
    first = next((o for o in range(len(tasks)) if o not in done), len(tasks))
    highest = max(done, default=-1) + 1
    if desk.c.bug == "unfinished set dropped":
        return Position(first, first, ())
    return Position(first, max(first, highest), tuple(o for o in range(first, highest) if o not in done))


def _commit(desk: Desk) -> Move:
    """The transaction is known to have committed: positions, outboxes acknowledged, documents verified."""
    assignment = desk.assignment
    assert assignment.sent is not None, "it has begun"
    acknowledged = tuple(map(max, assignment.acknowledged, assignment.sent))
    committed = assignment._replace(
        tasks=tuple(Task("committed") if task.stage == "sent" else task for task in assignment.tasks),
        acknowledged=acknowledged,
        dirty=tuple(
            dirty and not _is_acknowledged(entry, upto)
            for dirty, entry, upto in zip(assignment.dirty, assignment.cache, acknowledged, strict=True)
        ),
        sent=None,
        cache=tuple(entry and entry._replace(verified=True) for entry in assignment.cache),
    )
    return Move("commit", False, desk.hold(committed, end_transaction(desk.s, desk.transactional_id, commit=True)))


def _is_acknowledged(entry: Entry | None, upto: int) -> bool:
    return entry is not None and entry.document is not None and entry.document.version <= upto


def _lose(desk: Desk) -> Moves:
    """The commit's outcome is unknown: EndTxn may still be applied; or the coordinator timed the transaction out."""
    x, s = desk.transactional_id, desk.s
    late = s._replace(late=put_at(s.late, x, True)).spend(LOST_COMMIT)
    yield from drop(desk, "commit: OutcomeUnknown", fault=True, s=late)
    aborted = end_transaction(s.spend(LOST_COMMIT), x, commit=False)
    yield Move("commit: timed out", True, aborted._replace(holder=put_at(s.holder, x, None)))
