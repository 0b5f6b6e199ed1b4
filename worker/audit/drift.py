"""Drift: the log against the live store, cluster and agents.  Changes nothing; what may settle it is in findings.py.

First the log is read to its end (heads.py), then each document; so a document may be ahead of what was read, never
behind.  What looks wrong is looked at again: the document first, then the log from there on, as a worker may have
written both meanwhile.  A decision that waits in a document's outbox is history that is not published yet.

It cannot see turns (executors cannot be asked: `unasked` counts the cancelled ones), what carries no label, a document
edited before its first decision or whose history was cut, and what of a document is no state.  The cluster is asked
once per cancelled evaluation.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence

from pydantic import ValidationError

from schemas.base import Model
from schemas.commands import Aggregate
from schemas.documents import Document, HarnessMetadata, SessionState, State, WorkflowState, aggregate_of_state, digest
from schemas.status import Status
from worker.audit.findings import Finding, Kind
from worker.audit.heads import Head, Heads
from worker.audit.lookout import Lookout, name_of, still_running
from worker.ports import Ports

AT_ONCE = 16
"""Documents that are looked at together."""
FOLDERS = ("orgs/", "sessions/", "workflows/")
WRITTEN_BY = "a person: only an aggregate's creator and the worker's decisions write its document"
REBUILT = "a person: `worker audit rebuild --only-missing` writes it again from its history"
LOOK_FIRST = "a person: its document drifted, so nothing is asked on the strength of it"


class Report(Model):
    """What was looked at, and what was found."""

    records: int
    """Audit records read."""
    documents: int
    """Documents read."""
    findings: tuple[Finding, ...]
    """What is not as the log says, by aggregate."""
    unreachable: tuple[str, ...]
    """What should have been asked and could not be: nothing is said about it."""
    unasked: int
    """Cancelled turns, which no executor can be asked about."""


class Drift:
    """One look.  `label`: what Jobs carry the evaluation's id under; `bound_seconds`: how long a cancel may take."""

    def __init__(self, ports: Ports, label: str, bound_seconds: float) -> None:
        self._store = ports.store
        self._heads = Heads(ports.stream)
        self._lookout = Lookout(ports, label, bound_seconds)
        self._found: list[Finding] = []
        self._seen: set[str] = set()
        self._unreadable: set[str] = set()
        self._documents = 0
        self._again = asyncio.Lock()

    async def look(self) -> Report:
        """Once.  Raises Unavailable where log or store are away, Misconfigured where the log holds no audit records."""
        await self._heads.read_on()
        async for keys in self._keys():
            await asyncio.gather(*(self._document(key) for key in keys))
        for key in self._heads.last.keys() - self._seen:
            kind, _, name = key.partition("/")
            await self._unspoken(Aggregate.model_validate({"type": kind, "id": name}))
        return Report(
            records=self._heads.records,
            documents=self._documents,
            findings=tuple(sorted(self._found, key=lambda found: (found.aggregate or "", found.kind, found.what))),
            unreachable=tuple(self._lookout.unreachable),
            unasked=self._lookout.unasked,
        )

    async def _keys(self) -> AsyncIterator[Sequence[str]]:
        for folder in FOLDERS:
            after = ""
            while keys := await self._store.list(folder, after=after):
                after = keys[-1]
                for at in range(0, len(keys), AT_ONCE):
                    yield keys[at : at + AT_ONCE]

    async def _document(self, key: str) -> None:
        """One document that is there: against its history, then what it speaks of."""
        document = await self._load(key)
        if document is None:
            return
        self._documents += 1
        of = aggregate_of_state(document.state)
        self._seen.add(of.key)
        head = self._heads.last.get(of.key)
        trouble = differs(document, {head.audit_seq: head} if head else {})
        if trouble:
            document, trouble = await self._look_again(key, of, document)
        if trouble and not self._heads.known[of.key] and self._heads.may_be_cut(of.key):
            trouble = None  # its history may have been cut off: nothing can be said
        if not trouble:
            self._found += await self._lookout.things(document, of, _status(document.state), head)
            return
        self._report("document_changed" if self._heads.known[of.key] else "document_without_history", of, key, trouble)
        status = head.status if head and head.status else _status(document.state)
        for found in await self._lookout.things(document, of, status, head):
            self._found.append(found.model_copy(update={"ask": None, "settled_by": LOOK_FIRST}))

    async def _look_again(self, key: str, of: Aggregate, document: Document) -> tuple[Document, str | None]:
        """The document afresh, then the log from where it was read to: so each decision since then is known."""
        async with self._again:
            self._heads.watch(of.key)
            document = await self._load(key) or document
            await self._heads.read_on()
            return document, differs(document, self._heads.known[of.key])

    async def _load(self, key: str) -> Document | None:
        """None where there is none that can be read; one that is there and cannot is a finding."""
        stored = await self._store.load(key)
        if stored is None:
            return None
        try:
            return Document.model_validate_json(stored.body)
        except ValidationError as error:
            if key not in self._unreadable:
                self._unreadable.add(key)
                self._report("document_changed", None, key, f"it is no document: {error.error_count()} rules broken")
            return None

    async def _unspoken(self, of: Aggregate) -> None:
        """An aggregate with history of which no document speaks."""
        key = await self._place(of)
        document = await self._load(key) if key else None
        if document is not None and aggregate_of_state(document.state) == of:
            return  # it was created since the documents were listed
        head = self._heads.last[of.key]
        said = f"the last record is number {head.audit_seq}, status {head.status or 'unknown'}"
        if key and document is not None:
            self._report("document_changed", of, key, f"it speaks of another aggregate; {said}")
        elif key not in self._unreadable:
            missing = key or f"custom-harnesses/{of.id}/metadata.json"
            self._report("document_deleted", of, missing, f"it is not there; {said}", REBUILT)
        if of.type == "evaluation" and head.status == Status.CANCELLED:
            for job in await self._lookout.jobs(of.id, ()):
                found = still_running(of, name_of(job), None)
                self._found.append(found.model_copy(update={"settled_by": LOOK_FIRST}))

    async def _place(self, of: Aggregate) -> str | None:
        """Where its document is; None: a custom harness whose metadata is not there, or names none."""
        match of.type:
            case "evaluation":
                return f"workflows/{of.id}.json"
            case "session":
                return f"sessions/{of.id}.json"
            case "org":
                return f"orgs/{of.id}.json"
            case "custom-harness":
                stored = await self._store.load(f"custom-harnesses/{of.id}/metadata.json")
                metadata = HarnessMetadata.model_validate_json(stored.body) if stored else None
                return f"workflows/{metadata.workflow_id}.json" if metadata and metadata.workflow_id else None

    def _report(self, kind: Kind, of: Aggregate | None, what: str, detail: str, settled_by: str = WRITTEN_BY) -> None:
        name = of.key if of else None
        self._found.append(Finding(kind=kind, aggregate=name, what=what, detail=detail, settled_by=settled_by))


