"""The command line of the model.

    python -m tests.model                    everything, about 5 minutes and 1 GB on one core
    python -m tests.model holds              the protocol as it is; also `written` and `bugs`
    python -m tests.model trace intent after effect      one line of the table with its trace
    python -m tests.model --small            some seconds, for CI

Exit codes: 0 all as expected, 1 not, 2 wrong usage.
"""

# ruff: noqa: T201  # the command line prints

import sys
import time

from tests.model.checker import Result, explore
from tests.model.configurations import GROUPS, Line, plan, small


def main(arguments: list[str]) -> int:
    """Explores what was asked for, and prints a line for each; -> exit code."""
    lines = chosen(arguments)
    if not lines:
        print(__doc__, file=sys.stderr)
        return 2
    wrong, began = 0, time.perf_counter()
    for line in lines:
        result = explore(line.configuration)
        expected = as_expected(line, result)
        wrong += not expected
        print(described(line, result), flush=True)
        if result.violation and (line.group == "written" or arguments[:1] == ["trace"] or not expected):
            print(*(f"        {i:2} {label}" for i, label in enumerate(result.trace, start=1)), sep="\n", flush=True)
    print(f"{time.perf_counter() - began:.0f} s in all, {wrong} not as expected")
    return 1 if wrong else 0


def chosen(arguments: list[str]) -> list[Line]:
    """The lines that the arguments ask for; none: they cannot be understood."""
    match arguments:
        case []:
            return plan()
        case ["--small"]:
            return small()
        case [group] if group in GROUPS:
            return [line for line in plan() if line.group == group]
        case ["trace", *words]:
            return [line for line in plan() if line.name == " ".join(words)]
        case _:
            return []


def as_expected(line: Line, result: Result) -> bool:
    """Whether that which must hold does, and that which must not breaks what it is known to break."""
    return result.violation == line.breaks


def described(line: Line, result: Result) -> str:
    """One line of the table."""
    what = f"{result.violation}, {len(result.trace)} steps" if result.violation else "holds"
    size = f"{result.states:>9} states {result.steps:>9} steps {result.seconds:6.1f} s"
    return f"{'ok   ' if as_expected(line, result) else 'WRONG'} {line.group:8}{line.name:58}{size}  {what}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
