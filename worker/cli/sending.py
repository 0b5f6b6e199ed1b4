"""`worker send`: publish what users say, by flags or in a file, and print the verdicts.

Knows the client; what a command may hold is the business of commands.py, and what becomes of it the worker's.
"""

import json
from collections.abc import Iterator, Sequence

from schemas.base import Coordinates, time_text
from schemas.commands import OPERATIONS
from worker.cli.commands import Flags, from_file, from_flags
from worker.cli.exits import Exit, Wrong, complain
from worker.cli.given import read_commands
from worker.cli.opening import opened
from worker.cli.printing import say, verdict_lines
from worker.client import Message, Result


async def publish(what: str, name: str | None, flags: Flags, *, raw: bool, wait_seconds: float, as_json: bool) -> Exit:
    """`what` is a command's type, which acts on `name`; or, alone, a file.  Raises Wrong, Invalid."""
    kind = what.replace("-", "_")
    if name is not None:
        made = from_flags(kind if kind in OPERATIONS else what, name, flags, raw=raw)
        return await _send([made], wait_seconds, as_json=as_json)
    if kind in OPERATIONS:
        raise Wrong(f"{kind}: the ID is missing that it acts on")
    if flags.given:
        raise Wrong(f"{flags.given[0]}: only with TYPE ID")
    messages = [from_file(where, given, raw=raw) for where, given in read_commands(what)]
    if not messages:
        raise Wrong(f"{what}: no commands in it")
    return await _send(messages, wait_seconds, as_json=as_json)


async def _send(messages: list[Message], wait_seconds: float, *, as_json: bool) -> Exit:
    """Publish; with a time to wait, print the verdict on each, and of those that have none what was sent."""
    places: list[Coordinates] = []
    async with opened(makes=True) as (_, client):
        if wait_seconds <= 0:
            places += await client.publish(messages)
            say(_sent(messages, places, as_json=as_json))
            return Exit.DONE
        try:
            results = await client.ask(messages, wait_seconds, places.extend)
        except BaseException:  # whatever cuts the waiting off, who has sent must know what
            say(_sent(messages, places, as_json=as_json))
            raise
    for sent, at, result in zip(messages, places, results, strict=True):
        if result is None:
            say(_sent([sent], [at], as_json=as_json))
        else:
            say([result.body.decode()] if as_json else verdict_lines(result.verdict, asked=sent.key))
    for sent, result in zip(messages, results, strict=True):
        if result is None:
            late = f"no verdict within {wait_seconds:g} s; is a worker running? The command {sent.id} is published"
            complain(f"{late}, and is answered later: `worker results`")
    return _exit(results)


def _sent(messages: Sequence[Message], places: Sequence[Coordinates], *, as_json: bool) -> Iterator[str]:
    """A line for each that is published: its id, or all that is known of it; none for those without a place."""
    for sent, at in zip(messages, places, strict=False):
        told = {"id": sent.id, "time": time_text(sent.time), "type": sent.type, "key": sent.key, **at.model_dump()}
        yield json.dumps(told) if as_json else sent.id


def _exit(results: list[Result | None]) -> Exit:
    if None in results:
        return Exit.LATE
    return Exit.NO if any(result and result.verdict.http_status >= 400 for result in results) else Exit.DONE
