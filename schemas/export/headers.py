"""The headers of each message as JSON Schema: CloudEvents 1.0 in Kafka's binary mode (`schemas.cloudevents`).

A header's value is UTF-8 text.  Knows no message's payload.
"""

from typing import Any

from pydantic import TypeAdapter

from schemas.base import CommandId, Sha256, Time
from schemas.cloudevents import REQUIRED, SOURCE, SPEC_VERSION

Schema = dict[str, Any]
KEY_PATTERN = r"^(evaluation|custom-harness|session|org)/[^/]+$"


def _like(scalar: Any, description: str, **more: Any) -> Schema:
    """A header whose text has the rules of a scalar of the models."""
    return {**TypeAdapter(scalar).json_schema(), "description": description, **more}


def _object(properties: dict[str, Schema], required: list[str], description: str, **more: Any) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
        "additionalProperties": True,
        **more,
    }


def command_headers(command_type: str, schema_id: str) -> Schema:
    """What a publisher of a command sends beside the data."""
    properties = {
        "ce_specversion": {"type": "string", "const": SPEC_VERSION, "description": "Version of CloudEvents."},
        "ce_id": _like(
            CommandId,
            "The command's id, 1 to 200 characters: the same id and data again, from any producer, is answered with"
            " the same verdict and does nothing. A UUID is a good choice.",
        ),
        "ce_type": {"type": "string", "const": command_type, "description": "The command's type."},
        "ce_source": {
            "type": "string",
            "minLength": 1,
            "format": "uri-reference",
            "description": "Who publishes, such as the name of the API tier.",
        },
        "ce_time": _like(
            Time,
            "When the command was made, RFC 3339 with an offset; at most 5 minutes after the record's timestamp."
            " Publishing the command again repeats the first time.",
        ),
        "ce_subject": {
            "type": "string",
            "pattern": KEY_PATTERN,
            "description": "The aggregate, the same text as the record's key; for readers, the worker does not use it.",
        },
        "ce_dataschema": {
            "type": "string",
            "format": "uri",
            "examples": [schema_id],
            "description": "The data's schema; a major (the number after the last slash) that is not known makes the"
            " record a dead letter. Left out: the current one.",
        },
        "content-type": {
            "type": "string",
            "description": "The type of the value: application/json. With application/cloudevents+json the value is"
            " the whole event (structured mode), and the ce_ headers are not read.",
        },
        "traceparent": {
            "type": "string",
            "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
            "description": "W3C trace context of whoever publishes.",
        },
    }
    about = "CloudEvents 1.0, binary mode. Names are matched in any letter case; other headers are ignored."
    return _object(properties, [f"ce_{name}" for name in REQUIRED], about)


def event_headers(
    types: list[str],
    id_meaning: str,
    time_meaning: str,
    extra: dict[str, Schema] | None = None,
    content_types: tuple[str, ...] = ("application/json",),
) -> Schema:
    """What the worker sends beside a value; `extra` headers are required."""
    properties: dict[str, Schema] = {
        "ce_specversion": {"type": "string", "const": SPEC_VERSION, "description": "Version of CloudEvents."},
        "ce_id": {"type": "string", "minLength": 1, "description": id_meaning},
        "ce_type": {"type": "string", "enum": types, "description": "The event's type."},
        "ce_source": {"type": "string", "const": SOURCE, "description": "The worker."},
        "ce_time": _like(Time, time_meaning),
        "ce_subject": {"type": "string", "description": "The aggregate, the same text as the record's key."},
        "content-type": {"type": "string", "enum": list(content_types), "description": "The type of the value."},
        **(extra or {}),
    }
    return _object(properties, list(properties), "CloudEvents 1.0, binary mode; other headers may follow.")


def verdict_headers() -> Schema:
    """Of a verdict: beside the envelope, which command record this result record answers."""
    return event_headers(
        ["command.verdict"],
        "UUIDv5 of the record that was first answered with these bytes; a duplicate command gets the same one.",
        "When the command record was received (its timestamp).",
        {
            "verdict-partition": _number("Partition of the command record that this record answers."),
            "verdict-offset": _number("Offset of the command record that this record answers."),
        },
    )


def dead_letter_headers() -> Schema:
    """Of a dead letter: where it stood, why it is here, and the headers that it had."""
    schema = event_headers(
        ["dead_letter"],
        "UUIDv5 of the record's coordinates.",
        "The record's timestamp.",
        {
            "dead-letter-reason": {"type": "string", "minLength": 1, "description": "Which field breaks which rule."},
            "dead-letter-partition": _number("Partition of the commands topic in which the record stood."),
            "dead-letter-offset": _number("Offset of the record in that partition."),
        },
        ("application/octet-stream", "application/json"),
    )
    schema["title"] = "DeadLetterHeaders"
    schema["properties"] |= {
        "ce_dataref": dataref(),
        "dead-letter-headers-dataref": dataref()
        | {"description": "Where the record's headers are, `name: value` a line, when they are over 16 KiB together."},
    }
    schema["patternProperties"] = {
        "^original-": {"type": "string", "description": "A header of the record, under its own name after `original-`."}
    }
    return schema


def by_reference(headers: Schema) -> Schema:
    """The same headers where the payload was over 64 KiB."""
    properties = headers["properties"] | {"ce_dataref": dataref()}
    return {**headers, "properties": properties, "required": [*headers["required"], "ce_dataref"]}


def dataref() -> Schema:
    """CloudEvents' extension `dataref`."""
    hexadecimal = TypeAdapter(Sha256).json_schema()["pattern"].strip("^$")
    return {
        "type": "string",
        "pattern": f"^blobs/{hexadecimal}$",
        "description": "Key in the store of a payload over 64 KiB; the value then holds its SHA-256 and size in bytes.",
    }


def record_key(description: str, *, strict: bool) -> Schema:
    """The key of a record; `strict`: always an aggregate's."""
    return {"type": "string", **({"pattern": KEY_PATTERN} if strict else {}), "description": description}


def _number(description: str) -> Schema:
    return {"type": "string", "pattern": "^[0-9]+$", "description": f"{description} A decimal number."}