def differs(document: Document, known: Mapping[int, Head]) -> str | None:
    """How a document differs from its history, if it does; `known`: records of its chain, the last one among them."""
    chain, last = document.chain, max(known, default=0)
    if not known and chain.audit_seq == 0:
        return "it is past its first version, and has no history" if document.state.version > 0 else None
    record_sha256, state_sha256 = chain.record_sha256, chain.state_sha256
    if chain.audit_seq > last:
        waiting = {e.audit_seq: e.body for e in document.outbox if e.topic == "audit" and e.audit_seq > last}
        if sorted(waiting) != list(range(last + 1, chain.audit_seq + 1)):
            return f"its chain is at number {chain.audit_seq}, the log at {last}"
        record_sha256 = hashlib.sha256(waiting[chain.audit_seq].encode()).hexdigest()
    elif chain.audit_seq in known:
        head = known[chain.audit_seq]
        record_sha256, state_sha256 = head.record_sha256, head.state_sha256
    else:
        return f"its chain is at number {chain.audit_seq}, the log at {last}: an older document came back"
    if chain.record_sha256 != record_sha256:
        return f"number {chain.audit_seq} of its chain is not the log's"
    found = digest(document.state)
    if found != state_sha256:
        return f"the digest of its state is {found}, number {chain.audit_seq} of the log says {state_sha256}"
    return None


def _status(state: State) -> str | None:
    """What a document says of itself: a workflow, or the last turn of a session."""
    match state:
        case WorkflowState():
            return state.status.value
        case SessionState():
            return state.turn.status.value if state.turn else None
        case _:
            return None
