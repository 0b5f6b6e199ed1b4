"""The published language: generated files, examples, and the judges from outside (JSON Schema, AsyncAPI, OpenAPI)."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas import examples
from schemas.audit import AuditRecord
from schemas.base import Model
from schemas.changes import HarnessChanges
from schemas.codes import CODES
from schemas.commands import HarnessUpdate
from schemas.documents import Document
from schemas.export.__main__ import PUBLISHED, differing, generated, main
from schemas.export.asyncapi import asyncapi
from schemas.export.json_schema import MODELS, json_schemas, subschemas
from schemas.export.openapi import openapi
from schemas.export.prose import COMMANDS
from schemas.verdicts import Verdict
from tests.unit.given import NOW, context
from worker.decoding import Decoded, Poison, Rejected, decode
from worker.domain.decide import decide
from worker.domain.decision import Refused
from worker.domain.harness import Changes, parse_changes
from worker.ports import Record, Topic

OTHERS = Path(__file__).parent / "schemas_of_others"
SCHEMAS = json_schemas()
ASYNCAPI = asyncapi(SCHEMAS)
OPENAPI = openapi()
STRUCTURED = (("content-type", b"application/cloudevents+json"),)
COMMAND_EXAMPLES = examples.names("commands")
SCHEMA_EXAMPLES = [name for name in examples.names() if examples.load(name).schema]
MESSAGES = sorted(ASYNCAPI["components"]["messages"])


def model_of(schema: str) -> type[Model]:
    return MODELS.get(schema, Document)


def record(example: examples.Example, *, structured: bool = False, **changed: Any) -> Record:
    payload = {**example.payload, **changed} if changed else example.payload
    binary = tuple((name, text.encode()) for name, text in example.headers.items())
    value = {**example.structured(), "data": payload} if structured else payload
    now = NOW.replace(year=NOW.year + 1)  # later than every ce_time of the story
    raw = json.dumps(value).encode()
    return Record(Topic.COMMANDS, 3, 1, now, example.key.encode(), raw, STRUCTURED if structured else binary)


def decoded(example: examples.Example, **more: Any) -> Decoded:
    result = decode(record(example, **more), 1_000_000)
    assert isinstance(result, Decoded), result
    return result


def is_valid(schema: dict[str, Any], instance: Any) -> bool:
    return bool(Draft202012Validator(schema).is_valid(instance))


# ------------------------------------------------------------------------------ generated files


def test_the_published_files_are_what_the_models_say() -> None:
    assert differing(PUBLISHED, generated()) == []


def test_check_names_each_file_that_differs_and_writing_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    (tmp_path / "verdict.schema.json").write_text("{}")
    (tmp_path / "codes.json").unlink()
    (tmp_path / "left_over.json").write_text("{}")
    assert main(["--check"], tmp_path) == 1
    told = capsys.readouterr().err
    assert all(name in told for name in ("verdict.schema.json", "codes.json", "left_over.json"))
    assert "asyncapi.json" not in told
    assert main([], tmp_path) == 0
    assert differing(tmp_path, generated()) == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_property_is_described_in_words_that_stand_alone(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    for part in subschemas(SCHEMAS[name]):
        for field, body in fields(part):
            text = body.get("description", "")
            assert text, f"{part.get('title')}.{field} has no description"
        if isinstance(text := part.get("description", ""), str):
            assert "contract" not in text, text
            assert "design" not in text, text


def fields(part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The properties of an object's schema; a field that is itself called `properties` is none."""
    if part.get("type") == "object" and isinstance(part.get("properties"), dict):
        yield from part["properties"].items()


