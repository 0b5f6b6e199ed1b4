"""The model in short: what holds, each amendment left out, the bugs that show early.  In full: `make model`."""

import pytest

from tests.model.__main__ import chosen, main
from tests.model.checker import explore
from tests.model.configurations import GROUPS, Line, plan, small


@pytest.mark.parametrize("line", small(), ids=lambda line: f"{line.group}: {line.name}")
def test_the_protocol_keeps_its_promises_and_a_missing_rule_breaks_the_expected_one(line: Line) -> None:
    result = explore(line.configuration)
    assert result.violation == line.breaks, "\n".join(result.trace)
    assert bool(result.trace) == bool(line.breaks)


def test_the_small_table_has_lines_of_every_group_and_the_whole_one_has_45() -> None:
    assert {line.group for line in small()} == set(GROUPS)
    assert len({line.name for line in plan()}) == len(plan()) == 45


def test_a_trace_is_printed_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "intent", "after", "effect"]) == 0
    shown = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert shown[2:] == [["3", "owner: load a0"], ["4", "owner: begin c1@0"], ["5", "the step that fails"]]


@pytest.mark.parametrize("arguments", [["all"], ["trace", "no such line"], ["--small", "holds"]])
def test_what_cannot_be_understood_is_wrong_usage(arguments: list[str]) -> None:
    assert chosen(arguments) == []
    assert main(arguments) == 2
