"""Log lines: whoever writes them, on a machine each is one JSON object."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import logging
from worker.telemetry import logs

logs.configure("json")
{write}
"""


def written(write: str) -> list[dict[str, object]]:
    """What a process writes that has configured its logs, line by line."""
    command = [sys.executable, "-c", SCRIPT.format(write=write)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("level", ["warning", "error"])
def test_what_a_library_says_is_a_line_like_any_other(level: str) -> None:
    [line] = written(f"logging.getLogger('aiokafka').{level}('broker %s is away', 7)")
    assert line.pop("timestamp")
    assert line == {
        "event": "library.message",
        "level": level,
        "library": "aiokafka",
        "message": "broker 7 is away",
    }


def test_what_a_library_says_below_a_warning_is_not_written() -> None:
    assert written("logging.getLogger('aiokafka').info('heartbeat')") == []


def test_an_error_comes_with_its_traceback() -> None:
    [line] = written(
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.getLogger('aiokafka').exception('it broke')"
    )
    assert "ZeroDivisionError" in str(line["exception"])


def test_arguments_that_do_not_fit_do_no_harm() -> None:
    [line] = written("logging.getLogger('aiokafka').warning('%d of %d', 'one')")
    assert line["message"] == "%d of %d"


def test_what_is_said_again_at_once_is_only_counted() -> None:
    again = "for number in range(50): logging.getLogger('aiokafka').warning('no node %d', number)"
    [line] = written(again)
    assert line["message"] == "no node 0"
    later = "import time\nlogs.REPEATED_SECONDS = 0.2\n" + again
    first, second = written(f"{later}\ntime.sleep(0.3)\nlogging.getLogger('aiokafka').warning('no node %d', 50)")
    assert (first["message"], second["message"], second["repeated"]) == ("no node 0", "no node 50", 49)


@pytest.mark.parametrize("arguments", ["'%(a)s', {'b': 1}", "'%s', Broken()"])
def test_nothing_is_raised_into_a_library(arguments: str) -> None:
    broken = "class Broken:\n    def __str__(self): raise RuntimeError\n"
    [line] = written(f"{broken}logging.getLogger('aiokafka').warning({arguments})")
    assert line["message"] in ("%(a)s", "%s")
