"""AsyncAPI and OpenAPI as published: valid by their own schemas, and true of what the worker sends and understands."""

import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from schemas import examples
from schemas.base import Blob, Coordinates, Model
from schemas.cloudevents import headers
from schemas.executor import CancelTurn, TurnCancel
from schemas.export.asyncapi import asyncapi
from schemas.export.json_schema import json_schemas, subschemas
from schemas.export.openapi import openapi
from tests.unit.given import NOW
from worker.ports import Headers, Record, Topic, TurnAnswer
from worker.runtime.outgoing import dead_letter, result

OTHERS = Path(__file__).parent / "schemas_of_others"
ASYNCAPI = asyncapi(json_schemas())
OPENAPI = openapi()
MESSAGES = sorted(ASYNCAPI["components"]["messages"])
AT = Coordinates(partition=3, offset=7)


def within(document: dict[str, Any], pointer: str) -> dict[str, Any]:
    """A schema that stands somewhere in a document, with everything that it may refer to."""
    return {"$ref": pointer, "components": document["components"]}


def resolve(document: Any, reference: str) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


def test_asyncapi_is_valid_by_its_own_schema_and_every_reference_leads_somewhere() -> None:
    judge = Draft7Validator(json.loads((OTHERS / "asyncapi-3.0.0.json").read_text()))
    assert [error.message[:200] for error in judge.iter_errors(ASYNCAPI)] == []
    assert not judge.is_valid(ASYNCAPI | {"operations": {"send": {"action": "shout"}}})
    for part in subschemas(ASYNCAPI):
        if isinstance(reference := part.get("$ref"), str):
            assert resolve(ASYNCAPI, reference) is not None, reference


@pytest.mark.parametrize("message", MESSAGES)
def test_the_examples_in_asyncapi_follow_the_payload_headers_and_key_beside_them(message: str) -> None:
    body = ASYNCAPI["components"]["messages"][message]
    pointer = f"#/components/messages/{message}"
    for shown in body["examples"]:
        Draft202012Validator(within(ASYNCAPI, f"{pointer}/payload")).validate(shown["payload"])
        Draft202012Validator(within(ASYNCAPI, f"{pointer}/headers")).validate(shown["headers"])
        Draft202012Validator(body["bindings"]["kafka"]["key"]).validate(examples.load(shown["name"]).key)
        unnamed = {name: text for name, text in shown["headers"].items() if name != "ce_id"}
        assert not Draft202012Validator(within(ASYNCAPI, f"{pointer}/headers")).is_valid(unnamed)


def test_the_headers_of_every_event_are_those_that_are_published() -> None:
    sent = headers(id="e1", type="audit.decided", time=NOW, subject="org/o")
    published = ASYNCAPI["components"]["messages"]["audit_record"]["headers"]
    assert sorted(name for name, _ in sent) == sorted(published["required"])
    judge_headers("audit_record", sent)


def test_a_verdict_is_published_as_it_is_described_inline_and_by_reference() -> None:
    blob = Blob(sha256="0" * 64, bytes=70_000)
    for message, body in (("verdict", b"{}"), ("verdict.by_reference", blob)):
        sent = result("evaluation/x", AT, AT, body, NOW)
        judge_headers(message, sent.headers)
        assert message == "verdict" or json.loads(sent.value) == blob.model_dump()


@pytest.mark.parametrize(
    ("message", "size", "header_size"),
    [("dead_letter", 10, 10), ("dead_letter", 10, 20_000), ("dead_letter.by_reference", 70_000, 10)],
)
def test_a_dead_letter_is_published_as_it_is_described(message: str, size: int, header_size: int) -> None:
    record = Record(Topic.COMMANDS, 3, 7, NOW, None, b"x" * size, (("ce_id", b"i" * header_size),))
    sent, _ = dead_letter(record, "data: must be JSON")
    judge_headers(message, sent.headers)


def judge_headers(message: str, sent: Headers) -> None:
    written = {name: value.decode() for name, value in sent}
    Draft202012Validator(within(ASYNCAPI, f"#/components/messages/{message}/headers")).validate(written)


def test_openapi_is_valid_by_its_own_schema_and_says_what_the_port_understands() -> None:
    judge = Draft202012Validator(json.loads((OTHERS / "openapi-3.1.json").read_text()))
    assert [error.message[:200] for error in judge.iter_errors(OPENAPI)] == []
    assert not judge.is_valid(OPENAPI | {"paths": {"no slash": {}}})
    port = get_type_hints(TurnAnswer)
    assert TurnCancel.model_fields["status"].annotation == port["status"]
    assert TurnCancel.model_fields["outcome"].annotation == port["outcome"]


@pytest.mark.parametrize(("name", "model"), [("executor.request", CancelTurn), ("executor.answer", TurnCancel)])
def test_the_example_bodies_follow_their_schemas(name: str, model: type[Model]) -> None:
    payload = examples.load(name).payload
    Draft202012Validator(within(OPENAPI, f"#/components/schemas/{model.__name__}")).validate(payload)
    model.model_validate(payload)


def test_every_example_in_openapi_follows_the_schema_beside_it() -> None:
    shown = [part for part in subschemas(OPENAPI) if "example" in part and "schema" in part]
    assert len(shown) == 4
    for part in shown:
        Draft202012Validator(within(OPENAPI, part["schema"]["$ref"])).validate(part["example"])


def test_every_field_in_openapi_is_described() -> None:
    for schema in OPENAPI["components"]["schemas"].values():
        assert all(field["description"] for field in schema["properties"].values())
