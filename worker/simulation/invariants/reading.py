"""Evidence as read: documents by version, verdicts by command record, audit chains, status events.

Reads the published formats with the standard library alone, so that no mistake of the worker's own code is shared.
Raises what `json` raises for a record that is none.
"""

import base64
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from worker.simulation.invariants.evidence import Coordinates, Evidence, Position, Published

Json = dict[str, Any]
COMMAND_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,199}")
DOCUMENT_FOLDERS = ("workflows/", "sessions/", "orgs/")
TERMINAL = ("cancelled", "succeeded", "failed")
CHAIN: Json = {"audit_seq": 0, "record_sha256": None, "state_sha256": None}
DOCUMENT: Json = {"write_id": "", "revision": 0, "chain": CHAIN, "verdicts": {}, "outbox": []}
STATE: Json = {"version": 0, "open": [], "answered": [], "unsettled": []}
STATES: dict[str, Json] = {
    "workflow": {"status": "created", "jobs": [], "earlier_tasks": [], "workflow_specific_fields": None},
    "session": {"status": "open", "turn": None},
    "org": {"harnesses": {}},
}
HARNESS: Json = {"parent": None, "status": "active", "version": 0}
"""What a document may leave out."""


class Command(NamedTuple):
    """A command record; `id` None: none can be read, so that nobody can be answered."""

    at: Coordinates
    key: str
    id: str | None
    type: str
    value: bytes


class Result(NamedTuple):
    """A verdict on a command record."""

    at: Coordinates
    """The record that is answered."""
    key: str
    event_id: str
    verdict: Json
    value: bytes
    """The verdict as it stands: what a reference leads to, where it travels as one."""
    seconds: float
    """When it was published."""

    @property
    def applied(self) -> bool:
        """2xx, and no dry run."""
        return 200 <= int(self.verdict["http_status"]) < 300 and not self.verdict["dry_run"]

    @property
    def failed(self) -> bool:
        """Not done, and not remembered beyond its record."""
        return str(self.verdict["outcome"]) == "failed"


class Version(NamedTuple):
    """A document as it was written once."""

    seconds: float
    process: str
    body: Json

    @property
    def state(self) -> Json:
        state: Json = self.body["state"]
        return state


class Audited(NamedTuple):
    """An audit record as published."""

    key: str
    at: Coordinates
    """Its own place in the topic."""
    body: Json
    value: bytes


class Changed(NamedTuple):
    """A status event as published."""

    key: str
    body: Json
    value: bytes


