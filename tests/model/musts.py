"""What must hold: after each write, in each state, and at rest.  The text of each check names its invariant.

Invariants are numbered as in the design's list: one verdict per record (I1), counters (I2), terminal statuses absorb
(I3), verdicts equal the store (I4), the position (I5), log order (I6), one effective writer (I7), identities (I8),
nothing cancelled runs on (I9), status events in order and none missing (I10), lag goes to zero (I11).
"""

from tests.model.decider import DEADLINE, TERMINAL
from tests.model.state import At, Configuration, Doc, Input, Record, State, Verdict


class Violation(Exception):
    """An invariant does not hold; the text names it."""


def must(holds: bool, text: str) -> None:
    """Raises Violation."""
    if not holds:
        raise Violation(text)


def in_order(doc: Doc | None, at: At) -> bool:
    """Whether no record behind this one, of its partition, was applied to the document."""
    if doc is None:
        return True
    return all(i.at is None or i.at[0] != at[0] or i.at[1] <= at[1] for i in doc.inputs)


def check_write(old: Doc, new: Doc, *, fence: bool) -> None:
    """A conditional write that takes effect; `fence`: it decides nothing, and only moves the ETag."""
    must(new.revision == old.revision + 1, "I2 revision")
    must(new.audit_seq == len(new.inputs) == len(old.inputs) + (not fence), "I2 audit_seq")
    decided = None if fence else new.inputs[-1].at
    if decided is not None and not old.failures:
        must(in_order(old, decided), "I6 a record was applied after a later one of its partition")
    first = [i.command for i in new.inputs if i.at is not None]
    must(
        all(first.count(cmd) <= 1 + new.inputs.count(Input(cmd, seen=DEADLINE)) for cmd in first),
        "I1 a command was applied twice",
    )
    must(len({cmd for cmd, _ in new.said}) == len(new.said), "I1 a command has two remembered verdicts")
    must(old.status not in TERMINAL or new.status == old.status, "I3 a terminal status was left")
    added = {event.version for event in new.outbox} - {event.version for event in old.outbox}
    must(new.version - old.version == len(added), "I2 version and events differ")


def check(c: Configuration, s: State) -> None:
    """What holds in every state."""
    for a, doc in enumerate(s.store):
        if doc:
            readable = {event for event, transaction in s.tail[a] if transaction is None}
            shown = len(s.told[a]) + len(readable - set(s.told[a]))
            must(doc.version - len(doc.outbox) <= shown, "I10 an event was trimmed that no reader will see")
    seen: dict[tuple[int, str], Verdict] = {}
    for p, row in enumerate(s.results):
        for o, verdict in enumerate(row):
            passed = s.position[p].passed(o)
            must(not passed or verdict is not None, "I5 the position passed a command without its verdict")
            if verdict is not None:
                record = c.logs[p][o]
                first = seen.setdefault((record.aggregate, record.command), verdict) if verdict.code < 400 else verdict
                must(first == verdict, "I1 one id, two different 2xx verdicts")
                _check_verdict(c, s.store[record.aggregate], record, (p, o), verdict)


def _check_verdict(c: Configuration, doc: Doc | None, record: Record, at: At, verdict: Verdict) -> None:
    """A visible verdict against what the store holds now."""
    if verdict.code < 400:
        held = doc is not None and (record.command, verdict) in doc.said
        must(held or c.bug == "unchanged not remembered", "I1/I4 a 2xx verdict that the store does not hold")
    elif verdict.code >= 500:
        applied = doc is not None and any(said.at == at for _, said in doc.said)
        must(not applied, "I4 a record failed and was applied")
    else:
        applied = doc is not None and Input(record.command, at) in doc.inputs
        must(not applied, "I4 a record was refused and applied")
        must(verdict.code != 404 or not record.after, "a 404 for an aggregate that existed before the command")
        told = record.kind == "report" or record.expects is not None
        too_old = doc is not None and record.time <= doc.horizon
        must(verdict.code != 409 or too_old or told, "409 above the horizon")


def at_rest(c: Configuration, s: State) -> bool:
    """Everything is done, nothing is left over: the goal of recovery."""
    return all(_partition_at_rest(c, s, p) for p in range(len(c.logs))) and all(
        doc is None or _document_at_rest(s, a, doc) for a, doc in enumerate(s.store)
    )


def _partition_at_rest(c: Configuration, s: State, p: int) -> bool:
    held = s.assigned[s.owner[p]][p]
    if held is None or held.phase != "running" or held.sent or any(held.dirty):
        return False
    for o, record in enumerate(c.logs[p]):
        doc = s.store[record.aggregate]
        if record.after and doc is None:
            continue  # it is not published yet
        if held.tasks[o].stage != "committed" or s.results[p][o] is None:
            return False
        if record.kind == "job" and doc and doc.status == "cancelled" and record.argument in s.running:
            return False  # I9, a late Job
    return True


def _document_at_rest(s: State, a: int, doc: Doc) -> bool:
    unsettled = any(verdict and verdict.code == 504 for row in s.results for verdict in row)  # left to the reconciler
    if doc.open or (doc.status == "cancelling" and not unsettled):
        return False
    if len(s.told[a]) != doc.version or s.tail[a]:
        return False  # I10, none missing
    return doc.status != "cancelled" or not {job.name for job in doc.jobs} & set(s.running)  # I9
