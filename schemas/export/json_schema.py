"""JSON Schema 2020-12 of every message and document, from the models.

A schema says what a publisher should send, and what a reader may find; the worker is more lenient on input (letter
case of ids and statuses, keys that it does not know).  Knows no file, and nothing of AsyncAPI.
"""

from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from schemas.audit import AuditRecord, DecisionSettings
from schemas.base import Blob, Model
from schemas.changes import HarnessChanges
from schemas.checkpoints import Checkpoint, SignedCheckpoint
from schemas.cloudevents import SCHEMA_MAJOR
from schemas.codes import CODES
from schemas.commands import OPERATIONS, Common
from schemas.documents import Document, HarnessMetadata, OrgState, SessionState, Unsettled, WorkflowState
from schemas.export.headers import dead_letter_headers
from schemas.harness import Harness
from schemas.status_events import StatusEvent
from schemas.verdicts import Verdict

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"

MODELS: dict[str, type[Model]] = {
    "verdict": Verdict,
    "status_event": StatusEvent,
    "audit_record": AuditRecord,
    "checkpoint": SignedCheckpoint,
    "checkpoint.payload": Checkpoint,
    "blob": Blob,
    "document.custom_harness_metadata": HarnessMetadata,
    "document.harness": Harness,
    "document.unsettled": Unsettled,
    "document.decision_settings": DecisionSettings,
}
STATES: dict[str, type[Model]] = {
    "document.workflow": WorkflowState,
    "document.session": SessionState,
    "document.org": OrgState,
}


def json_schemas() -> dict[str, Schema]:
    """Every published schema by name; a command's is its type, and its `$id` serves as `ce_dataschema`."""
    bodies = {name: _command(name, operation) for name, operation in OPERATIONS.items()}
    bodies |= {name: schema_of(model) for name, model in MODELS.items()}
    bodies |= {name: _document(state) for name, state in STATES.items()}
    bodies["dead_letter.headers"] = dead_letter_headers()
    return {name: {"$schema": DIALECT, "$id": schema_id(name), **body} for name, body in bodies.items()}


def schema_id(name: str) -> str:
    """`urn:verdict-worker:evaluation.cancel/v1`; the worker reads the major after the last slash."""
    return f"urn:verdict-worker:{name}/v{SCHEMA_MAJOR}"


def code_table() -> list[Schema]:
    """Every code that a verdict may carry."""
    return [{"code": code, **row._asdict()} for code, row in CODES.items()]


class _Generator(GenerateJsonSchema):
    """Leaves out what only repeats: titles of fields, and `discriminator`, since the tags are constants."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> Schema:
        union = super().tagged_union_schema(schema)
        union.pop("discriminator", None)
        return union


def schema_of(model: type[Model]) -> Schema:
    """A model's schema with its `$defs`; the tag of a union's alternative is required, as pydantic requires it."""
    schema = model.model_json_schema(schema_generator=_Generator)
    for part in subschemas(schema):
        if isinstance(about := part.get("description"), str):
            part["description"] = " ".join(about.split())
        if part.get("default", ...) is None:
            del part["default"]  # left out is not always the same as null
        tags = [name for name, field in part.get("properties", {}).items() if "const" in field and "default" in field]
        for name in tags:
            constant = part["properties"][name]["const"]
            meaning = f"Always `{constant}`, which tells the alternatives apart."
            part["properties"][name] = {"type": "string", "const": constant, "description": meaning}
        if tags:
            part["required"] = [*tags, *part.get("required", [])]
    return schema


def subschemas(node: Any) -> Iterator[Schema]:
    """Every object within, itself included; a superset of the subschemas."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from subschemas(value)
    elif isinstance(node, list):
        for value in node:
            yield from subschemas(value)


def _command(name: str, operation: type[Model]) -> Schema:
    """Common fields and the operation's in one object, as a record's data has them: the type stands in the envelope."""
    common, own = schema_of(Common), schema_of(operation)
    properties = common["properties"] | {field: body for field, body in own["properties"].items() if field != "op"}
    required = [field for field in (*common["required"], *own.get("required", [])) if field != "op"]
    definitions = common.get("$defs", {}) | own.get("$defs", {})
    if "changes" in properties:
        changes = schema_of(HarnessChanges)
        definitions |= changes.pop("$defs") | {"HarnessChanges": changes}
        about = properties["changes"]["description"]
        properties["changes"] = {"$ref": "#/$defs/HarnessChanges", "description": about}
        required.append("changes")  # the decider asks for it, after the permission
    whole = {**own, "title": name, "properties": properties, "required": required, "$defs": definitions}
    return _pruned(whole)


def _document(state: type[Model]) -> Schema:
    """A stored document, with the one kind of state that it has under its key."""
    schema = schema_of(Document)
    about = schema["properties"]["state"]["description"]
    schema["properties"]["state"] = {"$ref": f"#/$defs/{state.__name__}", "description": about}
    schema["title"] = state.__name__.replace("State", "Document")
    return _pruned(schema)


def _pruned(schema: Schema) -> Schema:
    """Without definitions that nothing refers to; in alphabetical order."""
    definitions = schema.get("$defs", {})
    rest = {name: body for name, body in schema.items() if name != "$defs"}
    reached: set[str] = set()
    pending = [rest]
    while pending:
        for part in subschemas(pending.pop()):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name in definitions and name not in reached:
                reached.add(name)
                pending.append(definitions[name])
    return {**rest, "$defs": {name: definitions[name] for name in sorted(reached)}} if reached else rest
