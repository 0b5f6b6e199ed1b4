"""The process table, read independently of the product: who carries the demo's marker in its environment.

It must not use the product's own scan: it is the witness that the product is checked by.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

RUN_MARKER = "VERDICT_DEMO_RUN"
"""Environment variable that every process of one demo inherits; its value is the run's id."""
THING_MARKER = "VERDICT_DEMO_THING"
"""Environment variable of what can be cancelled; its value is the thing's name."""


def census(run: str) -> dict[str, list[int]]:
    """Live processes of this run: pids by the thing that they belong to ("": to none); an unreaped zombie is gone."""
    found: dict[str, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (markers := _markers(folder)) and markers.get(RUN_MARKER) == run:
            found.setdefault(markers.get(THING_MARKER, ""), []).append(int(folder.name))
    return {thing: sorted(pids) for thing, pids in found.items()}


def _markers(folder: Path) -> dict[str, str]:
    """The environment that a process was started with; empty where it is gone, or another user's."""
    try:
        environment = (folder / "environ").read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    return dict(pair.partition("=")[::2] for pair in environment.split("\0"))


async def kill_all(run: str) -> None:
    """SIGKILL for whatever of this run is left, again and again until nothing is: a process may have been forking."""
    while pids := [pid for pids in census(run).values() for pid in pids]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.02)
