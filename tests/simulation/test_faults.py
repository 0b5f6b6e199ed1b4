"""The catalogue of faults, and plans of how often they come."""

from pathlib import Path

import pytest

from worker.errors import Misconfigured
from worker.simulation.faults import CATALOGUE, NO_FAULTS, Faults, Plan, read_plan


def written(folder: Path, text: str) -> Path:
    file = folder / "plan.toml"
    file.write_text(text)
    return file


def test_there_are_forty() -> None:
    assert list(CATALOGUE) == [f"F{number}" for number in range(1, 41)]


def test_a_plan_says_how_often_and_leaves_the_rest(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path, "version = 1\n[rates]\nF3 = 0.5\nF6 = 0\n"))
    assert (plan.rate("F3"), plan.rate("F6"), plan.rate("F1")) == (0.5, 0.0, CATALOGUE["F1"].rate)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 2\n", r"version: must be 1"),
        ("[rates]\nF41 = 0.1\n", r"rates.F41: no such fault; there are F1 to F40"),
        ("[rates]\nF1 = -1\n", r"rates.F1: must be"),
        ("[rates]\nF1 = nan\n", r"rates.F1: must be"),
        ("seeds = 3\n", r"seeds: "),
        ("no toml", r"no TOML"),
    ],
)
def test_a_plan_that_cannot_be_used_names_field_and_rule(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        read_plan(written(tmp_path, text))


def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nothing\.toml: No such file"):
        read_plan(tmp_path / "nothing.toml")


def test_leaving_one_fault_out_does_not_move_another() -> None:
    both, one = (Faults(Plan(rates=NO_FAULTS.rates | rates), "seed") for rates in ({"F1": 0.3, "F2": 0.3}, {"F2": 0.3}))
    drawn = []
    for faults in (both, one):
        with_first = []
        for _ in range(50):
            faults.strikes("F1")
            with_first.append(faults.strikes("F2"))
        drawn.append(with_first)
    assert drawn[0] == drawn[1]
    assert one.counts["F1"] == 0
    assert both.counts["F1"] > 0


def test_nothing_strikes_once_it_is_off() -> None:
    faults = Faults(Plan(rates={"F1": 1.0}), "seed")
    assert faults.strikes("F1")
    faults.off()
    assert not faults.strikes("F1")
    assert faults.rate("F6") == 0
