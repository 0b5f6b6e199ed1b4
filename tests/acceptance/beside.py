"""The command line as a black box beside a folder: how it is called, what it answers, and what it is given."""

import json
import os
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import examples
from tests.acceptance.forked import Done, Forked

WORKER = Path(sys.executable).with_name("worker")
SECONDS = 30.0
ULID = "01jd8m4k7x2v9qf3n6t0w5rbgz"
CANCEL = examples.load("evaluation.cancel")


@dataclass(frozen=True)
class Beside:
    """The command line beside what is in a folder."""

    folder: Path
    forked: Forked

    def __call__(self, *arguments: str, given: str = "", **settings: str) -> Done:
        return self.forked(arguments, self.environment | settings, given)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"WORKER_DATA_DIR": str(self.folder)}

    def each(self, *calls: Sequence[str]) -> list[Done]:
        return [self(*call) for call in calls]

    def create(self, kind: str, **fields: Any) -> str:
        done = self("create", "-", given=json.dumps({"kind": kind, **fields}))
        assert done.returncode == 0, done
        return done.stdout.strip()

    def send(self, *arguments: str) -> dict[str, Any]:
        """-> the verdict, which agrees with the exit code."""
        done = self("send", *arguments, "--wait", str(SECONDS), "--json")
        verdict: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (verdict["http_status"] >= 400), done
        return verdict

    def sql(self, statement: str, *parameters: object) -> None:
        connection = sqlite3.connect(self.folder / "worker.db", isolation_level=None, timeout=SECONDS)
        connection.execute(statement, parameters)
        connection.close()


def one_line(done: Done, code: int, said: str) -> None:
    """Nothing but one line on stderr, which begins so."""
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith(said), done.stderr
    assert done.stderr.count("\n") == 1


def rows(done: Done) -> list[dict[str, Any]]:
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def event(**changes: Any) -> str:
    whole = CANCEL.structured() | changes
    return json.dumps({name: value for name, value in whole.items() if value is not None})


def record(**changes: Any) -> str:
    """The form of the README."""
    return json.dumps({"key": CANCEL.key, "headers": CANCEL.headers, "value": CANCEL.payload} | changes)


def org(**fields: Any) -> dict[str, Any]:
    """An org of two harnesses, with `fields` for the second."""
    base = {"id": f"harness_{0:032x}", "name": "base", "system_prompt": "Be brief."}
    writer = {"id": f"harness_{1:032x}", "name": "writer", "parent_harness_id": base["id"], "system_prompt": "Write."}
    return {"org_id": "acme", "default": base["id"], "models": ["m"], "harnesses": [base, writer | fields]}
