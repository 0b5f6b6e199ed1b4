"""Network access: a merge allows exactly what every layer allows, by a matcher that shares nothing with the product."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.harness import NetworkAccess
from worker.domain.network_access import allows, layer, merge

HOSTS = ["a.test", "b.a.test", "c.b.a.test", "xa.test", "z.test"]
PATHS = ["", "/", "/api", "/api/v1", "/API", "/apix"]
PATTERNS = [*HOSTS, *(f"*.{h}" for h in HOSTS), *(f"https://{h}{p}" for h in HOSTS for p in PATHS), "::bad::", "a b"]
URLS = [f"{s}://{h}{p}" for s in ("http", "https") for h in HOSTS for p in PATHS]
LISTS = st.lists(st.sampled_from(PATTERNS), max_size=4).map(tuple)
LAYERS = st.builds(NetworkAccess, allowed=LISTS, blocked=st.lists(st.sampled_from(PATTERNS), max_size=2).map(tuple))


def matches(pattern: str, url: str) -> bool:
    """The words of the contract over plain URLs (no ports, dots or encodings occur here)."""
    parts = urlsplit(url)
    if pattern.startswith("https://"):
        want = urlsplit(pattern)
        same = want.scheme == parts.scheme and want.netloc == parts.netloc
        return same and (parts.path or "/").startswith(want.path or "/")
    if pattern.startswith("*."):
        return parts.netloc == pattern[2:] or parts.netloc.endswith(pattern[1:])
    return parts.netloc == pattern


def one_allows(access: NetworkAccess, url: str) -> bool:
    if any(matches(pattern, url) for pattern in access.blocked):
        return False
    return not access.allowed or any(matches(pattern, url) for pattern in access.allowed)


@given(LAYERS, LAYERS, LAYERS, st.sampled_from(URLS))
def test_a_merge_allows_what_every_layer_allows_in_any_grouping(
    one: NetworkAccess, two: NetworkAccess, three: NetworkAccess, url: str
) -> None:
    expected = all(one_allows(access, url) for access in (one, two, three))
    a, b, c = layer(one), layer(two), layer(three)
    assert allows(merge(merge(a, b), c), url) == expected
    assert allows(merge(a, merge(b, c)), url) == expected


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        ("good.test", "https://good.test/", True),
        ("good.test", "https://GOOD.test:8443/x", True),
        ("good.test", "https://good.test./", True),
        ("good.test", "https://good.test@evil.test/", False),
        ("good.test", "https://evil.test#good.test", False),
        ("good.test", "https://evil.test\\@good.test/", False),
        ("good.test", "https://sub.good.test/", False),
        ("*.good.test", "https://good.test/", True),
        ("*.good.test", "https://a.b.good.test/", True),
        ("*.good.test", "https://notgood.test/", False),
        ("https://good.test", "https://good.test.evil.test/", False),
        ("https://good.test/a", "https://good.test/a/b", True),
        ("https://good.test/a", "https://good.test/A", False),
        ("https://good.test/a/", "https://good.test/a/../b", False),
        ("https://good.test/a/", "https://good.test/a/%2e%2e/b", False),
        ("https://good.test/a/", "https://good.test/x/../a/b", True),
        ("https://good.test:443/", "https://good.test/", True),
        ("https://good.test/", "https://good.test:8443/", False),
        ("https://good.test/", "http://good.test/", False),
        ("HTTPS://Good.Test/", "https://good.test/", True),
        ("127.0.0.1", "http://127.0.0.1:80/", True),
        ("127.0.0.1", "http://0x7f.1/", False),
        ("bücher.test", "https://xn--bcher-kva.test/", True),
        ("good.test", "ftp://good.test/", False),
        ("good.test", "good.test", False),
        ("good.test", "https://good.test/\n", False),
        ("https://", "https://good.test/", False),
        ("*", "https://good.test/", False),
    ],
)
def test_an_allowed_pattern_covers(pattern: str, url: str, expected: bool) -> None:
    assert allows(layer(NetworkAccess(allowed=(pattern,))), url) == expected


def test_disjoint_lists_allow_nothing_and_no_deeper_layer_reopens_it() -> None:
    nothing = merge(layer(NetworkAccess(allowed=("a.test",))), layer(NetworkAccess(allowed=("z.test",))))
    assert nothing.allowed == ()
    reopened = merge(nothing, layer(NetworkAccess(allowed=("a.test",))))
    assert not any(allows(access, url) for access in (nothing, reopened, merge(nothing, layer(None))) for url in URLS)


def test_what_is_no_url_is_allowed_by_no_list() -> None:
    assert allows(layer(None), "not a url")
    assert not allows(layer(NetworkAccess(blocked=("a.test",))), "not a url")
