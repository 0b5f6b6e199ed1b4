"""An agent of one release as a process of its own; starts it, ends it, knows where it listens."""

import subprocess
from pathlib import Path
from types import TracebackType

from tests.peers import environment

AGENT = Path(__file__).with_name("agent.py")


class Peer:
    """`with Peer(release, log) as url`: the agent runs until the end of the block."""

    def __init__(self, release: str, log: Path) -> None:
        self._release, self._log = release, log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [environment.python(release), AGENT],
                stdin=subprocess.PIPE,  # the agent ends when this does, so it never outlives a killed test run
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> str:
        """-> its base URL, once it listens."""
        assert self._process.stdout is not None, "it is piped"
        line = self._process.stdout.readline()
        assert line.startswith("listening on "), f"a2a-sdk {self._release}: {self._log.read_text()[-2000:]}"
        return f"http://127.0.0.1:{line.split()[-1]}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # it has nothing to save
        self._process.communicate(timeout=10)
