"""What the package promises to those who install it, read from the committed files."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()


def test_the_wheel_holds_both_packages_and_the_command() -> None:
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["worker", "schemas"]
    assert PROJECT["project"]["scripts"] == {"worker": "worker.cli:main"}


def test_every_dependency_is_locked() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(name for extra in extras for name in extra)]
    locked = {name.replace("_", "-") for name in re.findall(r"^([a-z0-9_.-]+)(?:\[[^\]]*\])?==", LOCK, re.MULTILINE)}
    names = {re.split(r"[<>=\[]", name)[0].replace("_", "-") for name in wanted}
    assert names <= locked


def test_every_locked_release_has_hashes_and_names_no_host() -> None:
    releases = re.findall(r"^[a-z0-9_.\[\],-]+==.*$", LOCK, re.MULTILINE)
    assert releases
    assert all(release.endswith("\\") for release in releases)
    assert "://" not in LOCK
