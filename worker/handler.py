"""The handler: the way of one input of one key, as the numbered list of design section 1.

Everything that a crash or a zombie could disturb is decided here by one rule: what is not in the document did not
happen.  A step that loses its compare-and-set, or does not know its outcome, is repeated on a fresh document, which
remembers every input until it is answered; so repeating is safe, whoever won.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.audit import Context, DecisionSettings, DocumentRead
from schemas.base import Blob, Coordinates, to_milliseconds
from schemas.commands import Aggregate, Command, HarnessUpdate, Personal
from schemas.documents import Answered, Document, Failure, HarnessMetadata, OrgState, coordinates_key
from schemas.observations import Observed
from worker.domain.decide import decide
from worker.domain.decision import AnyState, Decision, Known, Nothing, Refused, Waiting, Written
from worker.ledger import Step, advance, blob_of, settings_blob
from worker.ports import DocumentStore, Ids, Record
from worker.sealing import Sealer

STEPS_PER_WRITE_MAX = 64


@dataclass(frozen=True, slots=True)
class Arrived:
    """A command record, decoded; `mark` orders its fetch against reads of documents."""

    record: Record
    command: Command
    personal: Personal
    mark: int

    @property
    def at(self) -> Coordinates:
        return self.command.at


Given = Arrived | Observed


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document as the desk holds it; None: there is no such object.  `adopts`: see `ledger.adopts`."""

    key: str | None
    document: Document | None
    mark: int
    adopts: bool = False


class Desk(Protocol):
    """What a lane offers the handler: the runtime's side of the list (caching, fences, commits)."""

    aggregate: Aggregate

    def now(self) -> datetime: ...

    async def load(self, key: str, *, fresh_since: int | None) -> Loaded:
        """Step 2; from the cache unless it must be newer than `fresh_since`."""

    async def write(self, loaded: Loaded, document: Document, blobs: dict[str, bytes], *, decides: bool) -> None:
        """Steps 5 and 8: fenced, conditional.  Raises Conflict, OutcomeUnknown, Unavailable."""

    def settled(self, state: AnyState) -> tuple[Coordinates, ...]:
        """Records of the memory whose commit is known."""

    def acknowledged(self, loaded: Loaded) -> int:
        """Outbox entries known to be published, by audit_seq."""

    def wait(self, arrived: Arrived) -> None:
        """The record waits for its command's verdict."""

    async def answer(self, arrived: Arrived, loaded: Loaded, entry: Answered | Failure) -> None:
        """The record's verdict stands in the document."""

    async def refuse(self, arrived: Arrived, loaded: Loaded, context: Context, refused: Refused) -> None:
        """The record's verdict stands nowhere but in its transaction."""


