"""The position and its set of unfinished offsets (must 6)."""

from hypothesis import given
from hypothesis import strategies as st

from worker.ports import Position
from worker.runtime.position import METADATA_MAX, UNFINISHED_MAX, Progress, decode, encode

OFFSETS = st.lists(st.integers(min_value=0, max_value=2**40), unique=True, max_size=UNFINISHED_MAX).map(sorted)


@given(OFFSETS, st.integers(min_value=1, max_value=2**20))
def test_what_is_encoded_is_read_back(unfinished: list[int], beyond: int) -> None:
    first = unfinished[0] if unfinished else 7
    highest = (unfinished[-1] if unfinished else first) + beyond
    assert decode(first, encode(first, highest, unfinished)) == (highest, unfinished)


def test_the_bound_always_fits() -> None:
    spread = [offset * 2**20 for offset in range(UNFINISHED_MAX)]
    assert len(encode(0, spread[-1] + 1, spread)) <= METADATA_MAX


@given(st.text(max_size=50))
def test_unreadable_metadata_is_noticed_and_never_raises(text: str) -> None:
    decode(0, text)
    decode(0, "1:" + text)
    assert decode(0, "0:" + text) is None


@given(st.data())
def test_the_next_owner_takes_exactly_what_was_not_finished(data: st.DataObject) -> None:
    total = data.draw(st.integers(min_value=0, max_value=60))
    done = data.draw(st.sets(st.integers(min_value=0, max_value=59)).map(lambda s: sorted(o for o in s if o < total)))
    progress = Progress(None, 0)
    assert all(progress.take(offset) for offset in range(total))
    for offset in done:
        progress.finish(offset)
    position = progress.position()
    progress.committed(position)
    assert [o for o in range(total) if progress.is_committed(o)] == done
    heir = Progress(position, 0)
    again = [offset for offset in range(position.offset, total) if heir.take(offset)]
    assert again == [offset for offset in range(total) if offset not in done]
    assert [o for o in range(total) if heir.is_committed(o)] == done


def test_absent_or_unreadable_metadata_means_everything_from_the_position_again() -> None:
    assert Progress(Position(5, ""), 0).unreadable is False
    broken = Progress(Position(5, "1:!!"), 0)
    assert broken.unreadable
    assert broken.take(5)
