"""The report of one run: machine, commit, seed and figures; printed for people, written for comparison.

A figure is a number with a unit, and perhaps a goal.  Nothing fails because of one: a goal is met or missed.
"""

# ruff: noqa: T201  # a benchmark prints

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """`goal` None: there is none; otherwise the value is at most that, or at least, where `more_is_better`."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    more_is_better: bool = False

    @property
    def said(self) -> str:
        """Whether the goal is met, in words."""
        if self.goal is None:
            return ""
        met = self.value >= self.goal if self.more_is_better else self.value <= self.goal
        return f"goal {self.goal:g}: {'met' if met else 'missed'}"


class Report:
    """Figures in the order in which they were measured."""

    def __init__(self, root: Path, seed: int) -> None:
        self.seed = seed
        self.commit = _git(root, "rev-parse", "--short=12", "HEAD") or "unknown"
        self.changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
        self.machine = {
            "cores": len(os.sched_getaffinity(0)),
            "cpu": _cpu(),
            "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
            "kernel": platform.release(),
            "python": platform.python_version(),
            "load": round(os.getloadavg()[0], 2),  # of the last minute, before this run
        }
        self.figures: list[Figure] = []

    def add(
        self, name: str, value: float, unit: str, goal: float | None = None, *, more_is_better: bool = False
    ) -> None:
        """Takes a figure down; the value is kept to four digits."""
        figure = Figure(name, float(f"{value:.4g}"), unit, goal, more_is_better)
        self.figures.append(figure)
        print(_line(figure), flush=True)

    def value(self, name: str) -> float:
        """A figure of this run.  Raises KeyError where it was not measured."""
        return {figure.name: figure.value for figure in self.figures}[name]

    def header(self) -> str:
        """One line: where and what."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        changed = " with changes" if self.changed else ""
        return f"\n{machine}; commit {self.commit}{changed}; seed {self.seed}"

    def table(self) -> str:
        """Everything, a line a figure."""
        return "\n".join((self.header(), *map(_line, self.figures)))

    def write(self, path: Path) -> None:
        """As JSON: keys sorted, so that two files can be compared line by line."""
        whole = {
            "commit": self.commit,
            "changed": self.changed,
            "seed": self.seed,
            "machine": self.machine,
            "figures": {figure.name: asdict(figure) for figure in self.figures},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")


@contextmanager
def reporting(root: Path, suffix: str = "") -> Iterator[Report]:
    """Collects figures; at the end they are printed, and written to `BENCH_FILE` (.bench/<commit><suffix>.json)."""
    report = Report(root, seed=int(os.environ.get("BENCH_SEED", "1")))
    print(report.header())
    yield report
    path = Path(os.environ.get("BENCH_FILE") or root / ".bench" / f"{report.commit}{suffix}.json")
    report.write(path)
    print(f"\n{report.table()}\nwritten to {path}")


def _line(figure: Figure) -> str:
    return f"{figure.name:72}{figure.value:>12,.4g} {figure.unit:16}{figure.said}".rstrip()


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
