"""A small history made by hand, which keeps every promise until a test breaks it: for tests of the invariants.

Two partitions; an evaluation with a Job that is cancelled, a session whose turn succeeds, an org with two harnesses.
States are dumped and hashed by the published schema, everything else is written out here.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from schemas.documents import State, digest
from schemas.harness import Harness
from worker.simulation.invariants import Evidence, Position, Published, Touch, Transaction, Write
from worker.simulation.process import EPOCH

Json = dict[str, Any]
At = tuple[int, int]
STATE: TypeAdapter[Any] = TypeAdapter(State)
TOPICS = ("commands", "results", "status", "audit", "dead-letters")
EVALUATION, SESSION, ORG = "11111111-1111-4111-8111-111111111111", f"{'0' * 26}.zone-1", "org-1"
HARNESSES = [f"harness_{number:032x}" for number in range(2)]
WORKFLOW_KEY, SESSION_KEY, ORG_KEY = f"evaluation/{EVALUATION}", f"session/{SESSION}", f"org/{ORG}"
WORKFLOW_PATH, SESSION_PATH, ORG_PATH = f"workflows/{EVALUATION}.json", f"sessions/{SESSION}.json", f"orgs/{ORG}.json"
FOLDER = f"teams/team-1/evaluations/{EVALUATION}"
TIME = EPOCH.isoformat().replace("+00:00", "Z")
STOPPED = {"kind": "job", "name": "jobs/job-1", "identity": "uid-1", "evidence": "stopped"}


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def dumped(state: Json) -> Json:
    """As the worker stores it."""
    whole: Json = json.loads(STATE.validate_python(state).model_dump_json())
    return whole


class Told:
    """Everything that evidence is made of, to be changed at will."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.topics: dict[str, list[list[Published]]] = {topic: [[], []] for topic in TOPICS}
        self.positions: dict[int, Position] = {}
        self.objects: dict[str, bytes] = {}
        self.objects_before: dict[str, bytes] = {}
        self.writes: list[Write] = []
        self.transactions: list[Transaction] = []
        self.touched: list[Touch] = []
        self.more: Json = {}
        self._documents: dict[str, Json] = {}

    def evidence(self) -> Evidence:
        return Evidence(
            self.topics,
            self.positions,
            self.objects_before,
            self.writes,
            self.objects,
            self.transactions,
            self.touched,
            **self.more,
        )

    # ------------------------------------------------------------------------------ the log

    def publish(self, topic: str, partition: int, key: str, value: bytes, **headers: str) -> At:
        records = self.topics[topic][partition]
        offset = records[-1].offset + 1 if records else 0
        named = tuple((name.replace("_", "-", 1), text.encode()) for name, text in headers.items())
        named = tuple((name.replace("ce-", "ce_"), text) for name, text in named)
        records.append(Published(offset, self.seconds, key.encode(), value, named))
        return partition, offset

    def send(self, partition: int, key: str, command_id: str) -> At:
        self.seconds += 1
        return self.publish("commands", partition, key, b"{}", ce_id=command_id, ce_type="a.command")

    def result(self, at: At, key: str, value: bytes) -> None:
        event_id = json.loads(value)["id"]
        self.publish("results", 0, key, value, ce_id=event_id, verdict_partition=f"{at[0]}", verdict_offset=f"{at[1]}")

    def commit(self, partition: int, offset: int, metadata: str = "") -> None:
        """The position of a partition, with everything that was published since the last commit."""
        before = {each for transaction in self.transactions for each in transaction.records}
        now = [
            (topic, number, record.offset)
            for topic in TOPICS[1:]
            for number, records in enumerate(self.topics[topic])
            for record in records
        ]
        position = Position(offset, metadata)
        records = tuple(each for each in now if each not in before)
        positions = ((partition, position),)
        self.transactions.append(Transaction(self.seconds, f"worker-{partition}", 3, True, records, positions))
        self.positions[partition] = position

    # ------------------------------------------------------------------------------ the store

    def create(self, path: str, state: Json) -> None:
        chain = {"audit_seq": 0, "record_sha256": None, "state_sha256": None}
        self._documents[path] = {
            "state": dumped(state),
            "write_id": "",
            "revision": 0,
            "chain": chain,
            "verdicts": {},
            "outbox": [],
        }
        self.objects_before[path] = self.objects[path] = json.dumps({"state": state}).encode()

    def decide(
        self, path: str, key: str, given: Json | None, events: list[Json], verdicts: Json | None = None, **state: Any
    ) -> None:
        """One decided input: the next version of a document, its audit record, and a status event where one is due."""
        self.seconds += 1
        before = self._documents[path]
        chain, outbox = before["chain"], list[Json]()
        if chain["state_sha256"] is None:
            chain = self._audit(outbox, key, chain, before["state"], kind="adopted", events=[], found=before["state"])
        after = dumped(before["state"] | state)
        sequence = chain["audit_seq"] + 1
        for change in _changes(key, before["state"], after):
            outbox.append({"audit_seq": sequence, "topic": "status", "id": "s", "body": json.dumps(change)})
        chain = self._audit(outbox, key, chain, after, kind="decided", events=events, input=given)
        body = {
            "state": after,
            "write_id": f"write-{len(self.writes)}",
            "revision": before["revision"] + 1,
            "chain": chain,
            "verdicts": before["verdicts"] | {name: value.decode() for name, value in (verdicts or {}).items()},
            "outbox": outbox,
        }
        self._documents[path] = body
        self.write(path, json.dumps(body).encode())
        for entry in outbox:
            self.publish(entry["topic"], 0, key, entry["body"].encode())

    def _audit(self, outbox: list[Json], key: str, chain: Json, state: Json, **record: Any) -> Json:
        sequence, after = chain["audit_seq"] + 1, digest(STATE.validate_python(state))
        whole = {
            "audit_seq": sequence,
            "previous_sha256": chain["record_sha256"],
            "state_before_sha256": chain["state_sha256"],
            "state_after_sha256": after,
            **record,
        }
        body = json.dumps({name: value for name, value in whole.items() if value is not None})
        outbox.append({"audit_seq": sequence, "topic": "audit", "id": f"{key}/{sequence}", "body": body})
        return {"audit_seq": sequence, "record_sha256": sha256(body.encode()), "state_sha256": after}

    def state(self, path: str) -> Json:
        state: Json = self._documents[path]["state"]
        return state

    def write(self, path: str, body: bytes | None, process: str = "worker-0.0") -> None:
        self.writes.append(Write(self.seconds, process, path, body))
        if body is None:
            self.objects.pop(path, None)
        else:
            self.objects[path] = body

    # ------------------------------------------------------------------------------ to break it

    def rewrite(self, path: str, change: Callable[[Json], object], index: int = -1) -> None:
        """Change a version of a document, and what the store holds if it is the last one."""
        places = [place for place, write in enumerate(self.writes) if write.key == path]
        place = places[index]
        body = json.loads(self.writes[place].body or b"")
        change(body)
        self.writes[place] = self.writes[place]._replace(body=json.dumps(body).encode())
        if place == places[-1]:
            self.objects[path] = json.dumps(body).encode()

    def republish(self, topic: str, index: int, change: Callable[[Json], object], partition: int = 0) -> None:
        """Change a published record."""
        records = self.topics[topic][partition]
        body = json.loads(records[index].value or b"")
        change(body)
        records[index] = records[index]._replace(value=json.dumps(body).encode())


