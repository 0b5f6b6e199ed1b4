"""The client over the embedded stack: commands checked and keyed, verdicts awaited, topics and documents read."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from schemas import examples
from schemas.base import Blob, Coordinates
from schemas.commands import Aggregate, Caller
from schemas.documents import Document, OrgState
from schemas.harness import Harness, HarnessEntry
from schemas.status import HarnessStatus
from schemas.verdicts import Verdict
from worker.adapters.sqlite import Database, SqliteStore, SqliteStream
from worker.client import Client, Denied, Invalid, Message, aggregate, prepare
from worker.errors import Misconfigured, Unavailable
from worker.ports import Outgoing, Record, Topic

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
CANCEL = examples.load("evaluation.cancel").payload
SECONDS = 10.0


# ---------------------------------------------------------------------------------- commands


@pytest.mark.parametrize("name", examples.names("commands"))
def test_every_published_example_can_be_prepared(name: str) -> None:
    example = examples.load(name)
    prepared = prepare(example.headers["ce_type"], example.payload, id="c1", time=NOW)
    assert prepared.key == example.key
    assert json.loads(prepared.outgoing.value) == example.payload
    headers = dict(prepared.outgoing.headers)
    assert (headers["ce_id"], headers["ce_time"]) == (b"c1", b"2026-01-31T12:00:00.000Z")
    assert headers["ce_type"].decode() == example.headers["ce_type"]


def test_an_id_in_upper_case_has_the_key_of_its_lane_and_travels_as_given() -> None:
    shouted = CANCEL | {"evaluation_id": CANCEL["evaluation_id"].upper()}
    prepared = prepare("evaluation.cancel", shouted)
    assert prepared.key == f"evaluation/{CANCEL['evaluation_id']}"
    assert json.loads(prepared.outgoing.value) == shouted


def test_the_same_id_and_time_make_the_same_record() -> None:
    first = prepare("evaluation.cancel", CANCEL)
    assert prepare("evaluation.cancel", CANCEL, id=first.id, time=first.time) == first
    assert prepare("evaluation.cancel", CANCEL).id != first.id


@pytest.mark.parametrize(
    ("type", "data", "id", "said"),
    [
        ("evaluation.stop", CANCEL, None, "type: 'evaluation.stop' is not a command type"),
        ("evaluation.cancel", CANCEL | {"evaluation_id": "secret-7"}, None, "evaluation_id: "),
        ("evaluation.cancel", CANCEL | {"actor": {}}, None, "actor.subject: "),
        ("session.cancel", CANCEL, None, "session_id: "),
        ("evaluation.cancel", CANCEL, "", "id: "),
        ("evaluation.cancel", CANCEL, "a b", "id: "),
    ],
)
def test_what_breaks_the_schema_is_named_and_never_quoted(
    type: str, data: dict[str, Any], id: str | None, said: str
) -> None:
    with pytest.raises(Invalid) as caught:
        prepare(type, data, id=id)
    assert str(caught.value).startswith(said)
    assert ".".join(str(part) for part in caught.value.errors[0].loc) == said.partition(":")[0]
    assert "secret-7" not in str(caught.value)


@pytest.mark.parametrize(
    ("type", "field", "value", "said"),
    [
        ("evaluation.cancel", "evaluation_id", "x", "must be a UUID"),
        ("session.cancel", "session_id", "x", "must be {26 characters}.{zone}"),
        ("session.cancel", "turn_id", "a/b", "must be 1 to 128 letters, digits or ._:- that begin with"),
        ("evaluation.cancel", "expires_at", "now", "must be an RFC 3339 time with an offset"),
        ("evaluation.cancel", "expires_at", "2026-02-31T00:00:00Z", "must be a time that exists"),
        ("evaluation.cancel", "grace_period_seconds", -1, "must be at least 0"),
        ("evaluation.cancel", "deadline_seconds", 1.5, "must be a whole number"),
        ("evaluation.cancel", "cleanup", "yes", "must be true or false"),
        ("evaluation.cancel", "mode", "x", "must be 'graceful' or 'force'"),
        ("evaluation.cancel", "reason", "x" * 1025, "must have at most 1024 characters"),
        ("evaluation.cancel", "reason", 7, "must be a text"),
        ("workflow.update", "job", [], "must be a JSON object"),
        ("custom_harness.cancel", "team_id", ..., "is missing"),
    ],
)
def test_a_broken_rule_is_said_in_words_of_our_own(type: str, field: str, value: Any, said: str) -> None:
    data = {**examples.load(type).payload, field: value}
    with pytest.raises(Invalid) as caught:
        prepare(type, {name: given for name, given in data.items() if given is not ...})
    assert str(caught.value).startswith(f"{field}: {said}")


def test_an_aggregate_has_a_known_kind_and_an_id_of_that_kind() -> None:
    assert aggregate("session", "01ARZ3NDEKTSV4RRFFQ69G5FAV.EU").id == "01arz3ndektsv4rrffq69g5fav.eu"
    for kind, name in (("harness", "x"), ("evaluation", "../orgs/x"), ("org", "a/b"), ("session", "x")):
        with pytest.raises(Invalid):
            aggregate(kind, name)


# ---------------------------------------------------------------------------------- verdicts


class Stack:
    """The embedded stack, and a part of a worker: it answers command records as it is told."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "worker.db")
        self.stream, self.store = SqliteStream(self.database), SqliteStore(self.database)
        self.client = Client(self.stream, self.store)

    async def put(self, name: str, **more: Any) -> None:
        """An example where it belongs: in its topic, or in the store."""
        example = examples.load(name)
        value = json.dumps(example.payload | more).encode()
        if example.channel == "documents":
            await self.store.put(example.key, value)
            return
        headers = tuple((header, text.encode()) for header, text in example.headers.items())
        await self.stream.publish([Outgoing(Topic(example.channel), example.key.encode(), value, headers)])

    async def published(self, count: int) -> list[tuple[int, int]]:
        """Where the first commands stand, once there are so many."""
        found: list[tuple[int, int]] = []
        start = dict.fromkeys(range(self.database.partitions), 0)
        async for record in self.stream.read(Topic.COMMANDS, start, follow=True):
            found.append((record.partition, record.offset))
            if len(found) == count:
                break
        return found


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    made = Stack(tmp_path)
    await made.store.start()
    yield made
    await made.client.stop()
    await made.store.stop()


