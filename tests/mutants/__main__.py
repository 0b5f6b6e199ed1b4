"""Apply each patch to a copy of the tree, run the tests that it names: they must fail.  `make mutants [NAMES]`.

A patch opens with lines `must:`, `breaks:` and `tests:` (one or more, as pytest takes them); the diff follows.  A
mutant that survives, a patch that does not apply, a must that no patch breaks and a test that fails without any patch
are all errors.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MUSTS = range(1, 12)
TIMEOUT_SECONDS = 120
TIMEOUT_OF_ALL_SECONDS = 1200
"""Of the tests of all mutants together, once, without any."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One patch."""

    name: str
    must: int
    breaks: str
    tests: tuple[str, ...]
    path: Path


def mutants() -> list[Mutant]:
    """All patches, in the order of their names."""
    return [_read(path) for path in sorted(HERE.glob("*.patch"))]


def _read(path: Path) -> Mutant:
    head = path.read_text().split("\n--- ", 1)[0].splitlines()
    fields = [line.partition(": ")[::2] for line in head if ": " in line]
    tests = tuple(value for name, value in fields if name == "tests")
    single = dict(fields)
    if not tests or "must" not in single or "breaks" not in single:
        raise SystemExit(f"{path.name}: must open with must:, breaks: and tests:")
    return Mutant(path.stem, int(single["must"]), single["breaks"], tests, path)


def _files() -> Iterator[str]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    output = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout
    yield from (name for name in output.decode().split("\0") if name and (ROOT / name).is_file())


def copy(to: Path) -> None:
    """The tree as git sees it, uncommitted changes included."""
    for name in _files():
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


def run(tree: Path, tests: tuple[str, ...], timeout_seconds: int = TIMEOUT_SECONDS) -> tuple[int, str]:
    """-> (pytest's exit code, the end of its output), with this tree's packages first on the path."""
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(tree), *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "the tests did not end"
    return done.returncode, done.stdout[-2000:] + done.stderr[-2000:]


def judge(mutant: Mutant) -> tuple[bool, str, float]:
    """-> (found, what happened, seconds)."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder)
        copy(tree)
        apply = ["git", "apply", "--recount", "-C1", str(mutant.path)]
        applied = subprocess.run(apply, cwd=tree, capture_output=True, text=True, check=False)
        if applied.returncode:
            return False, f"the patch does not apply: {applied.stderr.strip()}", time.monotonic() - started
        code, output = run(tree, mutant.tests)
    seconds = time.monotonic() - started
    if code == 1:
        return True, "found", seconds
    return False, "SURVIVED" if code == 0 else f"pytest ended with {code}: {output}", seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="patches to try; none: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    chosen = [m for m in mutants() if not arguments.names or m.name in arguments.names]
    if unknown := [name for name in arguments.names if all(name != mutant.name for mutant in chosen)]:
        parser.error(f"no such patch: {', '.join(unknown)}")
    if not arguments.names and (whole := [n for n in MUSTS if all(n != mutant.must for mutant in chosen)]):
        parser.error(f"nothing breaks must {whole[0]}")
    tests = tuple(dict.fromkeys(test for mutant in chosen for test in mutant.tests))
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy(Path(folder))
        code, output = run(Path(folder), tests, TIMEOUT_OF_ALL_SECONDS)
    if code:
        print(f"the tests fail without any mutant:\n{output}")
        return 1
    missed = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutant, (found, said, seconds) in zip(chosen, pool.map(judge, chosen), strict=True):
            missed += not found
            line = f"must {mutant.must:>2}  {mutant.name:42} {said:10} {seconds:5.1f} s  {mutant.breaks}"
            print(line, flush=True)
    print(f"{len(chosen)} mutants, {missed} not found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
