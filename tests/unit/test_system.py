"""The system's ids: never the same twice, across the pages in which randomness is drawn."""

from worker.adapters.system import PAGE_BYTES, SystemIds


def test_ids_and_nonces_do_not_repeat_over_several_pages() -> None:
    ids = SystemIds()
    count = PAGE_BYTES // 8
    drawn = [ids.fresh() for _ in range(count)] + [ids.nonce().hex() for _ in range(count)]
    assert len(set(drawn)) == len(drawn)
    assert {len(text) for text in drawn[:count]} == {32}
    assert {len(text) for text in drawn[count:]} == {24}
