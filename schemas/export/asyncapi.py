"""AsyncAPI 3.0: the topics from the worker's point of view; it receives commands and sends everything else.

One document that stands alone: the JSON Schemas are its components.  Knows no file.
"""

from typing import Any, NamedTuple

from schemas import examples
from schemas.cloudevents import SCHEMA_MAJOR
from schemas.commands import OPERATIONS
from schemas.export.headers import (
    by_reference,
    command_headers,
    dead_letter_headers,
    event_headers,
    record_key,
    verdict_headers,
)
from schemas.export.json_schema import Schema, schema_id
from schemas.export.prose import CHANNELS, COMMANDS, INTRODUCTION

BINDING = {"bindingVersion": "0.5.0"}
STATUS_TYPES = ("workflow.status_changed", "session.status_changed", "harness.status_changed")
OTHER_KEYS = ("results", "checkpoints", "dead-letters")
"""Channels whose records may have a key that is no aggregate's."""
RESULT_KEY = "The aggregate's key; where the command was unreadable, its record's own, or `unknown`."
DEAD_LETTER_KEY = "The record's own key; `unknown` where it had none or one over 512 bytes."
RESUMES = [name for name in OPERATIONS if name.endswith(".resume")]


class Message(NamedTuple):
    """One kind of record on a channel."""

    channel: str
    title: str
    summary: str
    headers: Schema
    payload: Schema
    key: str
    correlation: str | None = None
    """Where the command's id stands, as an AsyncAPI runtime expression."""


def asyncapi(schemas: dict[str, Schema]) -> dict[str, Any]:
    """The whole document; `schemas` are the published ones by name."""
    messages, shown = _messages(), [examples.load(name) for name in examples.names()]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "verdict-worker",
            "version": f"{SCHEMA_MAJOR}.0.0",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": _server()},
        "channels": {name: _channel(name, messages) for name in CHANNELS},
        "operations": _operations(messages),
        "components": {
            "schemas": _components(schemas),
            "messages": {name: _rendered(name, message, shown) for name, message in messages.items()},
        },
    }


def _messages() -> dict[str, Message]:
    own_id = "$message.header#/ce_id"
    of_command = "$message.payload#/command/id"
    messages = {
        name: Message(
            "commands",
            name,
            f"{(operation.__doc__ or name).splitlines()[0]} {COMMANDS[name].about}",
            command_headers(name, schema_id(name)),
            _component(name),
            f"`{COMMANDS[name].key}`; UUIDs and session ids in lower case.",
            own_id,
        )
        for name, operation in OPERATIONS.items()
    }
    messages["verdict"] = Message(
        "results",
        "Verdict",
        "The one answer to a command record.",
        verdict_headers(),
        _component("verdict"),
        RESULT_KEY,
        of_command,
    )
    messages["verdict.by_reference"] = Message(
        "results",
        "Verdict by reference",
        "A verdict over 64 KiB: the object named by `ce_dataref` in the store is the verdict.",
        by_reference(verdict_headers()),
        _component("blob"),
        RESULT_KEY,
    )
    for name in STATUS_TYPES:
        what = name.partition(".")[0]
        headers = event_headers(
            [name], "`{subject}/{subject_id}/{version}`: the same change may be read again.", "When it was decided."
        )
        summary = f"A {what}'s status changed; (subject, subject_id, version) identifies the change."
        messages[name] = Message("status", name, summary, headers, _component("status_event"), "The aggregate's key.")
    messages["audit_record"] = Message(
        "audit",
        "Audit record",
        "One decided input of an aggregate; holds the SHA-256 of the bytes of the record before.",
        event_headers(
            ["audit.decided", "audit.adopted", "audit.refused"],
            "`{type}/{id}/{audit_seq}`; of a refusal `{type}/{id}/refused/{partition}/{offset}`.",
            "When it was decided.",
        ),
        _component("audit_record"),
        "The aggregate's key.",
    )
    messages["checkpoint"] = Message(
        "checkpoints",
        "Checkpoint",
        "A signed Merkle root over a range of one partition of the audit topic; `payload` is a checkpoint.payload.",
        event_headers(["audit.checkpoint"], "`checkpoint/{partition}/{sequence}`.", "When it was made."),
        _component("checkpoint"),
        "`audit/{partition}`, of the audit topic.",
    )
    messages["dead_letter"] = Message(
        "dead-letters",
        "Dead letter",
        "A record that cannot be decided on: its value byte for byte (which may be no JSON), with the reason.",
        _component("dead_letter.headers"),
        {"description": "The record's value, byte for byte: anything."},
        DEAD_LETTER_KEY,
    )
    messages["dead_letter.by_reference"] = Message(
        "dead-letters",
        "Dead letter by reference",
        "A dead letter over 64 KiB: the object named by `ce_dataref` in the store is the record's value.",
        _inlined(by_reference(dead_letter_headers())),
        _component("blob"),
        DEAD_LETTER_KEY,
    )
    return messages


