"""What the demo prints: a table keeps to the width that there is, and one answer reads the same in both layouts."""

import io
import re
from contextlib import redirect_stdout

import pytest

from schemas import examples
from schemas.verdicts import Verdict
from worker.demo.judging import Answer
from worker.demo.report import Report
from worker.demo.scenario import SCENES

COLOURS = re.compile("\x1b\\[[0-9;]*m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 139, 140, 200])
def test_a_scene_fits_the_terminal_with_every_word_whole(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    verdict = Verdict.model_validate(examples.load("verdict.cancelled").payload)
    with redirect_stdout(Terminal()) as terminal:
        report = Report("run-1", json=False)
        report.scene(SCENES[0], [Answer(step, "c1", (0, 0), verdict, ()) for step in SCENES[0].steps])
    lines = COLOURS.sub("", terminal.getvalue()).splitlines()
    assert {len(line) for line in lines if line.startswith("│")} == {columns}
    assert max(map(len, lines)) <= columns
    assert sum("cancelled (200, applied)" in line for line in lines) == len(SCENES[0].steps)
    assert sum("promised" in line for line in lines) == (columns >= 140)
