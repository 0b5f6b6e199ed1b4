"""Every tier that this machine can run, in two halves at once: `python -m tests`, which `make test` calls.

The integration tier waits for servers most of its time; the others compute meanwhile.  Exit code 0 only where both
halves pass; the last lines hold the count of both, per tier and in all.
"""

# ruff: noqa: T201  # the command line prints

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import IO

HALVES = (("tests/unit", "tests/contract", "tests/simulation", "tests/acceptance"), ("tests/integration",))
COUNT = "tiers-json: "


def main() -> int:
    """The second half's output follows the first's."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as kept:
        waiting = subprocess.Popen(_command(HALVES[1]), stdout=kept, stderr=subprocess.STDOUT, text=True)
        try:
            computing = subprocess.Popen(
                _command(HALVES[0]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            counts = _shown(computing.stdout)
            codes = (computing.wait(), waiting.wait())
        except BaseException:
            waiting.terminate()
            waiting.wait()
            raise
        kept.seek(0)
        counts += _shown(kept)
    print(COUNT + json.dumps(counts))
    print(f"{sum(counts.values())} passed in both halves, in {time.monotonic() - began:.2f}s")
    return max(codes)


def _command(half: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "pytest", *half]


def _shown(output: IO[str] | None) -> Counter[str]:
    """Prints it as it comes; -> the tests that passed, per tier."""
    counts: Counter[str] = Counter()
    assert output is not None, "it was asked for"
    for line in output:
        print(line, end="", flush=True)
        if line.startswith(COUNT):
            counts.update(json.loads(line.removeprefix(COUNT)))
    return counts


if __name__ == "__main__":
    sys.exit(main())
