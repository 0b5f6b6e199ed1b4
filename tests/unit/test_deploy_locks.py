"""The image's locks are parts of the one lock: the same releases, under the same hashes."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pins(path: Path) -> dict[str, set[str]]:
    """Release, with its marker -> hashes."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return {line.split(" --hash=")[0].strip(): set(re.findall(r"--hash=(\S+)", line)) for line in lines if "==" in line}


@pytest.mark.parametrize(("name", "needed"), [("run", "aiokafka"), ("build", "hatchling")])
def test_releases_are_those_that_the_tests_ran_with(name: str, needed: str) -> None:
    whole, part = pins(ROOT / "requirements.lock"), pins(ROOT / f"deploy/locks/{name}.lock")
    assert any(release.startswith(f"{needed}==") for release in part)
    assert all(part.values())
    assert part.items() <= whole.items()
