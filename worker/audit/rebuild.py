"""`worker audit rebuild`: documents made anew from the log alone, and held against those that live.

Recorded events are folded by the ledger that made the records, so each document comes with its memory, its verdicts and
its chain; and since the ledger makes each record anew on the way, a record that does not come out byte for byte is an
error with its position.  Decides nothing: that is the business of `verify`.  Knows no printing.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from schemas.base import Blob, Model
from schemas.commands import Personal
from schemas.documents import (
    Chain,
    Document,
    OrgState,
    SessionState,
    WorkflowState,
    aggregate_of_state,
    digest,
)
from schemas.events import Failed, Remembered
from worker.audit.chains import Wrong
from worker.audit.replay import Reader, Told, Unreadable, fold
from worker.audit.source import PART_RECORDS, Log, Part, of_part, parts
from worker.domain.decision import Written
from worker.errors import Conflict
from worker.ledger import Blobs, Step, advance
from worker.ports import DocumentStore, EventStream, Ids, Record
from worker.sealing import Sealer, personal_key


class Unlike(Model):
    """A document that lives otherwise than the log says."""

    key: str
    """Its key in the store."""
    how: Literal["missing", "state", "chain", "unreadable"]
    """What differs; `chain`: it has the state, after other records."""
    audit_seq: int
    """Records of its chain, by the log."""


class Rebuilt(Model):
    """What came of it."""

    records: int = 0
    """Records read, repetitions too."""
    documents: int = 0
    """Documents that the log tells."""
    equal: int = 0
    """Those that live with the same bytes of state, the same digest and the same head of the chain."""
    written: int = 0
    """Documents that were written."""
    kept: int = 0
    """Documents that were there already, and stay as they are."""
    unlike: tuple[Unlike, ...] = ()
    """Documents that live otherwise."""
    wrong: tuple[Wrong, ...] = ()
    """Records that cannot be followed; the document of such a chain is not made."""


@dataclass(slots=True)
class Made:
    """A document on its way; `blobs` and `beside` go with it: payloads, and documents that lead to it."""

    document: Document | None = None
    broken: bool = False
    blobs: Blobs = field(default_factory=Blobs)
    beside: dict[str, str] = field(default_factory=dict)
    subjects: dict[str, None] = field(default_factory=dict)


class Rebuild:
    """`live` is where documents are compared, `into` where they are written; None: nowhere.

    An existing object is never touched: everything is written only if absent.
    """

    def __init__(self, stream: EventStream, live: DocumentStore, into: DocumentStore | None, ids: Ids) -> None:
        self._source, self._live, self._into, self._ids = Log(stream, live), live, into, ids
        self._reader, self._sealer = Reader(self._source), Sealer(live, ids)
        self._wrong: list[Wrong] = []
        self._unlike: list[Unlike] = []
        self._counts: Counter[str] = Counter()

    async def run(self, tick: Callable[[int], None] = lambda _: None, *, part_records: int = PART_RECORDS) -> Rebuilt:
        """All of the log as it is now.  Raises Unavailable, OutcomeUnknown."""
        for part in parts(await self._source.bounds(), part_records):
            made = await self._fold(part, tick)
            for each in made.values():
                if each.document is not None and not each.broken:
                    await self._finish(each, each.document)
        return Rebuilt(**self._counts, unlike=tuple(self._unlike), wrong=tuple(self._wrong))

    # ------------------------------------------------------------------------------ from records to documents

    async def _fold(self, part: Part, tick: Callable[[int], None]) -> dict[str, Made]:
        made: dict[str, Made] = {}
        async for record in of_part(self._source, part):
            self._counts["records"] += 1
            tick(1)
            key = (record.key or b"").decode("utf-8", "replace")
            each = made.setdefault(key, Made())
            if not each.broken:
                try:
                    await self._take(each, await self._reader.read(record.value or b""))
                except Unreadable as error:
                    each.broken = True
                    self._broken(record, key, error)
        return made

    async def _take(self, made: Made, told: Told) -> None:
        """The next record of a chain.  Raises Unreadable where it does not follow, or does not come out again."""
        record, before = told.record, made.document
        chain = before.chain if before else Chain()
        if record.kind == "refused" or record.audit_seq <= chain.audit_seq:
            return
        if record.audit_seq != chain.audit_seq + 1 or record.previous_sha256 != chain.record_sha256:
            raise Unreadable("chain", f"number {record.audit_seq} does not follow number {chain.audit_seq}")
        if record.kind == "adopted":
            if told.found is None or digest(told.found) != record.state_after_sha256:
                raise Unreadable("found", "the state that was found has another hash than is recorded")
            head = Chain(audit_seq=record.audit_seq, record_sha256=told.sha256, state_sha256=record.state_after_sha256)
            known = before or Document(state=told.found)
            made.document = known.model_copy(update={"state": told.found, "chain": head})
            return
        if before is None or told.given is None:
            raise Unreadable("head", "no state was found before it")
        made.document = await self._next(made, before, told)

    async def _next(self, made: Made, before: Document, told: Told) -> Document:
        record = told.record
        try:
            after = fold(before.state, told.events)
        except (TypeError, ValueError) as error:
            raise Unreadable("events", f"its events cannot be folded: {error}") from None
        context, step_blobs = await self._reader.context(told), await self._bodies(told)
        personal: Personal | None = None
        if record.personal:
            personal = await self._sealer.unseal(record.personal)
            made.subjects[record.personal.subject_sha256] = None
        assert told.given is not None
        written = Written(told.events, after, step_blobs)
        draught = advance(
            before,
            [Step(told.given, context, written, personal, record.personal)],
            write_id=self._ids.fresh(),
            settings_sha256=record.context.settings_sha256,
            acknowledged=before.chain.audit_seq,
            adopt=False,
        )
        if draught.document.chain.record_sha256 != told.sha256:
            raise Unreadable("record", "made anew from what it says, it has other bytes")
        made.blobs |= draught.blobs
        made.beside |= {read.key: read.content for read in record.context.documents if read.content is not None}
        return draught.document

    async def _bodies(self, told: Told) -> tuple[bytes, ...]:
        """Harness bodies that verdicts hold in full."""
        verdicts = [event.verdict for event in told.events if isinstance(event, Remembered | Failed)]
        names = [verdict.harness.sha256 for verdict in verdicts if isinstance(verdict.harness, Blob)]
        return tuple([await self._reader.payload(name) for name in names])

    # ------------------------------------------------------------------------------ to where they belong

    async def _finish(self, made: Made, document: Document) -> None:
        self._counts["documents"] += 1
        document = document.model_copy(update={"outbox": ()})  # all of it was read from the log
        key = document_key(document)
        how = await self._unlike_live(key, document)
        if how:
            self._unlike.append(Unlike(key=key, how=how, audit_seq=document.chain.audit_seq))
        else:
            self._counts["equal"] += 1
        if self._into is not None:
            await self._write(self._into, key, made, document)

    async def _unlike_live(
        self, key: str, document: Document
    ) -> Literal["missing", "state", "chain", "unreadable"] | None:
        stored = await self._live.load(key)
        if stored is None:
            return "missing"
        try:
            live = Document.model_validate_json(stored.body)
        except ValidationError:
            return "unreadable"
        same = live.state.model_dump_json() == document.state.model_dump_json()
        if not same or digest(live.state) != digest(document.state):
            return "state"
        return None if live.chain == document.chain else "chain"

    async def _write(self, into: DocumentStore, key: str, made: Made, document: Document) -> None:
        """What the document names first, itself last: a crash leaves nothing that leads nowhere."""
        for name, content in made.beside.items():
            if not name.startswith("blobs/"):
                await _create(into, name, content.encode())
        if await into.load(key) is not None:
            self._counts["kept"] += 1
            return
        blobs = {name: body for name, body in made.blobs.items() if name.removeprefix("blobs/") in _named(document)}
        if isinstance(document.state, OrgState):
            for entry in document.state.harnesses.values():
                body = await self._source.payload(entry.body)
                blobs |= {f"blobs/{entry.body}": body} if body is not None else {}
        for name, body in blobs.items():
            await into.put(name, body)
        for subject in made.subjects:
            if (person := await self._source.personal(subject)) is not None:
                await _create(into, personal_key(subject), person)
        for marker in document.state.unsettled:
            name = f"unsettled/{aggregate_of_state(document.state).key}/{marker.audit_seq}"
            await into.put(name, marker.model_dump_json().encode())
        self._counts["written" if await _create(into, key, document.model_dump_json().encode()) else "kept"] += 1

    def _broken(self, record: Record, key: str, error: Unreadable) -> None:
        where = f"{record.partition}:{record.offset}"
        self._wrong.append(Wrong(where=where, aggregate=key, rule=error.rule, text=str(error)))


def document_key(document: Document) -> str:
    """Where a document is kept."""
    match document.state:
        case WorkflowState(workflow_id=name):
            return f"workflows/{name}.json"
        case SessionState(session_id=name):
            return f"sessions/{name}.json"
        case OrgState(org_id=name):
            return f"orgs/{name}.json"


def _named(document: Document) -> set[str]:
    """Hashes of the payloads that a document's memory names."""
    return {kept.sha256 for kept in document.verdicts.values() if isinstance(kept, Blob)}


async def _create(into: DocumentStore, key: str, body: bytes) -> bool:
    """Whether it was not there yet."""
    try:
        await into.create(key, body)
    except Conflict:
        return False
    return True
