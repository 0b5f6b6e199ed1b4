"""Many seeds, all faults: no promise breaks; those that ever failed run first."""

from tests.simulation.beside import SEEDS, Beside

DIFFERENT_FAULTS = 38
"""Of forty; each comes in a tenth of the seeds or more, so a thousand of them miss none but by a fault of ours."""


def test_no_promise_breaks_in_any_seed(seeds_beside: Beside) -> None:
    figures = seeds_beside.figures()
    assert figures["failed"] == []
    assert figures["records"] >= 100 * SEEDS
    assert len([count for count in figures["faults"].values() if count > 0]) >= DIFFERENT_FAULTS
