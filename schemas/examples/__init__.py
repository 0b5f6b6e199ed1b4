"""One example per message and document, as JSON files beside this one; tests hold each to its published schema.

    load("evaluation.cancel").payload    the data of a command, ready to be changed and published
    names("commands")                    the names of one channel's examples; ("documents"): of those in the store

All examples tell one story: an evaluation, a custom harness, a session and an org of one team.  Standard library only.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Example:
    """A record, a stored document, or an HTTP body."""

    name: str
    """Its file's name, such as `verdict.unconfirmed`."""
    channel: str
    """A topic's name without its prefix; `documents` (the store), or `executor` (HTTP)."""
    message: str
    """The message's name in asyncapi.json; for documents and bodies, the schema's name."""
    schema: str
    """Name of the published schema that its payload follows; empty: any bytes do."""
    key: str
    """The record's key; of a document its key in the store; empty for an HTTP body."""
    headers: dict[str, str]
    """The record's headers."""
    payload: Any
    """The record's value, the document, or the body."""

    def structured(self) -> dict[str, Any]:
        """The record as one CloudEvents JSON object, for `content-type: application/cloudevents+json`."""
        attributes = {name.removeprefix("ce_"): text for name, text in self.headers.items() if name.startswith("ce_")}
        return {**attributes, "datacontenttype": "application/json", "data": self.payload}


@cache
def names(channel: str | None = None) -> tuple[str, ...]:
    """Names of all examples, or of one channel's, in alphabetical order."""
    every = sorted(path.stem for path in FOLDER.glob("*.json"))
    return tuple(name for name in every if channel is None or load(name).channel == channel)


def load(name: str) -> Example:
    """A fresh copy of one example.  Raises KeyError, which lists the names, where there is none."""
    path = FOLDER / f"{name}.json"
    if path.parent != FOLDER or not path.is_file():
        known = ", ".join(sorted(each.stem for each in FOLDER.glob("*.json")))
        raise KeyError(f"no example is called {name!r}; there are {known}")
    return Example(name=name, **json.loads(path.read_text("utf-8")))
