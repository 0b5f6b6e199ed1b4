"""Seeds run beside the other tests, in processes of the lowest priority: they take what CPU those leave, and are heard
of last.

How many follows from SIMULATED_SEEDS; the default is what must pass before a change lands.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

SEEDS = int(os.environ.get("SIMULATED_SEEDS", "200"))
WORKER = Path(sys.executable).with_name("worker")


class Beside:
    """`worker simulate`, started at once."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by end()
        command = ["nice", "-n", "19", str(WORKER), "simulate", "--seeds", str(SEEDS), "--seed", "0", "--json"]
        self._process = subprocess.Popen(command, stdout=self._said, start_new_session=True)

    def figures(self) -> dict[str, Any]:
        """What it says in the end; it exits with 1 where a promise broke, and says so as well."""
        self._process.wait()
        self._said.seek(0)
        return dict(json.load(self._said))

    def end(self) -> None:
        """With all its processes, whether it is done or not."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._said.close()