def test_importing_the_language_stays_light() -> None:
    script = """
import sys
import schemas.audit, schemas.changes, schemas.cloudevents, schemas.executor
assert not [name for name in sys.modules if name.startswith(("schemas.export", "schemas.examples", "worker"))]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


# ------------------------------------------------------------------------------ examples


@pytest.mark.parametrize("name", SCHEMA_EXAMPLES)
def test_an_example_is_valid_for_a_judge_that_does_not_know_pydantic(name: str) -> None:
    example = examples.load(name)
    Draft202012Validator(SCHEMAS[example.schema]).validate(example.payload)


@pytest.mark.parametrize("name", [n for n in SCHEMA_EXAMPLES if n not in COMMAND_EXAMPLES])
def test_an_example_is_what_its_model_reads_and_writes(name: str) -> None:
    example = examples.load(name)
    model = model_of(example.schema).model_validate(example.payload)
    assert model.model_validate_json(model.model_dump_json()) == model


@pytest.mark.parametrize("name", COMMAND_EXAMPLES)
def test_an_example_command_is_decoded_in_both_modes(name: str) -> None:
    example = examples.load(name)
    command = decoded(example).command
    assert command.type == example.headers["ce_type"]
    assert command.aggregate.key == example.key == example.headers["ce_subject"]
    assert decoded(example, structured=True).command == command


@pytest.mark.parametrize("name", SCHEMA_EXAMPLES)
def test_a_missing_required_field_is_refused_by_both(name: str) -> None:
    example = examples.load(name)
    schema = SCHEMAS[example.schema]
    for field in schema.get("required", []):
        payload = {key: value for key, value in example.payload.items() if key != field}
        assert not is_valid(schema, payload)
        assert refused(example, payload), f"{name} without {field}"


@pytest.mark.parametrize("name", SCHEMA_EXAMPLES)
def test_a_wrong_type_is_refused_by_both(name: str) -> None:
    example = examples.load(name)
    schema = SCHEMAS[example.schema]
    for field, value in example.payload.items():
        payload = example.payload | {field: 7 if isinstance(value, dict) or value is None else {"no": "such type"}}
        assert not is_valid(schema, payload), f"{name}.{field}"
        assert refused(example, payload), f"{name}.{field}"


def refused(example: examples.Example, payload: dict[str, Any]) -> bool:
    if example.channel == "commands":
        changed = examples.Example(example.name, "commands", "", "", example.key, example.headers, payload)
        result = decode(record(changed), 1_000_000)
        if isinstance(result, Decoded) and isinstance(result.command.operation, HarnessUpdate):
            return not isinstance(parse_changes(result.command.operation.changes), Changes)  # checked by the decider
        return isinstance(result, Rejected | Poison)
    try:
        model_of(example.schema).model_validate(payload)
    except ValueError:
        return True
    return False


def test_exactly_one_of_evaluation_and_harness_must_be_given() -> None:
    example = examples.load("workflow.update")
    both = example.payload | {"harness_id": example.payload["evaluation_id"]}
    neither = {key: value for key, value in example.payload.items() if key != "evaluation_id"}
    for payload in (both, neither):
        assert not is_valid(SCHEMAS["workflow.update"], payload)
        assert refused(example, payload)


def test_every_message_and_every_schema_has_an_example() -> None:
    shown = [examples.load(name) for name in examples.names()]
    assert set(MESSAGES) <= {example.message for example in shown}
    assert set(SCHEMAS) - {"dead_letter.headers"} == {example.schema for example in shown if example.schema}


def test_the_examples_of_verdicts_agree_with_the_table_of_codes() -> None:
    for name in examples.names("results"):
        if name != "verdict.by_reference":
            verdict = Verdict.model_validate(examples.load(name).payload)
            assert (verdict.outcome, verdict.http_status) == CODES[verdict.code][:2], name


def test_the_examples_of_audit_records_form_a_chain() -> None:
    chain = [examples.load(f"audit_record.{name}").payload for name in ("adopted", "decided", "observed")]
    assert [AuditRecord.model_validate(record).audit_seq for record in chain] == [1, 3, 4]
    assert chain[1]["state_after_sha256"] == chain[2]["state_before_sha256"]


def test_an_unknown_example_is_told_with_the_names_that_there_are() -> None:
    with pytest.raises(KeyError, match=r"evaluation\.cancel"):
        examples.load("nope")
    with pytest.raises(KeyError):
        examples.load("../published/codes")


# ------------------------------------------------------------------------------ what is said of a command


@pytest.mark.parametrize("name", COMMAND_EXAMPLES)
def test_the_permission_and_the_key_that_are_published_are_the_ones_that_decide(name: str) -> None:
    example = examples.load(name)
    prose = COMMANDS[example.message]
    ids = {"evaluation_id": "", "harness_id": "", **example.payload}
    assert example.key in [template.strip("`").format_map(ids) for template in prose.key.split(" or ")]
    for permissions, denied in (((), True), ((prose.permission,), False)):
        command = decoded(example, actor={**example.payload["actor"], "permissions": list(permissions)}).command
        decision = decide(None, command, context(zones=()))
        assert isinstance(decision, Refused)
        assert (decision.verdict.code == "permission_denied") is denied


def test_the_published_changes_of_a_harness_are_those_that_the_rules_read() -> None:
    assert set(HarnessChanges.model_fields) == set(Changes.model_fields)


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({}, True),
        ({"name": "a-b-1", "description": "", "system_prompt": "", "tags": [], "network_access": {}}, True),
        ({"parent_harness_id": None, "display_name": None, "capabilities": [{"ref": "x"}]}, True),
        ({"name": "Not-Lower"}, False),
        ({"name": "x" * 65}, False),
        ({"display_name": "x" * 256}, False),
        ({"description": "x" * 10_241}, False),
        ({"system_prompt": "x" * (1024 * 1024 + 1)}, False),
        ({"parent_harness_id": "base"}, False),
        ({"tags": [1]}, False),
        ({"capabilities": [{"ref": f"c{n}"} for n in range(251)]}, False),
        ({"initial_files": [{"path": f"f{n}", "content": ""} for n in range(101)]}, False),
        ({"initial_files": [{"path": "f", "content": "", "encoding": "hex"}]}, False),
        ({"status": "paused"}, False),
    ],
)
def test_the_published_limits_of_a_change_are_those_of_the_rules(changes: dict[str, Any], accepted: bool) -> None:
    payload = examples.load("harness.update").payload | {"changes": changes}
    assert is_valid(SCHEMAS["harness.update"], payload) is accepted
    assert isinstance(parse_changes(changes), Changes) is accepted
