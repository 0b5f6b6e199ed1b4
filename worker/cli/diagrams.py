"""Mermaid diagrams of the lifecycles, drawn from the tables in worker/domain/lifecycle.py.  Pure.

An arrow stands for every trigger that leads from one status to another, and is labelled with all of them; what changes
nothing, or does not win, has no arrow.
"""

from collections.abc import Iterable, Iterator, Mapping

from schemas.status import HarnessStatus, SessionStatus, Status
from worker.domain.lifecycle import HARNESS, SESSION, TURN, WORKFLOW, Table, Trigger

Arrow = tuple[str, str, str]
"""Status before, status after, trigger; an empty trigger is not labelled."""


def diagrams() -> dict[str, str]:
    """-> {lifecycle: Mermaid text}."""
    return {
        "workflow": _drawn(Status.CREATED, _of_workflow()),
        "turn": _drawn(Status.CREATED, _of_table(TURN)),
        "session": _drawn(SessionStatus.OPEN, _of_session()),
        "harness": _drawn(HarnessStatus.ACTIVE, _of_harness()),
    }


def _of_table(table: Table) -> list[Arrow]:
    return [
        (before.value, cell.value, trigger.value)
        for before, row in table.items()
        for trigger, cell in row.items()
        if isinstance(cell, Status)
    ]


def _of_workflow() -> Iterator[Arrow]:
    """What is recorded could still run: there, a reported `cancelled` only starts the teardown, as a cancel does."""
    for before, after, trigger in _of_table(WORKFLOW):
        stops_nothing = trigger == Trigger.REPORTED_CANCELLED
        yield before, after, f"{trigger}, nothing to stop" if stops_nothing else trigger
        if trigger == Trigger.CANCEL:
            yield before, after, Trigger.REPORTED_CANCELLED.value


def _of_session() -> list[Arrow]:
    return [
        (before.value, cell.value, f"reported {after.value}")
        for before, row in SESSION.items()
        for after, cell in row.items()
        if isinstance(cell, SessionStatus)
    ]


def _of_harness() -> list[Arrow]:
    return [(before.value, after.value, "") for before, nexts in HARNESS.items() for after in nexts]


def _drawn(first: str, arrows: Iterable[Arrow]) -> str:
    labels: dict[tuple[str, str], list[str]] = {}
    for before, after, trigger in arrows:
        labels.setdefault((before, after), []).append(trigger)
    lines = [f"    {before} --> {after}{_label(triggers)}" for (before, after), triggers in labels.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {first}", *lines, *_ends(labels)])


def _label(triggers: list[str]) -> str:
    named = [trigger for trigger in triggers if trigger]
    return f": {', '.join(named)}" if named else ""


def _ends(labels: Mapping[tuple[str, str], object]) -> list[str]:
    """Where nothing leads on, the lifecycle ends."""
    before, after = {pair[0] for pair in labels}, dict.fromkeys(pair[1] for pair in labels)
    return [f"    {status} --> [*]" for status in after if status not in before]