def _rendered(name: str, message: Message, shown: list[examples.Example]) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "name": name,
        "title": message.title,
        "summary": message.summary,
        "contentType": "application/json" if message.payload.get("$ref") else "application/octet-stream",
        "headers": message.headers,
        "payload": message.payload,
        "bindings": {"kafka": {"key": record_key(message.key, strict=message.channel not in OTHER_KEYS), **BINDING}},
    }
    if message.correlation:
        rendered["correlationId"] = {"location": message.correlation, "description": "The command's id."}
    rendered["examples"] = [
        {"name": example.name, "headers": example.headers, "payload": example.payload}
        for example in shown
        if example.message == name
    ]
    return rendered


def _server() -> dict[str, Any]:
    return {
        "host": "{bootstrap}",
        "protocol": "kafka",
        "description": "The embedded stack has the same topics in one file; `worker send` and `worker results` speak to"
        " both.",
        "variables": {"bootstrap": {"default": "localhost:9092", "description": "Host and port of a broker."}},
    }


def _channel(name: str, messages: dict[str, Message]) -> dict[str, Any]:
    return {
        "address": f"{{prefix}}.{name}",
        "title": name,
        "description": CHANNELS[name],
        "parameters": {"prefix": {"default": "worker", "description": "Prefix of all topics, a setting."}},
        "messages": {
            own: {"$ref": f"#/components/messages/{own}"}
            for own, message in messages.items()
            if message.channel == name
        },
    }


def _operations(messages: dict[str, Message]) -> dict[str, Any]:
    def on(channel: str, action: str, summary: str, only: list[str] | None = None) -> dict[str, Any]:
        names = only or [name for name, message in messages.items() if message.channel == channel]
        return {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": summary,
            "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
        }

    receive = on("commands", "receive", "Decide each command; exactly one verdict follows.")
    receive["bindings"] = {"kafka": {"groupId": {"type": "string", "default": "worker"}, **BINDING}}
    receive["reply"] = {
        "channel": {"$ref": "#/channels/results"},
        "messages": [{"$ref": f"#/channels/results/messages/{name}"} for name in ("verdict", "verdict.by_reference")],
    }
    return {
        "receiveCommand": receive,
        "sendVerdict": on("results", "send", "Answer a command record, once for readers of committed data."),
        "sendStatusEvent": on("status", "send", "Tell a change of status, in version order."),
        "sendAuditRecord": on("audit", "send", "Tell what was decided, on what grounds."),
        "sendCheckpoint": on("checkpoints", "send", "Seal what the audit topic holds."),
        "sendDeadLetter": on("dead-letters", "send", "Put aside a record that nobody can decide on."),
        "sendResume": on("commands", "send", "The reconciler: go on with what was left unsettled.", RESUMES),
    }


def _component(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _components(schemas: dict[str, Schema]) -> dict[str, Schema]:
    """All schemas and their definitions, side by side."""
    components: dict[str, Schema] = {}
    for name, schema in schemas.items():
        definitions = schema.get("$defs", {})
        body = {key: value for key, value in schema.items() if key not in ("$schema", "$id", "$defs")}
        for each, part in {name: body, **definitions}.items():
            moved = _inlined(part)
            assert components.setdefault(each, moved) == moved, f"two definitions are called {each}"
    return components


def _inlined(node: Any) -> Any:
    """References to components; a reference with siblings becomes `allOf`, as AsyncAPI's dialect ignores siblings."""
    if isinstance(node, list):
        return [_inlined(value) for value in node]
    if not isinstance(node, dict):
        return node
    moved = {key: _inlined(value) for key, value in node.items()}
    reference = node.get("$ref")
    if not isinstance(reference, str):
        return moved
    moved["$ref"] = reference.replace("#/$defs/", "#/components/schemas/")
    if len(moved) == 1:
        return moved
    return {"allOf": [{"$ref": moved.pop("$ref")}], **moved}
