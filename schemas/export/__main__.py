"""`python -m schemas.export` writes the generated files, `--check` names those that differ and fails.

Knows the files and nothing of what is in them.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from schemas.export.asyncapi import asyncapi
from schemas.export.json_schema import code_table, json_schemas
from schemas.export.openapi import openapi

PUBLISHED = Path(__file__).parents[1] / "published"


def generated() -> dict[str, bytes]:
    """Every generated file's bytes, by its name below `published/`."""
    schemas = json_schemas()
    documents: dict[str, Any] = {f"{name}.schema.json": schema for name, schema in schemas.items()}
    documents |= {"asyncapi.json": asyncapi(schemas), "executor.openapi.json": openapi(), "codes.json": code_table()}
    return {name: f"{json.dumps(body, indent=2, ensure_ascii=False)}\n".encode() for name, body in documents.items()}


def differing(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Names of files that are missing, that hold something else, or that nothing generates any more."""
    found = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    return sorted(name for name in found.keys() | files.keys() if found.get(name) != files.get(name))


def main(arguments: list[str] | None = None, folder: Path = PUBLISHED) -> int:
    """-> exit code: 1 where `--check` found a difference."""
    parser = argparse.ArgumentParser(prog="python -m schemas.export", description="Write the published schemas.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    check = parser.parse_args(arguments).check
    files = generated()
    changed = differing(folder, files)
    for name in changed:
        if check:
            sys.stderr.write(f"{folder.name}/{name} is not what the models say; run: python -m schemas.export\n")
        elif name in files:
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(files[name])
        else:
            (folder / name).unlink()
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