def _changes(key: str, before: Json, after: Json) -> list[Json]:
    """Status events of a workflow or turn."""
    if before["kind"] == "session":
        subject, old, new = ("turn", before["turn"]["turn_id"]), before["turn"]["status"], after["turn"]["status"]
    elif before["kind"] == "workflow":
        subject, old, new = ("workflow", before["workflow_id"]), before["status"], after["status"]
    else:
        return []
    about = {"subject": subject[0], "subject_id": subject[1], "version": after["version"]}
    return [about | {"before": old, "after": new}] if old != new else []


def command(command_id: str, at: At) -> Json:
    """A decided input."""
    where = {"partition": at[0], "offset": at[1]}
    return {"kind": "command", "id": command_id, "fingerprint": sha256(command_id.encode()), "at": where}


def verdict(command_id: str, at: At, code: str, status: int, **more: Any) -> bytes:
    """A verdict as published."""
    where = {"partition": at[0], "offset": at[1]}
    asked = {"id": command_id, "type": "a.command", "fingerprint": sha256(command_id.encode()), "at": where}
    outcome = "failed" if status >= 500 else "applied" if status < 300 else "rejected"
    whole = {"id": f"verdict-{command_id}", "outcome": outcome, "code": code, "http_status": status, "command": asked}
    return json.dumps(whole | {"dry_run": False, **more}).encode()


def about(kind: str, name: str, version: int, status: str) -> Json:
    """The aggregate of a verdict."""
    return {"type": kind, "id": name, "version": version, "status_after": status}


def opened(command_id: str, at: At) -> Json:
    """A command in flight."""
    times = dict.fromkeys(("time", "received_at", "decided_at", "deadline_at"), TIME)
    where = {"partition": at[0], "offset": at[1]}
    name = {"id": command_id, "type": "evaluation.cancel", "fingerprint": sha256(command_id.encode())}
    return {**name, **times, "at": where, "status_before": "running"}


