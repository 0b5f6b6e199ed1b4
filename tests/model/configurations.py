"""What is explored: small logs that reach every rule, each rule left out, each bug put in.

An amendment is a rule that an earlier plan of the protocol did not have; README.md says what they are.
"""

from typing import Any, Literal, NamedTuple

from tests.model.checker import STUCK
from tests.model.state import ALL, WITH_A_JOB, Amendment, Budget, Bug, Configuration, Doc, Record

Group = Literal["holds", "written", "bugs"]
GROUPS: tuple[Group, ...] = ("holds", "written", "bugs")


class Line(NamedTuple):
    """One line of the table; `breaks` is the invariant that must be found broken, empty where all must hold."""

    group: Group
    name: str
    configuration: Configuration
    breaks: str = ""


def cancel(command: str, time: int, **more: Any) -> Record:
    return Record(command, "cancel", time, **more)


def report(command: str, time: int, status: str) -> Record:
    return Record(command, "report", time, status)


def job(command: str, time: int, name: str) -> Record:
    return Record(command, "job", time, name)


def update(command: str, time: int, **more: Any) -> Record:
    return Record(command, "set", time, **more)


ONE_FAULT, THREE_FAULTS, NO_FAULT = Budget(1, 1, 1, 1, 1), Budget(2, 1, 1, 1, 3), Budget(0, 0, 0, 0, 0)
BARE: dict[str, Any] = {"documents": (Doc(),), "jobs": ()}
TWO_JOBS: dict[str, Any] = {"jobs": ("J1", "J2")}

CREATED = Configuration("refused, then created", ((cancel("c1", 1),),), documents=(None,))
CREATED_TWICE = Configuration(
    "refused, created, asked again",
    ((cancel("c1", 1), cancel("c2", 2, after="created")),),
    documents=(None,),
    budget=ONE_FAULT,
)
FITS = Configuration("refused by version, then it fits", ((update("c1", 1, expects=1), update("c2", 2)),), **BARE)
EXPIRY = Configuration("expires between two attempts", ((cancel("c1", 1, expires=True),),), clock=True)
DEADLINE = Configuration("unconfirmed at the deadline", ((cancel("c1", 1, deadline=True, expects=0),),), clock=True)
AGAIN = Configuration(
    "unconfirmed, then asked again",
    ((cancel("c1", 1, deadline=True), cancel("c1", 1)),),
    clock=True,
    budget=ONE_FAULT,
)
ONE = Configuration("one cancel", ((cancel("c1", 1),),), budget=THREE_FAULTS)
TWICE = Configuration("the same cancel twice", ((cancel("c1", 1), cancel("c1", 1)),))
JOIN = Configuration("a second cancel joins", ((cancel("c1", 1), cancel("c2", 2)),))
SUPERSEDED = Configuration("a report during the effect", ((cancel("c1", 1), report("r1", 2, "succeeded")),))
LATE_JOB = Configuration("a late Job", ((cancel("c1", 1), job("r1", 2, "J2")),), budget=ONE_FAULT, **TWO_JOBS)
OLD = Configuration("an old duplicate", ((update("c1", 1), update("c2", 2), update("c1", 1)),), **BARE)
RETIMED = Configuration(
    "an old duplicate with a new ce_time",
    ((update("c1", 1), update("c2", 2), update("c1", 3)),),
    budget=NO_FAULT,
    **BARE,
)
SAME = Configuration(
    "an unchanged report twice",
    ((report("r1", 1, "running"), report("r2", 2, "succeeded"), report("r1", 1, "running")),),
    memory_commands=2,
    budget=ONE_FAULT,
    **BARE,
)
ELSEWHERE = Configuration(
    "the same cancel in another partition", ((cancel("c1", 1),), (cancel("c1", 1),)), budget=ONE_FAULT
)
TWO_KEYS = Configuration(
    "two aggregates",
    ((cancel("c1", 1), update("u1", 2, aggregate=1)),),
    documents=(WITH_A_JOB, Doc()),
    budget=ONE_FAULT,
)
CROSS = Configuration(
    "an update from another partition",
    ((update("c1", 1), update("c2", 3)), (update("c3", 2),)),
    budget=ONE_FAULT,
    **BARE,
)
GONE = Configuration(
    "the same id elsewhere, and forgotten",
    ((update("c1", 1), update("c2", 2)), (update("c1", 1),)),
    budget=ONE_FAULT,
    **BARE,
)
MIXED = Configuration(
    "cancel, cancel, report, late Job",
    ((cancel("c1", 1), cancel("c2", 2), report("r1", 3, "failed"), job("r2", 4, "J2")),),
    budget=NO_FAULT,
    **TWO_JOBS,
)