def answer(at: tuple[int, int], reference: Blob | None = None) -> Outgoing:
    """The record with the verdict on a command record."""
    headers = [("verdict-partition", str(at[0]).encode()), ("verdict-offset", str(at[1]).encode())]
    if reference:
        headers.append(("ce_dataref", reference.key.encode()))
    value = reference.model_dump_json().encode() if reference else verdict_on(at)
    return Outgoing(Topic.RESULTS, b"evaluation/x", value, tuple(headers))


def verdict_on(at: tuple[int, int]) -> bytes:
    payload = examples.load("verdict.cancelled").payload
    payload["command"]["at"] = {"partition": at[0], "offset": at[1]}
    return Verdict.model_validate(payload).model_dump_json(exclude_none=True).encode()


def commands(count: int) -> list[Message]:
    return [prepare("evaluation.cancel", CANCEL) for _ in range(count)]


async def test_each_command_gets_the_verdict_on_its_own_record(stack: Stack) -> None:
    async def answering() -> None:
        await stack.stream.publish([answer(at) for at in reversed(await stack.published(3))])

    worker = asyncio.create_task(answering())
    sent = commands(3)
    results = await stack.client.ask(sent, SECONDS)
    await worker
    [first, second, third] = [result for result in results if result]
    assert [first.at.offset, second.at.offset, third.at.offset] == [0, 1, 2]
    assert first.body == verdict_on((first.at.partition, 0))
    assert first.verdict.command.at == first.at


class Hurried(SqliteStream):
    """A worker that answers before its publisher knows where the command stands."""

    async def publish(self, outgoing: Sequence[Outgoing]) -> Sequence[tuple[int, int]]:
        places = await super().publish(outgoing)
        await super().publish([answer(at) for at in places[:1]])
        await asyncio.sleep(0.2)  # long enough for the results to be read
        return places


async def test_a_verdict_may_be_there_before_publish_returns_and_none_is_none(stack: Stack) -> None:
    async with Client(Hurried(stack.database), stack.store) as client:
        [early, never] = await client.ask(commands(2), 0.1)
    assert early is not None
    assert early.verdict.code == "cancelled"
    assert never is None