def told() -> Told:
    """The history as a whole, in which every promise is kept."""
    history = Told()
    _evaluation(history)
    _session(history)
    _org(history)
    history.commit(0, 3)
    history.commit(1, 2)
    return history


def _evaluation(history: Told) -> None:
    """Cancelled; the same command again; another one, refused."""
    job = {"namespace": "jobs", "name": "job-1", "uid": "uid-1"}
    state = {"kind": "workflow", "workflow_id": EVALUATION, "team_id": "team-1", "status": "running", "jobs": [job]}
    history.create(WORKFLOW_PATH, state)
    history.objects[f"{FOLDER}/request.json"] = history.objects[f"{FOLDER}/partial/0.json"] = b"{}"
    first = history.send(0, WORKFLOW_KEY, "cancel-1")
    teardown = {"mode": "graceful", "grace_period_seconds": 30, "cleanup": True, "begun_at": TIME}
    intent: Json = {"open": [opened("cancel-1", first)], "teardown": teardown, "status": "cancelling", "version": 1}
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, command("cancel-1", first), [{"kind": "opened"}], **intent)
    history.seconds += 1
    history.touched.append(Touch(history.seconds, "worker-0.0", "job", "uid-1"))
    history.write(f"{FOLDER}/partial/0.json", None)
    receipt = {"evidence": "stopped", "resources": [STOPPED]}
    aggregate = about("evaluation", EVALUATION, 2, "cancelled")
    said = verdict("cancel-1", first, "cancelled", 200, aggregate=aggregate, receipt=receipt)
    ended: Json = {"open": [], "jobs": [job | {"gone": STOPPED}], "status": "cancelled", "version": 2}
    given = {"kind": "observed", "at": TIME, "items": []}
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, given, [{"kind": "remembered"}], {"0:0": said}, **ended)
    history.result(first, WORKFLOW_KEY, said)
    history.result(history.send(0, WORKFLOW_KEY, "cancel-1"), WORKFLOW_KEY, said)
    refuse(history, history.send(0, WORKFLOW_KEY, "cancel-2"), "cancel-2")


def refuse(history: Told, at: At, command_id: str, state: Json | None = None) -> None:
    """A refusal: on this state of the evaluation, or on its last one."""
    decided_on = digest(STATE.validate_python(state or history.state(WORKFLOW_PATH)))
    refusal = {"kind": "refused", "audit_seq": 0, "input": command(command_id, at), "state_before_sha256": decided_on}
    history.publish("audit", 0, WORKFLOW_KEY, json.dumps(refusal).encode())
    history.result(at, WORKFLOW_KEY, verdict(command_id, at, "already_terminal", 400))


def _session(history: Told) -> None:
    turn = {"turn_id": "turn-1", "number": 1, "status": "running"}
    history.create(SESSION_PATH, {"kind": "session", "session_id": SESSION, "turn": turn})
    at = history.send(1, SESSION_KEY, "report-1")
    said = verdict("report-1", at, "updated", 200, aggregate=about("session", SESSION, 1, "succeeded"))
    given, events = command("report-1", at), [{"kind": "remembered"}]
    ended: Json = {"turn": turn | {"status": "succeeded"}, "version": 1}
    history.decide(SESSION_PATH, SESSION_KEY, given, events, {"1:0": said}, **ended)
    history.result(at, SESSION_KEY, said)


def _org(history: Told) -> None:
    entries = {}
    for number, harness_id in enumerate(HARNESSES):
        harness = Harness.model_validate(
            {"id": harness_id, "name": f"name-{number}", "created_at": TIME, "updated_at": TIME}
        )
        body = harness.model_dump_json().encode()
        history.objects[f"blobs/{sha256(body)}"] = history.objects_before[f"blobs/{sha256(body)}"] = body
        entries[harness_id] = {"name": harness.name, "body": sha256(body)}
    history.create(ORG_PATH, {"kind": "org", "org_id": ORG, "harnesses": entries})
    at = history.send(1, ORG_KEY, "change-1")
    body = json.loads(history.objects[f"blobs/{entries[HARNESSES[0]]['body']}"]) | {"name": "changed"}
    changed = json.dumps(body).encode()
    history.write(f"blobs/{sha256(changed)}", changed)
    entry = {"name": "changed", "version": 1, "body": sha256(changed)}
    aggregate = about("harness", HARNESSES[0], 1, "active")
    said = verdict("change-1", at, "updated", 200, aggregate=aggregate, harness=body)
    events = [{"kind": "harness_changed"}, {"kind": "remembered"}]
    after: Json = {"harnesses": entries | {HARNESSES[0]: entry}, "version": 1}
    history.decide(ORG_PATH, ORG_KEY, command("change-1", at), events, {"1:1": said}, **after)
    history.result(at, ORG_KEY, said)
