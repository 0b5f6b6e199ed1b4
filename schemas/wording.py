"""What a broken rule is called in front of people: no regular expression, and no phrase of a library.

Knows pydantic's errors and the published ids; nothing of where an error is shown.
"""

from typing import Any, Final, get_args

from pydantic import StringConstraints
from pydantic_core import ErrorDetails

from schemas.base import CommandId, DnsLabel, DnsName, Identity, SessionId, Token, Uuid
from schemas.commands import Owner, Permission


def _pattern(kind: Any) -> str:
    [pattern] = [str(each.pattern) for each in get_args(kind) if isinstance(each, StringConstraints)]
    return pattern


SHAPES: Final = {
    _pattern(Uuid): "must be a UUID",
    _pattern(SessionId): "must be {26 characters}.{zone}",
    _pattern(Token): "must be 1 to 128 letters, digits or ._:- that begin with a letter or digit",
    _pattern(CommandId): "must be 1 to 200 letters, digits or ._:/+=- that begin with a letter or digit",
    _pattern(Identity): "must be 1 to 200 letters, digits or ._:/- that begin with a letter or digit",
    _pattern(DnsLabel): "must be 1 to 63 lower-case letters, digits or hyphens",
    _pattern(DnsName): "must be 1 to 253 lower-case letters, digits, hyphens or dots",
    _pattern(Owner): "must be apiVersion/kind/name/uid, such as batch/v1/CronJob/nightly/{uid}",
    _pattern(Permission): "must be two words around a colon, such as agent:write",
}
"""What a text must look like, by the pattern that says so exactly."""

NUMBER, TRUTH, OBJECT, LIST = "must be a number", "must be true or false", "must be a JSON object", "must be a list"
WHOLE = "must be a whole number"
TIME = "must be a time that exists, such as 2026-01-31T12:00:00Z"
RULES: Final = {
    "missing": "is missing",
    "extra_forbidden": "no such field",
    "string_type": "must be a text",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), WHOLE),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), TRUTH),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), OBJECT),
    **dict.fromkeys(("list_type", "tuple_type"), LIST),
    **dict.fromkeys(("datetime_parsing", "datetime_from_date_parsing"), TIME),
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "greater_than": "must be above {gt:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "less_than": "must be below {lt:.15g}",
    "string_too_short": "must not be shorter than {min_length}",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} items",
}
"""What a rule says, by pydantic's name of it, with the limits that come with the error."""


def rule(error: ErrorDetails) -> str:
    """The rule that is broken, in words that follow the field's name; never the value that was given."""
    limits = error.get("ctx", {})
    if error["type"] == "string_pattern_mismatch":
        return SHAPES.get(limits["pattern"], "has a character, or a form, that cannot stand there")
    if error["type"] in RULES:
        return RULES[error["type"]].format(**limits)
    return error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
