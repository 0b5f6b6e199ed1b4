"""The tables are total, terminal statuses absorb, and each arrow is taken by a decider (the product of both)."""

import pytest

from schemas.status import TERMINAL, Status
from worker.domain.lifecycle import TURN, WORKFLOW, Cell, Table, Trigger


@pytest.mark.parametrize("table", [WORKFLOW, TURN], ids=["workflow", "turn"])
def test_a_table_has_a_cell_for_every_status_and_trigger(table: Table) -> None:
    assert {status: set(row) for status, row in table.items()} == {status: set(Trigger) for status in Status}


@pytest.mark.parametrize("table", [WORKFLOW, TURN], ids=["workflow", "turn"])
def test_nothing_leaves_a_terminal_status(table: Table) -> None:
    assert all(isinstance(cell, Cell) for status in TERMINAL for cell in table[status].values())


@pytest.mark.parametrize("table", [WORKFLOW, TURN], ids=["workflow", "turn"])
def test_from_cancelling_only_evidence_leads_on(table: Table) -> None:
    reported = {Trigger.REPORTED_CANCELLED} if table is TURN else set()
    evidence = {Trigger.STOPPED, Trigger.PROVED_SUCCEEDED, Trigger.PROVED_FAILED} | reported
    arrows = {trigger for trigger, cell in table[Status.CANCELLING].items() if not isinstance(cell, Cell)}
    assert arrows == evidence


@pytest.mark.parametrize("table", [WORKFLOW, TURN], ids=["workflow", "turn"])
def test_no_arrow_leads_back(table: Table) -> None:
    order = list(Status)
    for status, row in table.items():
        for cell in row.values():
            assert isinstance(cell, Cell) or order.index(cell) > order.index(status)