HOLDS = (
    *(CREATED, CREATED_TWICE, FITS, EXPIRY, DEADLINE, AGAIN, ONE, TWICE, JOIN, SUPERSEDED, LATE_JOB, OLD, SAME),
    *(ELSEWHERE, GONE, TWO_KEYS, CROSS, MIXED),
)
TWICE_APPLIED = "I1 a command was applied twice"
TWO_RECORDS = "I1 two verdict records for one command record"
REFUSED_APPLIED = "I4 a record was refused and applied"
OUT_OF_ORDER = "I6 a record was applied after a later one of its partition"

NONE: frozenset[Amendment] = frozenset()
WRITTEN: tuple[tuple[Configuration, frozenset[Amendment], str], ...] = (
    (CREATED, NONE, REFUSED_APPLIED),
    (FITS, NONE, OUT_OF_ORDER),
    (EXPIRY, NONE, REFUSED_APPLIED),
    (DEADLINE, NONE, REFUSED_APPLIED),
    (AGAIN, NONE, "I4 a record failed and was applied"),
    (CREATED, ALL - {"verified"}, REFUSED_APPLIED),
    (FITS, ALL - {"verified"}, OUT_OF_ORDER),
    (EXPIRY, ALL - {"refusals fence"}, REFUSED_APPLIED),
    (DEADLINE, ALL - {"failures kept"}, REFUSED_APPLIED),
    (FITS, ALL - {"refusals first"}, OUT_OF_ORDER),
    (RETIMED, ALL, TWICE_APPLIED),  # no rule helps: the horizon protects duplicates that keep their ce_time
)
BUGS: tuple[tuple[Bug, Configuration, str], ...] = (
    ("memory survives a new producer", ONE, TWO_RECORDS),
    ("unfinished set dropped", SUPERSEDED, TWO_RECORDS),
    ("position read before the producer starts", ONE, TWO_RECORDS),
    ("trimmed when published", ONE, "I10 an event was trimmed that no reader will see"),
    ("verdict outside the write", ONE, REFUSED_APPLIED),
    ("intent after effect", ONE, "I8 an effect before its intent was durable"),
    ("one transactional id per worker", ONE, "I7 a transaction of an older owner became visible"),
    ("horizon not raised", OLD, TWICE_APPLIED),
    ("late Job ignored", LATE_JOB, STUCK),
    ("412 taken as a verdict", ONE, REFUSED_APPLIED),
    ("refusal on a stale cache", CREATED_TWICE, "a 404 for an aggregate that existed before the command"),
    ("entry leaves before its commit", OLD, "I6 a record was refused after a later one of its partition was applied"),
    ("load does not publish", ONE, STUCK),
    ("verdict without its outbox", ONE, STUCK),
    ("unchanged not remembered", SAME, "I1 one id, two different 2xx verdicts"),
    ("failed send not awaited", ONE, "I5 the position passed a command without its verdict"),
)


def plan() -> list[Line]:
    """The whole table."""
    lines = [Line("holds", c.name, c) for c in HOLDS]
    for c, amended, breaks in WRITTEN:
        left_out = ", ".join(sorted(ALL - amended))
        less = f", all but '{left_out}'" if left_out else ""
        name = c.name + (less if amended else ", as written")
        lines.append(Line("written", name, c._replace(amended=amended), breaks))
    return lines + [Line("bugs", bug, c._replace(bug=bug), breaks) for bug, c, breaks in BUGS]


SMALL = (FITS, SAME, MIXED)
LONG = ("unfinished set dropped", "late Job ignored", "load does not publish", "verdict without its outbox")


def small() -> list[Line]:
    """Some seconds: what holds in three configurations, every amendment left out, and the bugs that show early."""
    return [line for line in plan() if line.configuration in SMALL or (line.breaks and line.name not in LONG)]