async def test_a_large_verdict_is_fetched_by_reference_even_if_the_store_is_late(stack: Stack) -> None:
    [sent] = commands(1)
    asking = asyncio.create_task(stack.client.ask([sent], SECONDS))
    [at] = await stack.published(1)
    body = verdict_on(at)
    blob = Blob(sha256=hashlib.sha256(body).hexdigest(), bytes=len(body))
    await stack.stream.publish([answer(at, blob)])
    await asyncio.sleep(0.1)
    assert not asking.done()
    await stack.store.put(blob.key, body)
    [result] = await asking
    assert result is not None
    assert result.body == body


class Away(SqliteStream):
    """Results are away at first."""

    outages = 2

    async def read(self, topic: Topic, start: Mapping[int, int], *, follow: bool) -> AsyncIterator[Record]:
        if self.outages:
            self.outages -= 1
            raise Unavailable("results are away")
        async for record in super().read(topic, start, follow=follow):
            yield record


async def test_an_outage_after_publishing_is_waited_out(stack: Stack) -> None:
    stream = Away(stack.database)
    async with Client(stream, stack.store) as client:
        asking = asyncio.create_task(client.ask(commands(1), SECONDS))
        await stream.publish([answer(at) for at in await stack.published(1)])
        [result] = await asking
    assert result is not None
    assert stream.outages == 0


async def test_a_foreign_record_among_the_results_is_named_and_hinders_nobody_who_waits(stack: Stack) -> None:
    class Foreign(Hurried):
        async def publish(self, outgoing: Sequence[Outgoing]) -> Sequence[tuple[int, int]]:
            await SqliteStream.publish(self, [Outgoing(Topic.RESULTS, b"x", b"what?")])
            await asyncio.sleep(0.1)  # it is read first
            return await super().publish(outgoing)

    async with Client(Foreign(stack.database), stack.store) as client:
        [result] = await client.ask(commands(1), SECONDS)
        assert result is not None
        with pytest.raises(Misconfigured, match=r"^results \d+:0: "):
            [_ async for _ in client.results()]


# ---------------------------------------------------------------------------------- topics and documents


async def test_topics_are_read_as_the_values_that_they_hold(stack: Stack) -> None:
    await stack.put("verdict.cancelled")
    await stack.put("verdict.not_found")
    await stack.put("workflow.status_changed")
    results = [result async for result in stack.client.results()]
    assert {result.verdict.code for result in results} == {"cancelled", "not_found"}
    evaluation = Aggregate(type="evaluation", id=CANCEL["evaluation_id"])
    [one] = [result.verdict.code async for result in stack.client.results(of=evaluation) if result.at.offset == 1042]
    assert one == "cancelled"
    [event] = [event async for event in stack.client.status_events()]
    assert (event.subject, event.version) == ("workflow", examples.load("workflow.status_changed").payload["version"])


async def test_audit_records_are_those_of_one_aggregate_each_once(stack: Stack) -> None:
    for name in ("audit_record.adopted", "audit_record.decided", "audit_record.decided", "audit_record.observed"):
        await stack.put(name)
    adopted = examples.load("audit_record.adopted")
    kind, _, name = adopted.key.partition("/")
    records = [record async for record in stack.client.audit(aggregate(kind, name))]
    assert len({record.audit_seq for record in records}) == len(records) >= 2
    assert {record.aggregate.key for record in records} == {adopted.key}


async def test_dead_letters_are_as_they_were_and_large_ones_are_fetched(stack: Stack) -> None:
    value = b"\x00" * 70_000
    blob = Blob(sha256=hashlib.sha256(value).hexdigest(), bytes=len(value))
    where = (("dead-letter-reason", b"ce_time: missing"), ("dead-letter-partition", b"2"), ("dead-letter-offset", b"5"))
    headers = (*where, ("ce_dataref", blob.key.encode()), ("original-ce_id", b"c9"), ("original-x", b"\xff"))
    await stack.store.put(blob.key, value)
    record = Outgoing(Topic.DEAD_LETTERS, b"evaluation/x", blob.model_dump_json().encode(), headers)
    await stack.stream.publish([record])
    [letter] = [letter async for letter in stack.client.dead_letters()]
    assert (letter.at, letter.reason) == (Coordinates(partition=2, offset=5), "ce_time: missing")
    assert letter.headers == (("ce_id", b"c9"), ("x", b"\xff"))
    assert await stack.client.payload(letter.value) == value


