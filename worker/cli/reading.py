"""`worker results`, `status` and `dead-letters`: topics as they stand, beside the worker.  Changes nothing."""

import base64
import json
from collections.abc import Iterator

from schemas.base import time_text
from worker.cli.exits import Exit, Wrong, complain
from worker.cli.opening import opened
from worker.cli.printing import columns, indented, result_line, say, status_line
from worker.client import DeadLetter


async def print_results(*, follow: bool, as_json: bool) -> Exit:
    """A line for each verdict; as JSON: exactly as published."""
    async with opened() as (_, client):
        async for result in client.results(follow=follow):
            say([result.body.decode() if as_json else result_line(result.verdict)])
    return Exit.DONE


async def print_status(*, follow: bool, as_json: bool) -> Exit:
    """A line for each change of status."""
    async with opened() as (_, client):
        async for event in client.status_events(follow=follow):
            say([event.model_dump_json() if as_json else status_line(event)])
    return Exit.DONE


async def list_dead_letters(*, as_json: bool) -> Exit:
    """A line for each dead letter, without what it held."""
    async with opened() as (_, client):
        async for letter in client.dead_letters():
            head = _head(letter)
            say([json.dumps(head) if as_json else f"{head['at']}  {head['time']}  {head['reason']}"])
    return Exit.DONE


async def show_dead_letter(at: str, *, as_json: bool) -> Exit:
    """The dead letter of the command record at `partition:offset`, with headers and bytes.  Raises Wrong."""
    partition, _, offset = at.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise Wrong(f"{at}: must be partition:offset of the command record, as `dead-letters list` shows it")
    async with opened() as (_, client):
        async for letter in client.dead_letters():
            if (letter.at.partition, letter.at.offset) == (int(partition), int(offset)):
                value = await client.payload(letter.value)
                fields = _head(letter) | {"key": _text(letter.key or b"")} | _value(value)
                headers = {name: _text(text) for name, text in letter.headers}
                say([json.dumps(fields | {"headers": headers})] if as_json else _lines(fields, headers))
                return Exit.DONE
    complain(f"not_found: no dead letter for {at}")
    return Exit.NO


def _head(letter: DeadLetter) -> dict[str, str]:
    command_id = next((text for name, text in letter.headers if name == "ce_id"), b"")
    return {
        "at": f"{letter.at.partition}:{letter.at.offset}",
        "time": time_text(letter.time),
        "reason": letter.reason,
        "command_id": _text(command_id),
    }


def _value(value: bytes) -> dict[str, str]:
    """The bytes as they were: text where they are UTF-8, else base64."""
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _lines(fields: dict[str, str], headers: dict[str, str]) -> Iterator[str]:
    yield from columns(fields.items())
    yield "headers"
    yield from indented(columns(headers.items()))
