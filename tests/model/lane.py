"""The lane of one key: load, decide, answer, refuse, fence, barrier, write; then what an effect reported.

Deciding and sending a write is one step here; so is a write and what the lane does with the document that it wrote.
"""

from tests.model.decider import (
    Known,
    Refused,
    Waiting,
    Written,
    decide,
    is_open,
    observe,
    recalled,
    targets,
    unconfirmed,
)
from tests.model.desk import Desk, Move, Moves, drop
from tests.model.musts import check_write, in_order, must
from tests.model.state import LOST_PUT, Assignment, Doc, Entry, Put, Task, Verdict, put_at


def lane(desk: Desk, a: int) -> Moves:
    """Everything that the lane of one aggregate can do now."""
    tasks = desk.assignment.tasks
    mine = [o for o, record in enumerate(desk.log) if record.aggregate == a]
    head = next((o for o in mine if tasks[o].stage in ("queued", "fresh")), None)
    if head is not None and desk.log[head].after and desk.s.store[a] is None:
        head = None  # it is not published yet
    reported = [o for o in mine if tasks[o].stage == "observed"]
    entry = desk.assignment.cache[a]
    if entry is None:
        unpublished = any(tasks[o].stage == "finished" and tasks[o].code != 404 for o in mine)
        if head is not None or reported or unpublished or desk.assignment.dirty[a]:
            yield _load(desk, a, head)
        return
    if head is not None:
        yield from _decide(desk, a, head, entry, [o for o in mine if o < head])
    for o in mine:
        yield from _deadline(desk, a, o, entry.document)
    for o in reported:
        assert entry.document is not None, "an effect ran for it"
        yield from _observed(desk, a, o, entry.document)


# ------------------------------------------------------------------------------------------ the steps


def _load(desk: Desk, a: int, head: int | None) -> Move:
    """Step 2; a load that did not come from the cache publishes the outbox again (must 4)."""
    doc = desk.s.store[a]
    dirty = bool(doc and doc.outbox) and (desk.assignment.dirty[a] or desk.c.bug != "load does not publish")
    loaded = _settle(desk, desk.assignment, a, Entry(doc, verified=False), dirty=dirty)
    if head is not None and loaded.tasks[head].stage == "queued":
        loaded = loaded._replace(tasks=put_at(loaded.tasks, head, Task("fresh")))
    return Move(f"load a{a}{'' if doc else ', absent'}", False, desk.hold(loaded))


def _decide(desk: Desk, a: int, head: int, entry: Entry, earlier: list[int]) -> Moves:
    """Steps 3 to 5 for the first record that waits."""
    doc, record, at = entry.document, desk.log[head], (desk.partition, head)
    decision = decide(doc, record, at, desk.s.expired, desk.c.bug)
    stale = desk.c.bug == "refusal on a stale cache"
    match decision:
        case Refused() if desk.assignment.tasks[head].stage == "queued" and not stale:
            yield _load(desk, a, head)  # a refusal needs a fresh read (must 9)
        case Refused(fences=True) if "refusals fence" in desk.c.amended and doc and at not in doc.fences:
            moved = doc._replace(fences=(*doc.fences, at))
            yield from _write(desk, a, head, entry, moved, f"fence for {record.command}@{head}", fence=True)
        case Refused(verdict) | Known(verdict):
            known = isinstance(decision, Known)
            text = "I6 a record was refused after a later one of its partition was applied"
            must(known or desk.fenced or in_order(doc, at), text)
            finished = desk.assignment._replace(
                tasks=put_at(desk.assignment.tasks, head, Task("finished", verdict=verdict)),
                cache=put_at(desk.assignment.cache, a, entry if doc or stale else None),
            )
            label = f"{'answer' if known else 'refuse'} {record.command}@{head}: {verdict.code}"
            yield Move(label, False, desk.hold(finished))
        case Waiting():
            assert doc is not None, "its intent stands there"
            steered = desk.stage(head, Task("performing", targets(doc)))
            yield Move(f"wait for {record.command}@{head}", False, steered)
        case Written(new):
            yield from _barriers(desk, a, head, entry, new, earlier)


def _barriers(desk: Desk, a: int, head: int, entry: Entry, new: Doc, earlier: list[int]) -> Moves:
    """Step 5, and what must be known to have committed before it (musts 3 and 6)."""
    record, doc, tasks = desk.log[head], entry.document, desk.assignment.tasks
    assert doc is not None, "a decision to write has a state"
    unknown = any(tasks[o].stage in ("finished", "sent") and tasks[o].code >= 400 for o in earlier)
    if unknown and "refusals first" in desk.c.amended:
        return  # waits until the earlier refusals are committed
    if desk.c.bug == "intent after effect" and record.kind == "cancel" and targets(doc):
        performing = desk.stage(head, Task("performing", targets(doc)))
        yield Move(f"begin {record.command}@{head}", False, performing)
    elif "verified" in desk.c.amended and not entry.verified:
        if desk.fenced:
            yield from drop(desk, "barrier: fenced", fault=False)
        else:
            cache = put_at(desk.assignment.cache, a, Entry(doc, verified=True))
            yield Move("barrier: commit of the position", False, desk.hold(desk.assignment._replace(cache=cache)))
    else:
        yield from _write(desk, a, head, entry, new, f"write {record.command}@{head}")


