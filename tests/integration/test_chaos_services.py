"""Chaos on real servers, small: every fault at least twice while work is in flight, and the checker finds nothing.

A process of its own with servers of its own, since it kills them; the fixtures say that their images are needed.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SEED = 5
SECONDS_MAX = 300
"""For a machine that does other things meanwhile; alone it takes less than two minutes."""


@pytest.mark.usefixtures("kafka", "s3", "kubernetes")
def test_through_every_fault_of_workers_servers_and_connections_the_workers_keep_every_promise() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--small", "--seed", str(SEED)]
    ran = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
