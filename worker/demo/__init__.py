"""The demo: the real worker, real things to cancel, and a check that what was promised came true.

Loads its parts only when it runs: `worker --help` stays light, and a2a-sdk is an extra.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

EXTRA = ("a2a", "uvicorn")


async def run_demo(*, json: bool, folder: Path | None = None) -> int:
    """Play the scenario and print what came of it, as tables or as one JSON object; a given folder keeps all logs.

    -> exit code: 0 all expectations held, 1 some did not (they are named), 2 the extra `demo` is not installed.
    """
    if any(find_spec(name) is None for name in EXTRA):
        sys.stderr.write("the demo needs its extra: pip install 'verdict-worker[demo]'\n")
        return 2
    from worker.demo.play import play

    return await play(json=json, folder=folder)
