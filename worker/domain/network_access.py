"""Network access: which URLs a session may reach, and how layers merge (contract, section 6).

An entry is a set of URLs: a host, a host with its subdomains, or a prefix of normalised URLs.  Any two such sets are
nested or disjoint, so the intersection of two lists is, of each pair that is nested, the narrower.  A malformed
pattern is the empty set: it matches nothing, but a list that holds it is a list.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from schemas.harness import NetworkAccess

LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
SCHEMES = {"http": 80, "https": 443}
UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
RESERVED = "%!$&'()*+,;=:@/?"  # what may stand plain in a path or a query (RFC 3986), and the sign of an encoding
PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Host:
    """Exactly this host, any port."""

    name: str


@dataclass(frozen=True, slots=True)
class Subdomains:
    """This host and every host below it, any port."""

    name: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """Every URL whose normalised text begins so; a bare prefix of a path segment counts, as in text."""

    url: str
    host: str


Pattern = Host | Subdomains | Prefix


@dataclass(frozen=True, slots=True)
class Access:
    """Merged layers.  `allowed` None: open.  Empty: nothing is allowed, and no deeper layer reopens it."""

    allowed: tuple[str, ...] | None
    blocked: tuple[str, ...]


OPEN = Access(None, ())


def layer(access: NetworkAccess | None) -> Access:
    """One layer as stored: an empty list of allowed patterns is no restriction."""
    if access is None:
        return OPEN
    return Access(access.allowed or None, access.blocked)


def merge(parent: Access, child: Access) -> Access:
    """What both layers allow: blocked joined, allowed intersected."""
    blocked = tuple(dict.fromkeys((*parent.blocked, *child.blocked)))
    if parent.allowed is None or child.allowed is None:
        return Access(child.allowed if parent.allowed is None else parent.allowed, blocked)
    narrower = (_narrower(one, other) for one in parent.allowed for other in child.allowed)
    return Access(tuple(dict.fromkeys(text for text in narrower if text is not None)), blocked)


def allows(access: Access, url: str) -> bool:
    """Blocked always wins; what is no URL is allowed only where there is no list at all."""
    target = normalise(url)
    if target is None:
        return access.allowed is None and not access.blocked
    if any(_matches(parse(text), target) for text in access.blocked):
        return False
    return access.allowed is None or any(_matches(parse(text), target) for text in access.allowed)


def parse(text: str) -> Pattern | None:
    """A pattern; None where it is malformed."""
    if "://" in text:
        target = normalise(text)
        return Prefix(*target) if target and "@" not in text and "#" not in text else None
    if text.startswith("*."):
        host = _host(text[2:])
        return Subdomains(host) if host and not _is_address(host) else None
    host = _host(text)
    return Host(host) if host else None


def normalise(url: str) -> tuple[str, str] | None:
    """-> (normalised URL, host) without user, password, default port and fragment; None where it is no http URL.

    Backslashes, blanks and control characters are refused: clients disagree on what they mean.
    """
    if any(character <= " " or character in "\\\x7f" for character in url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    host = _host(parts.hostname or "")
    if scheme not in SCHEMES or host is None or not url[len(scheme) :].startswith("://"):
        return None
    authority = f"[{host}]" if ":" in host else host
    if port is not None and port != SCHEMES[scheme]:
        authority += f":{port}"
    query = f"?{_canonical(parts.query)}" if parts.query else ""
    return f"{scheme}://{authority}{_resolve(_canonical(parts.path))}{query}", host


def _narrower(one: str, other: str) -> str | None:
    first, second = parse(one), parse(other)
    if first is None or second is None:
        return None
    if _within(first, second):
        return one
    return other if _within(second, first) else None


def _within(inner: Pattern, outer: Pattern) -> bool:
    """Whether every URL of the one is one of the other."""
    match outer:
        case Prefix():
            return isinstance(inner, Prefix) and inner.url.startswith(outer.url)
        case Subdomains():
            name = inner.host if isinstance(inner, Prefix) else inner.name
            return name == outer.name or name.endswith("." + outer.name)
        case Host():
            if isinstance(inner, Subdomains):
                return False
            return (inner.host if isinstance(inner, Prefix) else inner.name) == outer.name


def _matches(pattern: Pattern | None, target: tuple[str, str]) -> bool:
    return pattern is not None and _within(Prefix(*target), pattern)


def _host(text: str) -> str | None:
    """Lower case, in ASCII, without a trailing dot; an address in its shortest form; None where it is no host."""
    name = text.removesuffix(".").lower()
    if name.startswith("[") and name.endswith("]") and ":" in name:
        name = name[1:-1]
    if ":" in name:
        return _address(name)
    try:
        name = name.encode("idna").decode() if not name.isascii() else name
    except UnicodeError:
        return None
    labels = name.split(".")
    if not name or len(name) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        return None
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        return _address(name)  # a name that ends in a number is an IPv4 address, or nothing
    return name


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    return _address(host) is not None


def _canonical(text: str) -> str:
    """Percent-encodings in one form: unreserved characters plain, the others encoded, in upper case."""

    def plain(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if character in UNRESERVED else found[0].upper()

    return PERCENT.sub(plain, quote(text, safe=RESERVED))


def _resolve(path: str) -> str:
    """Dot segments resolved; always begins with a slash."""
    out: list[str] = []
    segments = path.split("/")[1:] if path else [""]
    for i, segment in enumerate(segments):
        last = i == len(segments) - 1
        if segment == "..":
            del out[-1:]
        elif segment != ".":
            out.append(segment)
            continue
        if last:
            out.append("")
    return "/" + "/".join(out)