class Reading:
    """Each part is read when it is first asked for."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    # ------------------------------------------------------------------------------ the log

    @cached_property
    def commands(self) -> dict[Coordinates, Command]:
        """In log order per partition."""
        return {
            (partition, record.offset): _command(partition, record) for partition, record in self._records("commands")
        }

    @cached_property
    def results(self) -> dict[Coordinates, list[Result]]:
        """By the command record that each answers."""
        found: dict[Coordinates, list[Result]] = defaultdict(list)
        for _, record in self._records("results"):
            result = self.result(record)
            found[result.at].append(result)
        return found

    def result(self, record: Published) -> Result:
        headers = dict(record.headers)
        value = self._payload(record, headers)
        at = (int(headers["verdict-partition"]), int(headers["verdict-offset"]))
        return Result(
            at, (record.key or b"").decode(), headers["ce_id"].decode(), json.loads(value), value, record.seconds
        )

    @cached_property
    def dead_letters(self) -> dict[Coordinates, list[bytes]]:
        """By command record: the bytes that were kept."""
        found: dict[Coordinates, list[bytes]] = defaultdict(list)
        for _, record in self._records("dead-letters"):
            headers = dict(record.headers)
            at = (int(headers["dead-letter-partition"]), int(headers["dead-letter-offset"]))
            found[at].append(self._payload(record, headers))
        return found

    @cached_property
    def audit(self) -> dict[str, list[Audited]]:
        """By aggregate, in the order in which they were published; refusals included."""
        found: dict[str, list[Audited]] = defaultdict(list)
        for partition, record in self._records("audit"):
            value, key = record.value or b"", (record.key or b"").decode()
            found[key].append(Audited(key, (partition, record.offset), json.loads(value), value))
        return found

    @cached_property
    def chains(self) -> dict[str, dict[int, Audited]]:
        """By aggregate and audit_seq: the first occurrence of each record of the chain, in order of publication."""
        found: dict[str, dict[int, Audited]] = {}
        for key, records in self.audit.items():
            chain = found[key] = {}
            for record in records:
                if record.body["kind"] != "refused":
                    chain.setdefault(record.body["audit_seq"], record)
        return found

    @cached_property
    def status_events(self) -> dict[str, list[Changed]]:
        """By aggregate, in the order in which they were published."""
        found: dict[str, list[Changed]] = defaultdict(list)
        for _, record in self._records("status"):
            value, key = record.value or b"", (record.key or b"").decode()
            found[key].append(Changed(key, json.loads(value), value))
        return found

    def _records(self, topic: str) -> Iterator[tuple[int, Published]]:
        for partition, records in enumerate(self.evidence.topics.get(topic, ())):
            for record in records:
                yield partition, record

    def _payload(self, record: Published, headers: dict[str, bytes]) -> bytes:
        """A record's value, or what its reference leads to."""
        reference = headers.get("ce_dataref")
        return (record.value or b"") if reference is None else self.evidence.objects[reference.decode()]

    def part(self, value: Any) -> Any:
        """A part of an audit record, which travels as reference where it is large."""
        if isinstance(value, dict) and value.keys() == {"sha256", "bytes"}:
            return json.loads(self.evidence.objects[f"blobs/{value['sha256']}"])
        return value

    # ------------------------------------------------------------------------------ the store

    @cached_property
    def documents(self) -> dict[str, list[Version]]:
        """By object key: every version that was ever stored, the first one as it was before everything."""
        found: dict[str, list[Version]] = defaultdict(list)
        for key, body in self.evidence.objects_before.items():
            if key.startswith(DOCUMENT_FOLDERS):
                found[key].append(Version(0.0, "before", _document(body)))
        for write in self.evidence.writes:
            if write.key.startswith(DOCUMENT_FOLDERS) and write.body is not None:
                found[write.key].append(Version(write.seconds, write.process, _document(write.body)))
        return found

    @cached_property
    def by_aggregate(self) -> dict[str, list[Version]]:
        """The same, by the aggregate's key."""
        return {aggregate_key(versions[0].state): versions for versions in self.documents.values()}


def _command(partition: int, record: Published) -> Command:
    headers = {name.lower(): content for name, content in record.headers}
    command_id = headers.get("ce_id", b"")
    readable = COMMAND_ID.fullmatch(command_id) is not None
    return Command(
        (partition, record.offset),
        (record.key or b"").decode("utf-8", "replace"),
        command_id.decode() if readable else None,
        headers.get("ce_type", b"").decode("utf-8", "replace"),
        record.value or b"",
    )


def _document(body: bytes) -> Json:
    """With what a document may leave out; what it holds stays in its order."""
    document: Json = DOCUMENT | json.loads(body)
    state: Json = document["state"]
    for name, value in (STATE | STATES[state["kind"]]).items():
        state.setdefault(name, value)
    for entry in state.get("harnesses", {}).values():
        for name, value in HARNESS.items():
            entry.setdefault(name, value)
    return document


def aggregate_key(state: Json) -> str:
    """The key of an aggregate's records."""
    match state["kind"]:
        case "workflow" if state.get("purpose") == "custom_harness":
            return f"custom-harness/{state['harness_id']}"
        case "workflow":
            return f"evaluation/{state['workflow_id']}"
        case "session":
            return f"session/{state['session_id']}"
        case _:
            return f"org/{state['org_id']}"


class Done(NamedTuple):
    """What a position says of its partition: `offset in done`."""

    below: int
    highest: int
    holes: frozenset[int]
    readable: bool

    def __contains__(self, offset: object) -> bool:
        assert isinstance(offset, int)
        return offset < self.below or (offset < self.highest and offset not in self.holes)


def done(position: Position) -> Done:
    """The first unfinished offset, and in the metadata `1:` + base64url of varints, as the design says (must 6)."""
    first, metadata = position
    if not metadata:
        return Done(first, first, frozenset(), True)
    version, _, text = metadata.partition(":")
    if version != "1":
        return Done(first, first, frozenset(), False)
    numbers, value, shift = [], 0, 0
    for byte in base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)):
        value, shift = value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    holes = frozenset(accumulate(numbers[2:], initial=first)) if numbers[1] else frozenset[int]()
    return Done(first, first + numbers[0], holes, True)
