"""From what users say, by flags or in a file, to commands as they are published.

Checked against the published schema, and against typos: a field with a mistyped name must not pass for one that was
left out.  `raw` leaves both checks to the worker.  Knows nothing of streams.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from schemas.changes import HarnessChanges
from schemas.commands import OPERATIONS, Common
from schemas.verdicts import FieldError
from worker.cli.exits import Wrong
from worker.cli.given import read_json, read_object, read_time, unknown_field
from worker.client import Invalid, Message, message, prepare
from worker.client.messages import path
from worker.domain import session, workflow
from worker.ports import Headers

SOURCE = "verdict-worker-cli"
PERMISSIONS = {**workflow.PERMISSIONS, **session.PERMISSIONS, "harness.update": "harness:manage"}
FORMS = (
    "FILE holds commands: structured CloudEvents {specversion, id, type, source, time, data}, "
    "or records {key, headers, value}; one object, an array, or one a line"
)
OURS = ("content-type", *(f"ce_{name}" for name in ("specversion", "id", "type", "source", "time", "subject")))
"""Headers of which the client takes care."""


class Envelope(NamedTuple):
    """What goes around the data."""

    type: str
    id: str | None
    time: datetime | None
    source: str = SOURCE
    extra: Headers = ()


def _made(envelope: Envelope, data: Mapping[str, Any], *, raw: bool, key: str = "") -> Message:
    """Raises Wrong, Invalid."""
    kind, command_id, time, source, extra = envelope
    if raw:
        return message(kind, data, key or _key(data), id=command_id, time=time, source=source, extra=extra)
    if kind in OPERATIONS and (typo := _typo(kind, data)):
        raise Wrong(typo)
    return prepare(kind, data, id=command_id, time=time, source=source, extra=extra)


def _typo(type: str, data: Mapping[str, Any]) -> str | None:
    known = {*Common.model_fields, *OPERATIONS[type].model_fields} - {"op"}
    if found := unknown_field(data, known):
        return found
    changes = data.get("changes")
    found = unknown_field(changes, HarnessChanges.model_fields) if isinstance(changes, dict) else None
    return f"changes.{found}" if found else None


def _key(data: Mapping[str, Any]) -> str:
    """The record key of data that is not checked: the first id that looks like one."""
    names = {"org_id": "org", "session_id": "session", "harness_id": "custom-harness", "evaluation_id": "evaluation"}
    found = ((kind, data[name]) for name, kind in names.items() if isinstance(data.get(name), str))
    kind, name = next(found, ("unknown", ""))
    return f"{kind}/{name if kind == 'org' else name.lower()}"


# ---------------------------------------------------------------------------------- flags


@dataclass(frozen=True, slots=True)
class Flags:
    """What the flags of `worker send` say; they describe one command, and go with a TYPE."""

    given: tuple[str, ...]
    """Those that were really given, such as `--reason`."""
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


def from_flags(type: str, name: str, flags: Flags, *, raw: bool) -> Message:
    """The command of this type on `name`.  Raises Wrong, which names the flag or the field."""
    if type not in OPERATIONS and not raw:
        raise Wrong(f"{type}: no such command type; there are {', '.join(OPERATIONS)}")
    envelope = Envelope(type, flags.command_id, read_time("--time", flags.time))
    try:
        return _made(envelope, _data(type, name, flags), raw=raw)
    except Invalid as error:
        raise Wrong("; ".join(f"{path(each)}: {each.msg}{_flag(each)}" for each in error.errors)) from None


def _flag(error: FieldError) -> str:
    """How a field is given that is missing."""
    name = path(error)
    flags = {"org_id": "--org", "team_id": "--team-id"}
    return f" ({flags.get(name, f'--set {name}=...')})" if error.type == "missing" else ""


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


def _fields(flags: Flags) -> dict[str, Any]:
    """--data, and over it every --set."""
    found = read_object("--data", flags.data)
    for setting in flags.settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.rstrip(":"):
            raise Wrong(f"--set {setting}: must be name=text or name:=JSON")
        found[name.rstrip(":")] = read_json(f"--set {setting}", value) if name.endswith(":") else value
    return found


def _id_field(type: str, flags: Flags) -> str:
    if type.startswith(("session.", "turn.")):
        return "session_id"
    return "harness_id" if flags.creation or type.startswith("custom_harness.") else "evaluation_id"


# ---------------------------------------------------------------------------------- files


def from_file(where: str, given: Any, *, raw: bool) -> Message:
    """The command that stands at a place of a file, in one of the FORMS.  Raises Wrong, which names the place."""
    if not isinstance(given, dict) or not given.keys() & {"specversion", "headers"}:
        raise Wrong(f"{where}: is no command; {FORMS}")
    try:
        return _from_record(given, raw=raw) if "headers" in given else _from_event(given, raw=raw)
    except (Invalid, Wrong) as error:
        raise Wrong(f"{where}: {error}") from None


def _from_event(event: dict[str, Any], *, raw: bool) -> Message:
    """A structured CloudEvent; its extensions travel as headers."""
    others = {name: value for name, value in event.items() if name not in ("data", "datacontenttype")}
    headers = {name if name == "traceparent" else f"ce_{name}": value for name, value in others.items()}
    return _enveloped(headers, "", "data", event.get("data"), raw=raw)


def _from_record(record: dict[str, Any], *, raw: bool) -> Message:
    """A record as it stands in the topic; its key, where it has one, must be that of its data."""
    headers, key = record["headers"], record.get("key", "")
    if not isinstance(headers, dict) or not all(isinstance(text, str) for text in headers.values()):
        raise Wrong("headers: must be a JSON object of texts")
    if not isinstance(key, str):
        raise Wrong("key: must be a text")
    value = "payload" if "payload" in record else "value"
    named = {name.lower(): text for name, text in headers.items()}
    made = _enveloped(named, "headers.ce_", value, record.get(value), raw=raw, key=key)
    if key not in ("", made.key):
        raise Wrong(f"key: must be {made.key}, as the {value} says")
    return made


def _enveloped(headers: dict[str, Any], prefix: str, where: str, data: Any, *, raw: bool, key: str = "") -> Message:
    """`prefix`: before the name of an attribute, `where`: the name of the data, as the user knows them."""
    for name in ("id", "type"):
        if not isinstance(headers.get(f"ce_{name}"), str):
            raise Wrong(f"{prefix}{name}: must be there, and be a text")
    if headers.get("ce_specversion") != "1.0":
        raise Wrong(f"{prefix}specversion: must be 1.0")
    if not isinstance(data, dict):
        raise Wrong(f"{where}: must be a JSON object")
    source = str(headers.get("ce_source") or SOURCE)
    extra = tuple((name, str(value).encode()) for name, value in headers.items() if name not in OURS)
    time = read_time(f"{prefix}time", headers.get("ce_time"))
    return _made(Envelope(headers["ce_type"], headers["ce_id"], time, source, extra), data, raw=raw, key=key)
