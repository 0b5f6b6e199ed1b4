"""The command `worker`, loaded once: every call is a process of its own, forked from one that has imported it all.

A call has its own arguments, environment, standard streams and exit code, and runs the entry point as the installed
script does; what it saves is a second of imports.  `python forked.py` is the process that is forked: a JSON object a
line on standard input, `{"arguments", "environment", "given"}`, is one call, and is answered by one on standard output.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from types import TracebackType
from typing import IO, Any

LOADED = ("bootstrap", "cli.checking", "cli.creating", "cli.reading", "cli.sending", "cli.serving", "cli.showing")
SECONDS_MAX = 60
"""A call that takes longer is killed by its alarm."""
Done = subprocess.CompletedProcess[str]


class Forked:
    """A context manager; one call at a time."""

    def __enter__(self) -> "Forked":
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=SECONDS_MAX)

    def __call__(self, arguments: Sequence[str], environment: dict[str, str], given: str = "") -> Done:
        assert self._process.stdin is not None, "it is piped"
        assert self._process.stdout is not None, "it is piped"
        call = {"arguments": ["worker", *arguments], "environment": environment, "given": given}
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Done(list(arguments), answer["code"], answer["stdout"], answer["stderr"])


def serve() -> None:
    """Answer calls until standard input ends."""
    for name in LOADED:
        import_module(f"worker.{name}")
    for line in sys.stdin:
        call = json.loads(line)
        with ExitStack() as opened:
            streams = [opened.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            streams[0].write(call["given"])
            streams[0].seek(0)
            if (pid := os.fork()) == 0:
                _child(call, streams)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            out, err = (_whole(stream) for stream in streams[1:])
        sys.stdout.write(json.dumps({"code": code, "stdout": out, "stderr": err}) + "\n")
        sys.stdout.flush()


def _whole(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()


def _child(call: dict[str, Any], streams: Sequence[IO[str]]) -> None:
    """The call itself; never returns."""
    from worker.cli import main

    code = 1
    try:
        signal.alarm(SECONDS_MAX)
        for number, stream in enumerate(streams):
            os.dup2(stream.fileno(), number)
        os.environ.clear()
        os.environ.update(call["environment"])
        sys.argv = call["arguments"]
        sys.stdin = os.fdopen(0)
        main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0
    finally:
        if bug := sys.exc_info()[1]:
            traceback.print_exception(bug)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
