"""The lifecycles, as tables: nothing else in this project changes a status.

Rules
- A table is total: every status has a cell for every trigger, terminal statuses included.
- A cell is the status that follows, or one of three words: SAME (nothing to change), SUPERSEDED (recorded, and does
  not win), ILLEGAL (refused).
- No cell of a terminal status holds a status: nothing leaves `cancelled`, `succeeded`, `failed`.
- From `cancelling` only evidence leads on: `stopped`, or proof that it had finished before.
- The diagrams of the README are drawn from these tables.
"""

from enum import StrEnum
from typing import Final

from schemas.status import HarnessStatus, SessionStatus, Status


class Cell(StrEnum):
    """What a table says where no arrow is."""

    SAME = "same"
    SUPERSEDED = "superseded"
    ILLEGAL = "illegal"


class Trigger(StrEnum):
    """What can happen to a workflow or a turn."""

    REPORTED_CREATED = "reported created"
    REPORTED_STARTING = "reported starting"
    REPORTED_RUNNING = "reported running"
    REPORTED_CANCELLING = "reported cancelling"
    REPORTED_CANCELLED = "reported cancelled"
    REPORTED_SUCCEEDED = "reported succeeded"
    REPORTED_FAILED = "reported failed"
    CANCEL = "cancel"
    CANCEL_WITHOUT_TASK = "cancel without a task"
    STOPPED = "seen stopped"
    PROVED_SUCCEEDED = "had succeeded before"
    PROVED_FAILED = "had failed before"


REPORTED: Final = {status: Trigger(f"reported {status.value}") for status in Status}
PROVED: Final = {"succeeded": Trigger.PROVED_SUCCEEDED, "failed": Trigger.PROVED_FAILED}

Table = dict[Status, dict[Trigger, Status | Cell]]

_COLUMNS = tuple(Trigger)
_WORDS: dict[str, Status | Cell] = {
    ".": Cell.SAME,
    "~": Cell.SUPERSEDED,
    "x": Cell.ILLEGAL,
    "str": Status.STARTING,
    "run": Status.RUNNING,
    "cng": Status.CANCELLING,
    "can": Status.CANCELLED,
    "suc": Status.SUCCEEDED,
    "fai": Status.FAILED,
}


def _table(rows: dict[Status, str]) -> Table:
    return {
        status: dict(zip(_COLUMNS, (_WORDS[word] for word in row.split()), strict=True)) for status, row in rows.items()
    }


# fmt: off
WORKFLOW: Final = _table({
    #                   reported:                           | cancel        | evidence
    #                   cre str run cng can suc fai         | with  without | stop suc fai
    Status.CREATED:    " .  str run  x  can suc fai           cng   can        x    x   x  ",
    Status.STARTING:   " x   .  run  x  can suc fai           cng   can        x    x   x  ",
    Status.RUNNING:    " x   x   .   x  can suc fai           cng   can        x    x   x  ",
    Status.CANCELLING: " x   x   x   .   ~   ~   ~             .     .        can  suc fai ",
    Status.CANCELLED:  " x   x   x   x   .   ~   ~             x     x         .    .   .  ",
    Status.SUCCEEDED:  " x   x   x   x   ~   .   ~             x     x         .    .   .  ",
    Status.FAILED:     " x   x   x   x   ~   ~   .             x     x         .    .   .  ",
})
"""Of a workflow.  A reported `cancelled` is an arrow only where nothing was recorded that could still run."""

TURN: Final = _table({
    #                   reported:                           | cancel        | evidence
    #                   cre str run cng can suc fai         | with  without | stop suc fai
    Status.CREATED:    " .  str run  x  can suc fai           cng    x         x    x   x  ",
    Status.STARTING:   " x   .  run  x  can suc fai           cng    x         x    x   x  ",
    Status.RUNNING:    " x   x   .   x  can suc fai           cng    x         x    x   x  ",
    Status.CANCELLING: " x   x   x   .  can  ~   ~             .     x        can  suc fai ",
    Status.CANCELLED:  " x   x   x   x   .   ~   ~             .     x         .    .   .  ",
    Status.SUCCEEDED:  " x   x   x   x   ~   .   ~             .     x         .    .   .  ",
    Status.FAILED:     " x   x   x   x   ~   ~   .             .     x         .    .   .  ",
})
"""Of a turn.  Its executor's `cancelled` is proof."""
# fmt: on

SESSION: Final = {
    before: {
        after: Cell.SAME if after == before else after if before == SessionStatus.OPEN else Cell.ILLEGAL
        for after in SessionStatus
    }
    for before in SessionStatus
}
"""Of a session, by reported status: open leads to each other one, and there is no way back."""

HARNESS: Final = {
    HarnessStatus.ACTIVE: (HarnessStatus.ARCHIVED,),
    HarnessStatus.ARCHIVED: (HarnessStatus.DELETED,),
    HarnessStatus.DELETED: (),
}
"""Of a harness: one way."""
