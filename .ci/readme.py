"""Writes the generated blocks of the README again, or says with --check which of them are out of date.

A block stands between `<!-- generated: NAME -->` and `<!-- /generated -->`; its name says what it is made of: a
lifecycle, the settings, the exit codes, the codes of verdicts.  Everything outside of the blocks is left alone.

    readme.py [--check] [FILE]
"""

import re
import sys
from pathlib import Path

from schemas.codes import CODES
from worker.cli import exits
from worker.cli.diagrams import diagrams
from worker.settings import settings_table

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", ROOT / "deploy/README.md"]
BLOCK = re.compile(r"(<!-- generated: (?P<name>[^\n]*?) -->\n)(?P<body>.*?)(<!-- /generated -->)", re.DOTALL)
OPENING = re.compile(r"<!-- generated: ")


def blocks() -> dict[str, str]:
    """-> {name: Markdown}."""
    drawn = {f"{name} lifecycle": f"```mermaid\n{text}\n```" for name, text in diagrams().items()}
    rows = [f"| `{name}` | {row.http_status} | {row.outcome} | {row.meaning} |" for name, row in CODES.items()]
    codes = "\n".join(["| code | HTTP | outcome | meaning |", "|---|---|---|---|", *rows])
    settings = {"settings": settings_table(), "settings of services": settings_table(services=True)}
    return drawn | settings | {"exit codes": exits.table(), "codes": codes}


def main(arguments: list[str]) -> str | None:
    """-> what is wrong; None: nothing."""
    check = "--check" in arguments
    files = [Path(argument) for argument in arguments if argument != "--check"] or FILES
    made = blocks()
    for file in files:
        text = file.read_text("utf-8")
        found = list(BLOCK.finditer(text))
        if len(found) != len(OPENING.findall(text)):
            return f"{file.name}: a generated block has no end (<!-- /generated -->)"
        if unknown := [block["name"] for block in found if block["name"] not in made]:
            return f"{file.name}: no block is called {unknown[0]!r}; there are {', '.join(made)}"
        stale = [block["name"] for block in found if block["body"] != made[block["name"]] + "\n"]
        if check and stale:
            return f"{file.name}: out of date: {', '.join(stale)}; run `make generate`"
        if stale:
            file.write_text(BLOCK.sub(lambda block: f"{block[1]}{made[block['name']]}\n{block[4]}", text), "utf-8")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
