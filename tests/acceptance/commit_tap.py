"""Starts the real `worker` with a tap on its database: it says when a transaction that moves positions is under way.

Run as `python commit_tap.py DESCRIPTOR run`.  Once a position is updated in a transaction, `( partition:offset` is
written to the descriptor, a pipe; once SQLite has returned from the COMMIT, `)`.  Whoever kills the worker and finds
no `)` after the last `(` has killed it inside a commit.  The product has no such hook and behaves as it always does:
it is this file that wraps the connection.
"""

import os
import sqlite3
import sys
from functools import partial
from typing import Any

from worker.cli import main

MOVES_A_POSITION = 'UPDATE positions SET "offset"'


class Tapped(sqlite3.Connection):
    """A connection that says which positions are being committed."""

    def __init__(self, *arguments: Any, descriptor: int, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._descriptor, self._moving = descriptor, False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        done = super().execute(sql, parameters)
        if sql.startswith(MOVES_A_POSITION):
            offset, _, partition, _ = parameters
            self._moving = True
            os.write(self._descriptor, f"( {partition}:{offset}\n".encode())
        elif self._moving and sql in ("COMMIT", "ROLLBACK"):
            self._moving = False
            os.write(self._descriptor, b")\n")
        return done


if __name__ == "__main__":
    tapped = partial(Tapped, descriptor=int(sys.argv.pop(1)))
    sqlite3.connect = partial(sqlite3.connect, factory=tapped)  # type: ignore[assignment]  # the same, with a factory
    sys.argv[0] = "worker"
    main()
