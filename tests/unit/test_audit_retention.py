"""Retention: what may be cut is what ends where a checkpoint ends; and what is left stands."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.chained import KEYS, START, Sealed, judged
from worker.audit.checkpoints import lines, seals
from worker.audit.retention import Cut, cuts
from worker.ports import Topic

A = [KEYS["a"].public]


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path)
    yield made
    made.close()


async def three(sealed: Sealed) -> None:
    """p ends before the second checkpoint, q goes on, r begins late; made one, two and three seconds after START."""
    maker = sealed.checkpointer()
    for names in (("p", "q"), ("p", "q"), ("r", "q")):
        await sealed.write(*names)
        await maker.once()
    await sealed.write("r")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.5, Cut(0, 0, None)),
        (1.5, Cut(0, 2, "2026-01-31T12:00:01.000Z", 2, set(), {"p", "q"})),
        (2.5, Cut(0, 4, "2026-01-31T12:00:02.000Z", 4, {"p"}, {"q"})),
        (9, Cut(0, 6, "2026-01-31T12:00:03.000Z", 6, {"p", "q"}, {"r"})),
    ],
)
async def test_the_cut_is_the_end_of_the_last_checkpoint_before_the_time(
    sealed: Sealed, seconds: float, expected: Cut
) -> None:
    await three(sealed)
    before = START + timedelta(seconds=seconds)
    assert await cuts(sealed.stream, await lines(sealed.stream, A), before) == [expected]


async def test_what_is_left_of_a_log_that_was_cut_there_stands(sealed: Sealed) -> None:
    await three(sealed)
    [cut] = await cuts(sealed.stream, await lines(sealed.stream, A), START + timedelta(seconds=2.5))
    sql = 'DELETE FROM records WHERE topic = ? AND "offset" < ?'
    await sealed.stream._database.write(lambda c: c.execute(sql, (Topic.AUDIT.value, cut.offset)).rowcount)
    log = await sealed.log()
    assert log[0][0] == cut.offset
    assert judged(await seals(sealed.stream, A, cut=True), log, 7) == []
    assert judged(await seals(sealed.stream, A), log, 7) == [("checkpoint_root", "0:0-1"), ("checkpoint_root", "0:2-3")]
    await sealed.checkpointer(epoch=2).once()
    assert judged(await seals(sealed.stream, A, cut=True), log, 7) == []
    [again] = await cuts(sealed.stream, await lines(sealed.stream, A), START + timedelta(seconds=2.5))
    assert (again.offset, again.at, again.records) == (cut.offset, None, 0)
