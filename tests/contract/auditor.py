"""An auditor of the log who has read schemas/AUDIT.md and nothing else: standard library, no import of ours.

It says what is wrong as `rule at partition:offset` (or a document's key), and nothing where all is well.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Json = Any
Schema = dict[str, Any]


class Value(NamedTuple):
    """A record of the audit topic, as read."""

    partition: int
    offset: int
    key: str
    event_id: str
    value: bytes


class Auditor:
    """`schemas` are the published ones by file name, `objects` reads the store by key."""

    def __init__(self, schemas: Mapping[str, Schema], objects: Callable[[str], bytes | None]) -> None:
        self._schema = schemas["audit_record.schema.json"]
        self._objects = objects
        self.heads: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.repeated = 0

    # ------------------------------------------------------------------------------ "To verify", steps 1 to 4

    def verify(self, log: Iterable[Value]) -> list[str]:
        seen: dict[str, bytes] = {}
        problems = []
        for each in log:
            where = f"{each.partition}:{each.offset}"
            if each.event_id in seen:
                self.repeated += 1
                problems += [] if seen[each.event_id] == each.value else [f"repetition at {where}"]
                continue
            seen[each.event_id] = each.value
            problems += [f"{rule} at {where}" for rule in self._record(each)]
        return problems

    def _record(self, each: Value) -> Iterator[str]:
        record = json.loads(each.value)
        if f"{record['aggregate']['type']}/{record['aggregate']['id']}" != each.key:
            yield "key"
        if record["kind"] != "refused":
            yield from self._link(each.key, record)
            self.heads[each.key] = (record, each.value)
        yield from self._references(record)
        found = self._whole(record.get("found"))
        if found is not None and record["kind"] == "adopted" and self.digest(found) != record["state_after_sha256"]:
            yield "found"
        for event in self._whole(record.get("events", [])) or []:
            if event["kind"] in ("remembered", "failed"):
                verdict = self.canonical("Verdict", event["verdict"])
                if sha256(text(verdict)) != event["entry"]["verdict_sha256"]:
                    yield "verdict"

    def _link(self, key: str, record: dict[str, Any]) -> Iterator[str]:
        before, value = self.heads.get(key, ({"audit_seq": 0}, None))
        if record["audit_seq"] != before["audit_seq"] + 1:
            yield "audit_seq"
        if record.get("previous_sha256") != (sha256(value) if value else None):
            yield "chain"
        if record.get("state_before_sha256") != before.get("state_after_sha256"):
            yield "state"

    def _references(self, record: dict[str, Any]) -> Iterator[str]:
        context = record["context"]
        names = [context["settings_sha256"]]
        names += [record[name]["sha256"] for name in ("input", "events", "found") if is_reference(record.get(name))]
        for read in context.get("documents", []):
            if read["key"].startswith("blobs/") and "sha256" in read:
                names.append(read["sha256"])
            elif "sha256" in read and sha256(read["content"].encode()) != read["sha256"]:
                yield "document read"
        for name in names:
            if sha256(self._objects(f"blobs/{name}") or b"") != name:
                yield "reference"

    def _whole(self, part: Json) -> Json:
        """A field of a record, wherever it is."""
        if not is_reference(part):
            return part
        body = self._objects(f"blobs/{part['sha256']}")
        return json.loads(body) if body else None

    # ------------------------------------------------------------------------------ step 5

    def document(self, key: str, body: bytes) -> list[str]:
        """A document against the head of its aggregate, `key`."""
        document = json.loads(body)
        chain = document["chain"]
        last = self.heads[key][1]
        for entry in document["outbox"]:
            if entry["topic"] == "audit" and entry["audit_seq"] > self.heads[key][0]["audit_seq"]:
                last = entry["body"].encode()
        problems = []
        if sha256(last) != chain["record_sha256"] or json.loads(last)["audit_seq"] != chain["audit_seq"]:
            problems.append(f"head at {key}")
        if self.digest(document["state"]) != json.loads(last)["state_after_sha256"]:
            problems.append(f"state at {key}")
        return problems

    # ------------------------------------------------------------------------------ "Hashes"

    def digest(self, state: dict[str, Any]) -> str:
        name = {"workflow": "WorkflowState", "session": "SessionState", "org": "OrgState"}[state["kind"]]
        whole = self.canonical(name, state)
        entries = b"".join(hashlib.sha256(text(entry)).digest() for entry in whole["answered"])
        return sha256(text(whole | {"answered": []}) + b"\n" + entries)

    def canonical(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        """Every property, in the order of the schema."""
        whole: dict[str, Any] = self._canonical(self._schema["$defs"][name], value)
        return whole

    def _canonical(self, schema: Schema, value: Json) -> Json:
        if "$ref" in schema:
            schema = self._schema["$defs"][schema["$ref"].rpartition("/")[2]]
        if value is None:
            return None
        if choices := schema.get("anyOf") or schema.get("oneOf"):
            return self._canonical(next(choice for choice in choices if self._fits(choice, value)), value)
        if isinstance(value, list):
            return [self._canonical(schema.get("items", {}), item) for item in value]
        if isinstance(value, dict) and "properties" in schema:
            properties = schema["properties"]
            return {n: self._canonical(s, value.get(n, s.get("default"))) for n, s in properties.items()}
        if isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
            return {n: self._canonical(schema["additionalProperties"], item) for n, item in value.items()}
        return value

    def _fits(self, schema: Schema, value: Json) -> bool:
        """Whether a value is of this choice: by its required properties, and its `kind` where there is one."""
        if "$ref" in schema:
            schema = self._schema["$defs"][schema["$ref"].rpartition("/")[2]]
        if isinstance(value, dict):
            properties = schema.get("properties", {})
            kind = properties.get("kind", {}).get("const", value.get("kind"))
            known = schema.get("type") == "object" and value.keys() <= (properties.keys() or value.keys())
            return known and kind == value.get("kind") and all(name in value for name in schema.get("required", []))
        kinds = {str: "string", bool: "boolean", int: "integer", list: "array"}
        return "anyOf" in schema or "enum" in schema or schema.get("type") == kinds[type(value)]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def text(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def is_reference(part: Json) -> bool:
    return isinstance(part, dict) and part.keys() == {"sha256", "bytes"}


# ------------------------------------------------------------------------------ step 6


def problems_of_line(payloads: Iterable[bytes], log: Iterable[Value]) -> list[str]:
    """Checkpoints of one partition, in the order of their topic, against its records; signatures are not looked at."""
    records = list(log)
    problems: list[str] = []
    ends: dict[str | None, int] = {None: 0}
    for payload in payloads:
        said = json.loads(payload)
        if ends.get(said.get("previous_sha256")) != said["first_offset"]:
            problems.append(f"line at checkpoint {said['sequence']}")
        leaves: dict[bytes, None] = {}
        for each in records:
            if said["first_offset"] <= each.offset < said["end_offset"]:
                leaves[hashlib.sha256(b"\x00" + each.value).digest()] = None
        if len(leaves) != said["records"] or root(list(leaves)).hex() != said["root_sha256"]:
            problems.append(f"root at checkpoint {said['sequence']}")
        ends[sha256(payload)] = said["end_offset"]
    return problems


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962, of at least one leaf."""
    if len(leaves) == 1:
        return leaves[0]
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    return hashlib.sha256(b"\x01" + root(leaves[:left]) + root(leaves[left:])).digest()