class Handler:
    """Stateless between steps; one for all lanes."""

    def __init__(self, store: DocumentStore, ids: Ids, sealer: Sealer, settings: DecisionSettings, build: str) -> None:
        self._store, self._ids, self._sealer, self._settings, self._build = store, ids, sealer, settings, build
        self.settings_blob, self._settings_body = settings_blob(settings)

    async def start(self) -> None:
        """Put the settings where audit records name them."""
        await self._store.put(self.settings_blob.key, self._settings_body)

    async def handle(self, desk: Desk, inputs: Sequence[Given]) -> int:
        """Decide the first inputs of a lane and make them durable; -> how many are done with."""
        key, seen = await self._locate(desk.aggregate, inputs[0])
        loaded = await self._load(desk, key, None)  # 2
        while True:
            steps, last, context = await self._decide(desk, loaded, inputs, seen)  # 3, 4, 7
            if steps:
                await self._write(desk, loaded, steps)  # 5, 8
                for step, given in zip(steps, inputs, strict=False):
                    if isinstance(given, Arrived) and isinstance(step.given, Command):
                        desk.wait(given)
                return len(steps)
            given = inputs[0]
            if isinstance(last, Refused) and isinstance(given, Arrived) and key and loaded.mark < given.mark:
                loaded = await self._load(desk, key, given.mark)  # a refusal needs a fresh read (must 9)
                continue
            await self._answer(desk, loaded, given, last, context)
            return 1

    async def _load(self, desk: Desk, key: str | None, fresh_since: int | None) -> Loaded:
        return await desk.load(key, fresh_since=fresh_since) if key else Loaded(None, None, 0)

    async def _decide(
        self, desk: Desk, loaded: Loaded, inputs: Sequence[Given], seen: tuple[DocumentRead, ...]
    ) -> tuple[list[Step], Decision, Context]:
        """Decide input after input on the evolving state, up to the first one that asks for no write."""
        state = loaded.document.state if loaded.document else None
        sequence = loaded.document.chain.audit_seq + loaded.adopts if loaded.document else 0
        steps: list[Step] = []
        last: Decision = Nothing()
        context = self._context(desk, state, sequence + 1, seen)
        for given in inputs[:STEPS_PER_WRITE_MAX]:
            if steps:
                context = self._context(desk, state, sequence + len(steps) + 1, seen)
            if isinstance(given, Arrived):
                documents = await self._bodies(state, given.command, seen, steps)
                context = context.model_copy(update={"documents": documents})
            last = decide(state, given.command if isinstance(given, Arrived) else given, context)
            if not isinstance(last, Written):
                break
            steps.append(await self._step(given, context, last))
            state = last.state
        return steps, last, context

    async def _step(self, given: Given, context: Context, written: Written) -> Step:
        if isinstance(given, Observed):
            return Step(given, context, written)
        sealed = await self._sealer.seal(given.personal)
        return Step(given.command, context, written, given.personal, sealed)

    async def _write(self, desk: Desk, loaded: Loaded, steps: Sequence[Step]) -> None:
        assert loaded.document is not None, "a decision to write has a state"
        draught = advance(
            loaded.document,
            steps,
            write_id=self._ids.fresh(),
            settings_sha256=self.settings_blob.sha256,
            acknowledged=desk.acknowledged(loaded),
            adopt=loaded.adopts,
        )
        decides = any(isinstance(step.given, Command) for step in steps)
        await desk.write(loaded, draught.document, draught.blobs, decides=decides)

    async def _answer(self, desk: Desk, loaded: Loaded, given: Given, decision: Decision, context: Context) -> None:
        if isinstance(given, Observed):
            return
        match decision:
            case Known(entry):
                await desk.answer(given, loaded, entry)
            case Waiting():
                desk.wait(given)
            case Refused():
                if decision.fences and loaded.document and not given.command.dry_run:
                    await self._fence(desk, loaded)
                await desk.refuse(given, loaded, context, decision)
            case Written() | Nothing():
                raise AssertionError("a command is always answered, waited for or written")

    async def _fence(self, desk: Desk, loaded: Loaded) -> None:
        """Move the ETag, so that no earlier write of the same command can still arrive (must 9)."""
        assert loaded.document is not None, "there is something to move"
        update = {"revision": loaded.document.revision + 1, "write_id": self._ids.fresh()}
        await desk.write(loaded, loaded.document.model_copy(update=update), {}, decides=False)

    def _context(self, desk: Desk, state: AnyState | None, audit_seq: int, seen: tuple[DocumentRead, ...]) -> Context:
        return Context(
            now=to_milliseconds(desk.now()),
            build=self._build,
            audit_seq=audit_seq,
            settings=self._settings,
            documents=seen,
            settled=desk.settled(state) if state is not None else (),
        )

    # ------------------------------------------------------------------------------ where documents are

    async def _locate(self, aggregate: Aggregate, given: Given) -> tuple[str | None, tuple[DocumentRead, ...]]:
        """The key of the aggregate's document; a creation's is found by its harness's metadata."""
        match aggregate.type:
            case "evaluation":
                return f"workflows/{aggregate.id}.json", ()
            case "session":
                return f"sessions/{aggregate.id}.json", ()
            case "org":
                return f"orgs/{aggregate.id}.json", ()
            case "custom-harness":
                key = f"custom-harnesses/{aggregate.id}/metadata.json"
                stored = await self._store.load(key)
                if stored is None:
                    return None, (DocumentRead(key=key),)
                metadata = HarnessMetadata.model_validate_json(stored.body)
                content = metadata.model_dump_json()
                read = DocumentRead(key=key, sha256=blob_of(content.encode()).sha256, content=content)
                workflow = metadata.workflow_id
                return f"workflows/{workflow}.json" if workflow else None, (read,)

    async def _bodies(
        self, state: AnyState | None, command: Command, seen: tuple[DocumentRead, ...], steps: Sequence[Step]
    ) -> tuple[DocumentRead, ...]:
        """A harness's body, which an update changes; an earlier step of this write may hold it."""
        operation = command.operation
        if not isinstance(operation, HarnessUpdate) or not isinstance(state, OrgState):
            return seen
        entry = state.harnesses.get(operation.harness_id)
        if entry is None:
            return seen
        key = f"blobs/{entry.body}"
        body = next((b for s in steps for b in s.written.blobs if blob_of(b).key == key), None)
        if body is None:
            stored = await self._store.load(key)
            body = stored.body if stored else None
        read = DocumentRead(key=key, sha256=entry.body if body else None, content=body.decode() if body else None)
        return (*seen, read)


def verdict_source(document: Document, entry: Answered | Failure) -> str | Blob:
    """A remembered verdict's bytes, or where they are.  Raises KeyError where the document lost them."""
    return document.verdicts[coordinates_key(entry.at)]
