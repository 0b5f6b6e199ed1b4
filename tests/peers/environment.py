"""A virtual environment per a2a-sdk release, built once per machine, outside of the tree.

Knows pip and folders, and nothing of agents.  Each release has a pinned and hashed list beside this file.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
RELEASES = ("0.2.16", "0.3.26", "1.3.0")
"""One release of the official SDK for each dialect: 0.2, 0.3 and 1.0."""


def python(release: str) -> Path:
    """The interpreter of an environment with this release; built first where this machine has none yet.

    Raises subprocess.CalledProcessError where pip fails, with what it said on standard error.
    """
    folder = _folder(release)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _build(_requirements(release), folder)
    return folder / "bin" / "python"


def _requirements(release: str) -> Path:
    return HERE / f"requirements-{release}.txt"


def _folder(release: str) -> Path:
    """Named for all that it is made from: the list, and the interpreter that it links to."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made_from = _requirements(release).read_bytes() + f"{sys.version}{sys.base_prefix}".encode()
    return cache / "verdict-worker" / "peers" / f"{release}-{hashlib.sha256(made_from).hexdigest()[:16]}"


def _build(requirements: Path, folder: Path) -> None:
    """Under a temporary name, then renamed: another process sees all of it or nothing."""
    building = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        venv.create(building, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(building / "bin" / "python"), "install", "--quiet"]
        subprocess.run([*pip, "--require-hashes", "--requirement", str(requirements)], check=True)
        building.rename(folder)
    except OSError:
        if not folder.exists():  # it does where another process was faster: theirs is as good as ours
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
