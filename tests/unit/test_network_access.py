"""Network access: a merge allows exactly what every layer allows, by a matcher that shares nothing with the product.

The matcher never parses: what a URL or pattern means is generated first, and then spelled, in one of the many ways that
mean the same.  So each spelling is a claim too.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.harness import NetworkAccess
from worker.domain.network_access import OPEN, Access, allows, layer, merge

# ------------------------------------------------------------------------------ what is meant

NAMES = ["a.test", "b.a.test", "c.b.a.test", "xa.test", "z.test", "b\u00fccher.test", "sub.b\u00fccher.test"]
ADDRESSES = ["127.0.0.1", "[::1]"]
PATHS = ["/", "/api", "/api/", "/api/v1", "/API", "/apix", "/api%2Fv1", "/a~b/-._c", "/api/v1?q=1", "/api?q=/../x"]
PORTS = {"http": 80, "https": 443}
OTHER_PORTS = [80, 443, 8443]


class Url(NamedTuple):
    """A URL, as meant: the path with its query, every default filled in."""

    scheme: str
    host: str
    port: int
    path: str


NO_URL = Url("", "", 0, "")


@dataclass(frozen=True)
class Pattern:
    """A pattern, as meant; `url` is of a prefix, `host` of the other two."""

    kind: Literal["host", "subdomains", "prefix", "malformed"]
    host: str = ""
    url: Url = NO_URL

    def matches(self, url: Url) -> bool:
        """The words of the contract."""
        match self.kind:
            case "host":
                return url.host == self.host
            case "subdomains":
                return url.host == self.host or url.host.endswith("." + self.host)
            case "prefix":
                return url[:3] == self.url[:3] and url.path.startswith(self.url.path)
            case "malformed":
                return False


@dataclass(frozen=True)
class Layer:
    """One layer, as meant and as written."""

    allowed: Sequence[tuple[Pattern, str]]
    blocked: Sequence[tuple[Pattern, str]]

    def allows(self, url: Url | None) -> bool:
        """None is what is no URL: no list allows it, and none can say that it is not blocked."""
        if url is None:
            return not self.allowed and not self.blocked
        if any(pattern.matches(url) for pattern, _ in self.blocked):
            return False
        return not self.allowed or any(pattern.matches(url) for pattern, _ in self.allowed)

    @property
    def written(self) -> Access:
        allowed, blocked = (tuple(text for _, text in entries) for entries in (self.allowed, self.blocked))
        return layer(NetworkAccess(allowed=allowed, blocked=blocked))


# ------------------------------------------------------------------------------ how it is spelled

NO_URLS = [
    *("", " ", "a.test", "a.test/api", "//a.test/", "/api", "javascript:alert(1)", "ftp://a.test/", "https:a.test"),
    *("https:/a.test/", "https:///a.test/", "https://", "https://:443/", "https://u@/", "https://a..test/"),
    *("https://-a.test/", "https://a b.test/", "https://a.test/ ", "https://a.test/\n", "\thttps://a.test/"),
    *("https://a.test:x/", "https://a.test:99999/", "https://a.test:-1/", "https://[::1/", "https://[a.test]/"),
    *("https://z.test\\@a.test/", "https://a.test\\.z.test/", "https://1.2.3/", "https://0x7f.1/", "https://%61.test/"),
    *("https://127.0.0.01/", "https://2130706433/", f"https://{'a' * 64}.test/", "https://*.a.test/"),
]
MALFORMED = [
    *("", " ", "*", "*.", ".", "**.a.test", "a.*", "*a.test", "*.*.a.test", "*.127.0.0.1", "*.[::1]", "a.test:443"),
    *("a.test/api", "a b", "a..test", "-a.test", "::bad::", "[a.test]", "a.test@z.test", "//a.test/", "https:a.test"),
    *("https://", "https:///a.test", "https://*.a.test/", "https://u@a.test/", "https://a.test/#x", "ftp://a.test/"),
    *(
        "https://a.test/ b",
        "https://a.test\\",
        "https://a.test:x/",
        "127.0.0.01",
        "1.2.3",
        "https://1.2.3/",
        "a.test\n",
    ),
]
IDNA = {"b\u00fccher": "xn--bcher-kva"}
LONG = {"[::1]": "[0:0:0:0:0:0:0:1]"}


@st.composite
def cased(draw: st.DrawFn, text: str) -> str:
    return draw(st.sampled_from([text, text.upper(), text.title()]))


@st.composite
def spelled_host(draw: st.DrawFn, host: str) -> str:
    if host in ADDRESSES:
        return draw(st.sampled_from([host, LONG.get(host, host)]))
    if draw(st.booleans()):
        host = ".".join(IDNA.get(label, label) for label in host.split("."))
    return draw(cased(host)) + draw(st.sampled_from(["", "."]))


@st.composite
def spelled_path(draw: st.DrawFn, path: str) -> str:
    """Dot segments that resolve, unreserved characters percent-encoded, hex digits in either case."""
    path, question, query = path.partition("?")
    if path == "/" and not query and draw(st.booleans()):
        return ""
    detours = st.sampled_from(["", "", ".", "x/..", "%2e", "y/%2E%2e", "x/y/../..", "./."])
    out = ""
    for segment in path.removeprefix("/").split("/"):
        detour = draw(detours)
        out += f"/{detour}" if detour else ""
        out += "/" + draw(spelled_segment(segment))
    climb = draw(st.sampled_from(["", "/..", "/../%2E."]))
    return climb + out + question + query


@st.composite
def spelled_segment(draw: st.DrawFn, segment: str) -> str:
    segment = draw(st.sampled_from([segment, segment.replace("%2F", "%2f")]))
    plain = [
        i for i, c in enumerate(segment) if c.isalnum() or c in "-._~" if "%" not in segment[max(0, i - 2) : i + 1]
    ]
    if not plain or not draw(st.booleans()):
        return segment
    i = draw(st.sampled_from(plain))
    code = draw(st.sampled_from([f"%{ord(segment[i]):02x}", f"%{ord(segment[i]):02X}"]))
    return segment[:i] + code + segment[i + 1 :]


@st.composite
def spelled_url(draw: st.DrawFn, url: Url, *, as_pattern: bool = False) -> str:
    ports = [f":{url.port}"] + ([":", ""] if url.port == PORTS[url.scheme] else [])
    user = (
        "" if as_pattern else draw(st.sampled_from(["", "", "u@", "u:p@", "z.test@", "a.test:443@", "a.test@z.test@"]))
    )
    fragment = "" if as_pattern else draw(st.sampled_from(["", "#x", "#https://z.test/", "#@z.test"]))
    host, port, path = draw(spelled_host(url.host)), draw(st.sampled_from(ports)), draw(spelled_path(url.path))
    return f"{draw(cased(url.scheme))}://{user}{host}{port}{path}{fragment}"


MEANT = st.builds(
    lambda scheme, host, port, path: Url(scheme, host, port or PORTS[scheme], path),
    st.sampled_from(["https", "http"]),
    st.sampled_from(NAMES + ADDRESSES),
    st.sampled_from([None, None, *OTHER_PORTS]),
    st.sampled_from(PATHS),
)
URLS = st.one_of(
    MEANT.flatmap(lambda url: spelled_url(url).map(lambda text: (url, text))),
    st.sampled_from(NO_URLS).map(lambda text: (None, text)),
)


def host_pattern(host: str) -> st.SearchStrategy[tuple[Pattern, str]]:
    return spelled_host(host).map(lambda text: (Pattern("host", host=host), text))


def subdomains_pattern(host: str) -> st.SearchStrategy[tuple[Pattern, str]]:
    return spelled_host(host).map(lambda text: (Pattern("subdomains", host=host), f"*.{text}"))


def prefix_pattern(url: Url) -> st.SearchStrategy[tuple[Pattern, str]]:
    return spelled_url(url, as_pattern=True).map(lambda text: (Pattern("prefix", url=url), text))


PATTERNS = st.one_of(
    st.sampled_from(NAMES + ADDRESSES).flatmap(host_pattern),
    st.sampled_from(NAMES).flatmap(subdomains_pattern),
    MEANT.flatmap(prefix_pattern),
    st.sampled_from(MALFORMED).map(lambda text: (Pattern("malformed"), text)),
)


def patterns_near(url: Url | None) -> st.SearchStrategy[tuple[Pattern, str]]:
    """Patterns that match this URL, so that lists overlap more often than chance has it."""
    if url is None:
        return PATTERNS
    parents = [name for name in NAMES if url.host == name or url.host.endswith("." + name)]
    prefixes = [url._replace(path=path) for path in PATHS if url.path.startswith(path)]
    near = [host_pattern(url.host), st.sampled_from(prefixes).flatmap(prefix_pattern)]
    return st.one_of(*near, *map(subdomains_pattern, parents))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Layer], Url | None, str]:
    """Three layers and a URL."""
    url, text = draw(URLS)
    allowed = st.tuples(st.lists(patterns_near(url), max_size=1), st.lists(PATTERNS, max_size=2)).map(
        lambda two: two[0] + two[1]
    )
    blocked = st.lists(PATTERNS, max_size=1)
    return [Layer(draw(allowed), draw(blocked)) for _ in range(3)], url, text


# ------------------------------------------------------------------------------ the properties


@settings(max_examples=200, deadline=None)
@given(PATTERNS, URLS)
def test_a_pattern_covers_what_it_means_however_it_and_the_url_are_spelled(
    pattern: tuple[Pattern, str], url: tuple[Url | None, str]
) -> None:
    (meant, text), (target, spelled) = pattern, url
    expected = target is not None and meant.matches(target)
    assert allows(Access((text,), ()), spelled) == expected
    assert allows(Access(None, (text,)), spelled) == (target is not None and not expected)


@settings(max_examples=200, deadline=None)
@given(cases())
def test_a_merge_allows_what_every_layer_allows_in_any_grouping(case: tuple[list[Layer], Url | None, str]) -> None:
    layers, target, spelled = case
    expected = all(each.allows(target) for each in layers)
    a, b, c = (each.written for each in layers)
    for merged in (merge(merge(a, b), c), merge(a, merge(b, c)), merge(merge(OPEN, c), merge(b, merge(a, OPEN)))):
        assert allows(merged, spelled) == expected


def test_the_generated_cases_reach_both_answers_with_every_layer_in_play() -> None:
    answers: Counter[bool] = Counter()

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(cases())
    def count(case: tuple[list[Layer], Url | None, str]) -> None:
        layers, target, _ = case
        if target is not None and all(each.allowed for each in layers):
            answers[all(each.allows(target) for each in layers)] += 1

    count()
    assert min(answers[True], answers[False]) >= 5


def test_disjoint_lists_allow_nothing_and_no_deeper_layer_reopens_it() -> None:
    nothing = merge(layer(NetworkAccess(allowed=("a.test",))), layer(NetworkAccess(allowed=("z.test",))))
    assert nothing.allowed == ()
    reopened = merge(nothing, layer(NetworkAccess(allowed=("a.test",))))
    for access in (nothing, reopened, merge(nothing, layer(None)), merge(layer(NetworkAccess()), nothing)):
        assert not any(allows(access, f"https://{host}/") for host in NAMES)


def test_of_nested_entries_the_narrower_is_left_and_of_others_nothing() -> None:
    parent = layer(NetworkAccess(allowed=("*.a.test", "https://z.test/api", "xa.test")))
    child = layer(NetworkAccess(allowed=("b.a.test", "https://a.test/x", "z.test", "*.c.test")))
    assert merge(parent, child).allowed == ("b.a.test", "https://a.test/x", "https://z.test/api")
    assert set(merge(child, parent).allowed or ()) == set(merge(parent, child).allowed or ())


@pytest.mark.parametrize("empty", [None, NetworkAccess(), NetworkAccess(allowed=(), blocked=())])
def test_empty_lists_are_open_to_everything(empty: NetworkAccess | None) -> None:
    assert layer(empty) == OPEN
    assert merge(layer(empty), OPEN) == OPEN
    assert all(allows(layer(empty), text) for text in ("https://a.test/", *NO_URLS))


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_list_with_nothing_but_a_malformed_pattern_is_a_list(malformed: str) -> None:
    assert not allows(layer(NetworkAccess(allowed=(malformed,))), "https://a.test/")
    assert allows(layer(NetworkAccess(blocked=(malformed,))), "https://a.test/")


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        ("good.test", "https://good.test@evil.test/", False),
        ("evil.test", "https://good.test@evil.test/", True),
        ("good.test", "https://evil.test#good.test", False),
        ("good.test", "https://evil.test?@good.test/", False),
        ("good.test", "https://evil.test/@good.test/", False),
        ("*.good.test", "https://good.test.evil.test/", False),
        ("https://good.test", "https://good.test.evil.test/", False),
        ("https://good.test", "https://good.test:8443/", False),
        ("https://good.test:80", "https://good.test:8080/", False),
        ("https://good.test/a/", "https://good.test/a/../b", False),
        ("https://good.test/a/", "https://good.test/a/%2e%2e/b", False),
        ("https://good.test/a/", "https://good.test/a/..%2Fb", True),
        ("https://good.test/a", "https://good.test/%61", True),
        ("https://good.test/\u00e9", "https://good.test/%c3%A9", True),
        ("https://good.test/%C3%A9", "https://good.test/\u00e9", True),
        ("https://good.test/?a", "https://good.test/?ab", True),
        ("https://good.test/?a", "https://good.test/", False),
    ],
)
def test_a_trick_is_seen_through(pattern: str, url: str, expected: bool) -> None:
    assert allows(layer(NetworkAccess(allowed=(pattern,))), url) == expected
