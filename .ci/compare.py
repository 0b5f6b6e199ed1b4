"""Compares the tests that passed, per tier, with the committed minimum. Arguments: pytest's output, the minimum."""

import json
import sys
from pathlib import Path

output, minimum = (Path(name).read_text() for name in sys.argv[1:])
lines = [line for line in output.splitlines() if line.startswith("tiers-json: ")]
if not lines:
    sys.exit("no count of tests in pytest's output")
passed = json.loads(lines[-1].removeprefix("tiers-json: "))
low = [
    f"tier {t}: {passed.get(t, 0)} tests, at least {n} wanted"
    for t, n in json.loads(minimum).items()
    if passed.get(t, 0) < n
]
if low:
    sys.exit("\n".join(low))