async def test_documents_are_found_by_kind_and_id(stack: Stack) -> None:
    for name in ("workflow", "session", "org", "custom_harness_metadata", "creation"):
        await stack.put(f"document.{name}")
    evaluation = examples.load("document.workflow").payload["state"]["workflow_id"]
    metadata = examples.load("document.custom_harness_metadata").payload
    session = examples.load("document.session").payload["state"]["session_id"]
    for kind, name, found in (
        ("evaluation", evaluation, evaluation),
        ("custom-harness", metadata["harness_id"], metadata["workflow_id"]),
        ("session", session.upper(), session),
        ("org", "org-atlas", "org-atlas"),
    ):
        document = await stack.client.document(aggregate(kind, name))
        assert document is not None
        assert found in document.state.model_dump_json()
    assert await stack.client.document(aggregate("org", "elsewhere")) is None
    await stack.store.put("orgs/broken.json", b'{"state": 7}')
    with pytest.raises(Misconfigured, match=r"^orgs/broken\.json: "):
        await stack.client.document(aggregate("org", "broken"))


async def test_no_id_leads_out_of_its_folder(stack: Stack) -> None:
    with pytest.raises(Invalid):
        await stack.client.document(Aggregate(type="evaluation", id="../orgs/org-atlas"))


# ---------------------------------------------------------------------------------- harnesses

VIEWER = Caller(org_id="o", permissions=("harness:view",))
IDS = {name: f"harness_{number:032x}" for number, name in enumerate(("base", "writer", "old", "dead"))}


@pytest_asyncio.fixture
async def org(stack: Stack) -> Client:
    """`base`, the default; `writer` below it; `old` archived; `dead` deleted."""
    statuses = {"old": HarnessStatus.ARCHIVED, "dead": HarnessStatus.DELETED}
    entries: dict[str, HarnessEntry] = {}
    for name, harness_id in IDS.items():
        parent = IDS["base"] if name == "writer" else None
        status = statuses.get(name, HarnessStatus.ACTIVE)
        prompt = f"You are {name}."
        whole = Harness(
            id=harness_id, name=name, system_prompt=prompt, parent_harness_id=parent, created_at=NOW, updated_at=NOW
        )
        body = whole.model_dump_json().encode()
        sha256 = hashlib.sha256(body).hexdigest()
        await stack.store.put(f"blobs/{sha256}", body)
        entries[harness_id] = HarnessEntry(name=name, parent=parent, status=status, body=sha256)
    state = OrgState(org_id="o", default=IDS["base"], harnesses=entries)
    await stack.store.create("orgs/o.json", Document(state=state).model_dump_json().encode())
    return stack.client


@pytest.mark.parametrize(
    ("asked", "found"),
    [("writer", "writer"), (IDS["writer"], "writer"), ("default", "base"), ("old", "old"), (IDS["old"], "old")],
)
async def test_a_harness_is_found_by_id_name_or_default(org: Client, asked: str, found: str) -> None:
    harness = await org.harness(VIEWER, asked)
    assert isinstance(harness, Harness)
    assert (harness.name, harness.system_prompt) == (found, f"You are {found}.")


@pytest.mark.parametrize(
    ("caller", "asked", "code"),
    [
        (VIEWER, "dead", "not_found"),
        (VIEWER, IDS["dead"], "not_found"),
        (VIEWER, "harness_7", "not_found"),
        (VIEWER, "", "not_found"),
        (Caller(org_id="other", permissions=("harness:view",)), "writer", "not_found"),
        (Caller(permissions=("harness:view",)), "writer", "not_found"),
        (Caller(org_id="o", permissions=("harness:manage",)), "writer", "permission_denied"),
    ],
)
async def test_a_harness_is_denied(org: Client, caller: Caller, asked: str, code: str) -> None:
    assert await org.harness(caller, asked) == Denied(code)  # type: ignore[arg-type]  # from a table
    assert await org.effective_harness(caller, asked) == Denied(code)  # type: ignore[arg-type]


async def test_an_effective_harness_is_merged_from_the_root(org: Client) -> None:
    merged = await org.effective_harness(VIEWER, "writer")
    assert not isinstance(merged, Denied)
    assert (merged.id, merged.system_prompt) == (IDS["writer"], "You are base.\n\nYou are writer.")


async def test_a_body_that_is_gone_is_an_outage_not_a_harness(org: Client, stack: Stack) -> None:
    await stack.store.delete(await stack.store.list("blobs/"))
    with pytest.raises(Unavailable, match="blobs/"):
        await org.harness(VIEWER, "writer")
