"""What came of the demo, for people as tables while it goes on, or as one JSON object at the end."""

import json as json_text
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from schemas.codes import CODES
from schemas.receipts import Receipt
from worker.demo.judging import Answer, Check
from worker.demo.step import Expected, Scene

PLAIN_WIDTH = 150
"""Columns where the output is no terminal, so that no line of a log is folded in the middle of a word."""
WIDE = {"command": 8, "promised": 6, "verdict": 6, "receipt": 9}
"""Columns of a scene's table, and their share of the width."""
NARROW = {"command and verdict": 10, "receipt": 11}
"""The same where there is not the room: the verdict stands below its command, and what was promised is left out."""
WIDE_COLUMNS_MIN = 140
MARKS = {True: "[green]✓[/]", False: "[bold red]✗[/]"}


class Report:
    """Collects answers and checks; `close` prints the end and gives the exit code."""

    def __init__(self, run: str, *, json: bool) -> None:
        self._run, self._json = run, json
        self._console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, quiet=json)
        self._answers: list[Answer] = []
        self._checks: list[Check] = []
        self.seconds = 0.0

    @property
    def failures(self) -> list[str]:
        """What did not hold, a line each."""
        missed = [
            f"{a.step.type} {a.step.target} ({a.step.story}): {'; '.join(a.amiss)}" for a in self._answers if a.amiss
        ]
        return missed + [f"{check.name}: {check.seen}" for check in self._checks if not check.holds]

    def say(self, text: str) -> None:
        """Narrate."""
        self._console.print(f"[dim]· {text}[/]")

    def scene(self, scene: Scene, answers: Sequence[Answer]) -> None:
        """One table of verdicts and receipts."""
        self._answers += answers
        table = Table(title=scene.title, title_justify="left", title_style="bold", expand=True)
        wide = self._console.width >= WIDE_COLUMNS_MIN
        for column, ratio in (WIDE if wide else NARROW).items():
            table.add_column(column, ratio=ratio, overflow="fold")
        table.add_column("", width=1)
        for answer in answers:
            command, promised, verdict, receipt, mark = _row(answer)
            cells = (command, promised, verdict) if wide else (f"{command}\n{verdict}",)
            table.add_row(*cells, receipt, mark)
        self._console.print(table)

    def check(self, check: Check) -> None:
        """One line of what must hold in the end."""
        self._checks.append(check)
        self._console.print(f"{MARKS[check.holds]} {check.name}: {check.seen}")

    def close(self) -> int:
        """-> exit code: 0 everything held, 1 something did not, which is named."""
        if self._json:
            sys.stdout.write(json_text.dumps(self._whole()) + "\n")
        for failure in self.failures:
            self._console.print(f"[bold red]failed:[/] {escape(failure)}")
        held = sum(not answer.amiss for answer in self._answers)
        self.say(f"{held} of {len(self._answers)} verdicts as promised, in {self.seconds:.1f} s")
        return 1 if self.failures else 0

    def _whole(self) -> dict[str, Any]:
        return {
            "ok": not self.failures,
            "run": self._run,
            "seconds": round(self.seconds, 3),
            "failures": self.failures,
            "commands": [_command(answer) for answer in self._answers],
            "checks": [{"name": c.name, "holds": c.holds, "seen": c.seen} for c in self._checks],
        }


def _row(answer: Answer) -> tuple[str, str, str, str, str]:
    step, verdict = answer.step, answer.verdict
    evidence = (
        [*_evidence(verdict.receipt), *(f"would {escape(effect)}" for effect in verdict.would)] if verdict else []
    )
    return (
        f"{step.type} [cyan]{step.target}[/]\n[dim]{step.story}[/]",
        _promise(step.expected),
        _head(verdict.code, verdict.http_status, verdict.outcome, dry_run=verdict.dry_run) + _status(answer)
        if verdict
        else "none",
        "\n".join([*evidence, *(f"[red]{escape(line)}[/]" for line in answer.amiss)]),
        MARKS[not answer.amiss],
    )


def _head(code: str, http_status: int, outcome: str, *, dry_run: bool) -> str:
    return f"{code} ({http_status}, {outcome}{', dry run' if dry_run else ''})"


def _promise(expected: Expected) -> str:
    words = [
        _head(expected.code, expected.http_status, CODES[expected.code].outcome, dry_run=expected.would),
        expected.evidence or "",
        "same bytes" if expected.same_bytes else "",
    ]
    return ", ".join(word for word in words if word)


def _status(answer: Answer) -> str:
    about = answer.verdict.aggregate if answer.verdict else None
    if about is None:
        return ""
    return f"\n[dim]{about.status_before} → {about.status_after}, v{about.version}[/]"


def _evidence(receipt: Receipt | None) -> list[str]:
    """The receipt in few words: evidence, and what was done to what."""
    if receipt is None:
        return []
    lines = [f"[bold]{receipt.evidence}[/]"]
    for resource in receipt.resources:
        words = [escape(f"{resource.kind} {resource.name}")]
        if resource.pods:
            words.append(f"{len(resource.pods)} process{'es' * (len(resource.pods) > 1)}")
        if resource.escalations:
            words.append(f"{len(resource.escalations)} killed")
        if resource.asked_at and resource.gone_at:
            words.append(f"gone after {(resource.gone_at - resource.asked_at).total_seconds():.1f} s")
        lines.append(", ".join(words))
    if receipt.objects_removed:
        lines.append(f"{receipt.objects_removed} objects removed")
    return lines


def _command(answer: Answer) -> dict[str, Any]:
    step = answer.step
    return {
        "id": answer.command_id,
        "type": step.type,
        "target": step.target,
        "story": step.story,
        "expected": {"http_status": step.expected.http_status, "code": step.expected.code},
        "as_promised": not answer.amiss,
        "amiss": answer.amiss,
        "verdict": answer.verdict.model_dump(mode="json", exclude_none=True) if answer.verdict else None,
    }