def _deadline(desk: Desk, a: int, o: int, doc: Doc | None) -> Moves:
    """Step 7 where the effect did not end in time."""
    record = desk.log[o]
    late = desk.assignment.tasks[o].stage == "performing" and record.deadline and desk.s.expired
    at = (desk.partition, o)
    if late and doc and any((opened.command, opened.at) == (record.command, at) for opened in doc.open):
        entry = desk.assignment.cache[a]
        assert entry is not None, "it is from there"
        new = unconfirmed(doc, record.command, keep="failures kept" in desk.c.amended)
        label = f"write that {record.command}@{o} is unconfirmed"
        yield from _write(desk, a, o, entry, new, label, failed=True)


def _observed(desk: Desk, a: int, o: int, doc: Doc) -> Moves:
    """Steps 7 and 8: decide on what an effect saw, unless the document knows it already."""
    command, seen = desk.log[o].command, desk.assignment.tasks[o].jobs
    opened = is_open(doc, command)
    new = observe(doc, command, seen) if opened else None
    if new:
        entry = desk.assignment.cache[a]
        assert entry is not None, "it is from there"
        yield from _write(desk, a, o, entry, new, f"write what {command}@{o} saw")
    else:
        task = Task("performing", targets(doc)) if opened else Task("queued")
        yield Move(f"nothing new in what {command}@{o} saw", False, desk.stage(o, task))


# ------------------------------------------------------------------------------------------ a write


def _write(
    desk: Desk, a: int, o: int, entry: Entry, new: Doc, label: str, *, fence: bool = False, failed: bool = False
) -> Moves:
    """Compare-and-set: done | Conflict | OutcomeUnknown (the PUT may arrive later, or never)."""
    assignment, old, record = desk.assignment, entry.document, desk.log[o]
    assert old is not None, "there is something to replace"
    new = _advance(desk, a, old, new)
    dropped = desk.hold(assignment._replace(cache=put_at(assignment.cache, a, None)))
    if desk.c.bug == "412 taken as a verdict":
        dropped = desk.stage(o, Task("finished", verdict=Verdict(record.command, 412)))
    if desk.s.store[a] != old:
        yield Move(f"{label}: Conflict", False, dropped)
        return
    check_write(old, new, fence=fence)
    task = assignment.tasks[o] if fence else _after_write(desk, o, new, failed=failed)
    written = assignment._replace(tasks=put_at(assignment.tasks, o, task))
    dirty = assignment.dirty[a] or bool(new.outbox and new.outbox[-1].version > assignment.acknowledged[a])
    settled = _settle(desk, written, a, Entry(new, entry.verified), dirty=dirty)
    yield Move(label, False, desk.hold(settled, desk.s._replace(store=put_at(desk.s.store, a, new))))
    if desk.s.may(LOST_PUT) and desk.s.put is None:
        lost = dropped.spend(LOST_PUT)._replace(put=Put(a, old, new))
        yield Move(f"{label}: OutcomeUnknown", True, lost)


def _after_write(desk: Desk, o: int, new: Doc, *, failed: bool) -> Task:
    """The record's verdict stands in the document, or its effects begin."""
    command = desk.log[o].command
    verdict = recalled(new, command)
    if verdict is None and desk.c.bug == "verdict outside the write" and not new.open:
        verdict = Verdict(command, 200, (desk.partition, o), new.version)
    if failed:
        verdict = Verdict(command, 504)
    return Task("finished", verdict=verdict) if verdict else Task("performing", targets(new))


def _advance(desk: Desk, a: int, old: Doc, new: Doc) -> Doc:
    """What every write does: counters, the outbox trimmed, entries forgotten, the horizon raised."""
    c, tasks = desk.c, desk.assignment.tasks
    answered, horizon, forgotten = list(new.answered), new.horizon, new.forgotten
    for entry in new.answered:
        partition, offset = entry.at
        committed = partition == desk.partition and tasks[offset].stage == "committed"  # nobody else can know it
        leaves = committed or c.bug == "entry leaves before its commit"
        if len(answered) > c.memory_commands and leaves:
            answered.remove(entry)
            forgotten += (entry.command,)
            horizon = horizon if c.bug == "horizon not raised" else max(horizon, entry.time)
    return new._replace(
        outbox=tuple(event for event in new.outbox if event.version > desk.assignment.acknowledged[a]),
        answered=old.answered if c.bug == "verdict outside the write" else tuple(answered),
        failures=tuple(f for f in new.failures if f.at[0] != desk.partition or tasks[f.at[1]].stage != "committed"),
        horizon=horizon,
        forgotten=forgotten,
        revision=old.revision + 1,
        audit_seq=len(new.inputs),
    )


def _settle(desk: Desk, assignment: Assignment, a: int, entry: Entry, *, dirty: bool) -> Assignment:
    """A newer document: answer who waits and is answered there, decide again who is unknown, publish its outbox."""
    doc = entry.document
    tasks = list(assignment.tasks)
    for o, (record, task) in enumerate(zip(desk.log, tasks, strict=True)):
        if record.aggregate != a or task.stage not in ("performing", "observed"):
            continue
        if verdict := recalled(doc, record.command):
            tasks[o] = Task("finished", verdict=verdict)
        elif doc and task.stage == "performing" and not is_open(doc, record.command):
            tasks[o] = Task("queued")
    return assignment._replace(
        tasks=tuple(tasks),
        cache=put_at(assignment.cache, a, entry),
        dirty=put_at(assignment.dirty, a, dirty),
    )
