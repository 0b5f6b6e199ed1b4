"""What users give: files, strict JSON, names of fields, times.  Whatever is wrong with it is `Wrong`, in one line.

Knows nothing of what is done with it.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.base import Time
from worker.cli.exits import Wrong

_TIME: TypeAdapter[datetime] = TypeAdapter(Time)


def read_text(name: str) -> str:
    """A file, or standard input for `-`.  Raises Wrong."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except OSError as error:
        raise Wrong(f"{name}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Wrong(f"{name}: is not UTF-8") from None


def read_json(name: str, text: str) -> Any:
    """Raises Wrong."""
    try:
        return _loads(text)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"{name}: is not JSON: {error}") from None


def read_object(name: str, text: str) -> dict[str, Any]:
    """Raises Wrong."""
    found = read_json(name, text)
    if not isinstance(found, dict):
        raise Wrong(f"{name}: must be a JSON object")
    return found


def read_commands(name: str) -> Iterator[tuple[str, Any]]:
    """One object, an array, or one a line; -> where each stands, and what stands there.  Raises Wrong."""
    text = read_text(name)
    if not text.strip():
        return
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) > 1 and _is_json(lines[0][1]):
        yield from ((f"{name} line {number}", read_json(f"{name} line {number}", line)) for number, line in lines)
        return
    whole = read_json(name, text)
    if isinstance(whole, list):
        yield from ((f"{name} command {number}", each) for number, each in enumerate(whole, 1))
    else:
        yield name, whole


def read_time(name: str, text: Any) -> datetime | None:
    """None stays None.  Raises Wrong."""
    if text is None:
        return None
    try:
        return _TIME.validate_python(text)
    except ValidationError:
        raise Wrong(f"{name}: must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z") from None


def unknown_field(given: Iterable[str], known: Iterable[str]) -> str | None:
    """The first name that is none, and the one that was meant; None: all are known."""
    names = sorted(known)
    for name in sorted(set(given).difference(names)):
        near = get_close_matches(name, names, n=1)
        return f"{name}: no such field" + (f"; there is {near[0]}" if near else "")
    return None


def _is_json(text: str) -> bool:
    try:
        _loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _loads(text: str) -> Any:
    """Strict JSON.  Raises ValueError, RecursionError."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no value")

    return json.loads(text, parse_constant=refuse)
