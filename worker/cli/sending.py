"""`worker send`: from flags or a file of CloudEvents to published commands, and to their verdicts.

Knows the client; what a command may hold is the published schema's business, and what becomes of it the worker's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.base import time_text
from schemas.commands import OPERATIONS
from worker.cli.exits import Exit, Wrong, complain
from worker.cli.given import read_events, read_json, read_object, read_time
from worker.cli.opening import opened
from worker.cli.printing import say, verdict_lines
from worker.client import Invalid, Message, Result, message, prepare
from worker.domain import session, workflow

SOURCE = "verdict-worker-cli"
PERMISSIONS = {**workflow.PERMISSIONS, **session.PERMISSIONS, "harness.update": "harness:manage"}
ENVELOPE = ("specversion", "id", "type", "source", "time", "data", "datacontenttype", "subject")


@dataclass(frozen=True, slots=True)
class Flags:
    """What the flags of `worker send` say; they describe one command, and go with a TYPE."""

    subject: str
    reason: str
    teams: tuple[str, ...]
    permissions: tuple[str, ...]
    org: str | None
    tenant: str | None
    team_id: str | None
    creation: bool
    common: Mapping[str, Any]
    data: str
    settings: tuple[str, ...]
    command_id: str | None
    time: str | None


async def publish(what: str, name: str | None, flags: Flags, *, raw: bool, wait_seconds: float, as_json: bool) -> Exit:
    """`what` is a command's type, which acts on `name`; or, alone, a file.  Raises Wrong, Invalid."""
    if name is not None:
        messages = [_from_flags(what, name, flags, raw=raw)]
    elif what in OPERATIONS:
        raise Wrong(f"{what}: the ID is missing that it acts on")
    else:
        messages = [_from_event(where, event, raw=raw) for where, event in read_events(what)]
    return await _send(messages, wait_seconds, as_json=as_json)


def _from_flags(type: str, name: str, flags: Flags, *, raw: bool) -> Message:
    if type not in OPERATIONS and not raw:
        raise Wrong(f"{type}: no such command type; there are {', '.join(OPERATIONS)}")
    data = _data(type, name, flags)
    time = read_time("--time", flags.time)
    if raw:
        return message(type, data, _key(data), id=flags.command_id, time=time, source=SOURCE)
    return prepare(type, data, id=flags.command_id, time=time, source=SOURCE)


def _fields(flags: Flags) -> dict[str, Any]:
    """--data, and over it every --set."""
    found = read_object("--data", flags.data)
    for setting in flags.settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.rstrip(":"):
            raise Wrong(f"--set {setting}: must be name=text or name:=JSON")
        found[name.rstrip(":")] = read_json(f"--set {setting}", value) if name.endswith(":") else value
    return found


async def _send(messages: list[Message], wait_seconds: float, *, as_json: bool) -> Exit:
    """Publish; with a time to wait, print the verdict on each."""
    async with opened() as (_, client):
        if wait_seconds <= 0:
            places = await client.publish(messages)
            for sent, at in zip(messages, places, strict=True):
                told = {
                    "id": sent.id,
                    "time": time_text(sent.time),
                    "type": sent.type,
                    "key": sent.key,
                    **at.model_dump(),
                }
                say([json.dumps(told) if as_json else sent.id])
            return Exit.DONE
        results = await client.ask(messages, wait_seconds)
    for result in results:
        if result is not None:
            say([result.body.decode()] if as_json else verdict_lines(result.verdict))
    for sent, result in zip(messages, results, strict=True):
        if result is None:
            complain(f"no verdict within {wait_seconds:g} s; the command {sent.id} is published")
    return _exit(results)


def _exit(results: list[Result | None]) -> Exit:
    if None in results:
        return Exit.LATE
    return Exit.NO if any(result and result.verdict.http_status >= 400 for result in results) else Exit.DONE


def _data(type: str, name: str, flags: Flags) -> dict[str, Any]:
    """The data of a command, as an API tier would write it."""
    permissions = flags.permissions or tuple(PERMISSIONS.get(type, "").split())
    actor = {
        "subject": flags.subject,
        "team_ids": list(flags.teams),
        "permissions": list(permissions),
        "org_id": flags.org,
        "tenant": flags.tenant,
    }
    data: dict[str, Any] = {
        "actor": {field: value for field, value in actor.items() if value is not None},
        "reason": flags.reason,
        **{field: value for field, value in flags.common.items() if value is not None},
    }
    if flags.team_id is not None:
        data["team_id"] = flags.team_id
    if type == "harness.update":
        where = {"org_id": flags.org} if flags.org is not None else {}
        return {**data, **where, "harness_id": name, "changes": _fields(flags)}
    return {**data, _id_field(type, flags): name, **_fields(flags)}


def _id_field(type: str, flags: Flags) -> str:
    if type.startswith(("session.", "turn.")):
        return "session_id"
    return "harness_id" if flags.creation or type.startswith("custom_harness.") else "evaluation_id"


def _key(data: Mapping[str, Any]) -> str:
    """The record key of data that is not checked: the first id that looks like one."""
    names = {"org_id": "org", "session_id": "session", "harness_id": "custom-harness", "evaluation_id": "evaluation"}
    found = ((kind, data[name]) for name, kind in names.items() if isinstance(data.get(name), str))
    kind, name = next(found, ("unknown", ""))
    return f"{kind}/{name if kind == 'org' else name.lower()}"


# ---------------------------------------------------------------------------------- files


def _from_event(where: str, event: Any, *, raw: bool) -> Message:
    if not isinstance(event, dict):
        raise Wrong(f"{where}: must be a CloudEvent, a JSON object")
    for name in ("id", "type"):
        if not isinstance(event.get(name), str):
            raise Wrong(f"{where}: {name}: must be there, and be a text")
    if event.get("specversion") != "1.0":
        raise Wrong(f"{where}: specversion: must be 1.0")
    if not isinstance(event.get("data"), dict):
        raise Wrong(f"{where}: data: must be a JSON object")
    try:
        others = {name: value for name, value in event.items() if name not in ENVELOPE}
        extra = tuple((name if name == "traceparent" else f"ce_{name}", str(others[name]).encode()) for name in others)
        data, time = event["data"], read_time("time", event.get("time"))
        source = str(event.get("source") or SOURCE)
        if raw:
            return message(event["type"], data, _key(data), id=event["id"], time=time, source=source, extra=extra)
        return prepare(event["type"], data, id=event["id"], time=time, source=source, extra=extra)
    except (Invalid, Wrong) as error:
        raise Wrong(f"{where}: {error}") from None
