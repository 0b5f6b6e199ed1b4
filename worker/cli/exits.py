"""Exit codes, and the way from a coroutine to one of them: every error that is foreseen is one line on stderr.

Knows nothing of what the commands do; loads the worker's errors only once something runs.
"""

import sys
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any, NoReturn

import typer


class Exit(IntEnum):
    """What a command ends with."""

    DONE = 0
    NO = 1
    WRONG = 2
    LATE = 3
    INTERRUPTED = 130


MEANING = {
    Exit.DONE: "done; of a verdict: 2xx",
    Exit.NO: "the answer is no: a 4xx or 5xx verdict, not found, exists already, a part of the worker has failed",
    Exit.WRONG: "wrong usage, setting or input, or a service that cannot be reached (`worker run` waits): "
    "one line on stderr names it",
    Exit.LATE: "no verdict in time; the command stays published, and is answered later",
    Exit.INTERRUPTED: "interrupted, such as `--follow` by Ctrl-C",
}


class Wrong(Exception):
    """What the user gave cannot be used; the message names it in one line."""


def run(work: Coroutine[Any, Any, Exit]) -> NoReturn:
    """Run to the end and leave with its code.  A bug keeps its traceback, as nothing else does."""
    import asyncio
    import logging

    from worker.errors import WorkerError

    if logging.lastResort:  # libraries complain on their own; what asyncio says there is of bugs
        logging.lastResort.addFilter(lambda record: record.name == "asyncio")
    try:
        code = asyncio.run(work)
    except (WorkerError, Wrong) as error:
        complain(str(error))
        code = Exit.WRONG
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    raise typer.Exit(code)


def complain(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(" ".join(text.split()) + "\n")


def table() -> str:
    """The codes as a Markdown table."""
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANING.items()]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows])
