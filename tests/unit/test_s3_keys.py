"""Which keys may be sent as they are."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.adapters.s3.keys import checked, is_plain

TOKEN = st.text(string.ascii_letters + string.digits + "._:-", max_size=127).map(lambda rest: "x" + rest)


@given(team=TOKEN, task=TOKEN)
def test_every_key_of_the_layout_passes_as_it_is(team: str, task: str) -> None:
    for key in (f"orgs/{team}.json", f"teams/{team}/evaluations/{task}/request.json", f"unsettled/org/{team}/1"):
        assert checked(key) == key
        assert is_plain(key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "a/../b", "a/./b", "a\0b", "a\x7f", "a/" + "x" * 256])
def test_a_key_that_a_server_may_fold_or_refuse_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="no key of a document"):
        checked(key)


def test_bytes_are_counted_not_characters() -> None:
    assert checked("é" * 127)
    with pytest.raises(ValueError, match="no key of a document"):
        checked("é" * 128)
    assert len(checked("a/" * 511 + "bc")) == 1024
    with pytest.raises(ValueError, match="no key of a document"):
        checked("a/" * 511 + "bcd")
