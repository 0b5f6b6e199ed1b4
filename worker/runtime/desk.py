"""The handler's desk for one key: what only this assignment knows, the cache, the fences, the commits (musts 3, 4, 6).

It lives in the memory of one assignment and dies with it: the document and the log hold all that the next owner needs.
Knows nothing of queues or effects.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

from schemas.audit import Context
from schemas.base import INLINE_BYTES_MAX, Blob, Coordinates
from schemas.commands import Aggregate, SessionResume, WorkflowResume
from schemas.documents import Answered, Document, Failure
from worker.domain.decision import AnyState, Refused
from worker.errors import OutcomeUnknown, Transient, Unavailable
from worker.handler import STEPS_PER_WRITE_MAX, Arrived, Loaded, verdict_source
from worker.ledger import adopts, refusal_record, render
from worker.ports import Outgoing, Stored, Unchanged
from worker.runtime.cache import Entry
from worker.runtime.committer import Finished
from worker.runtime.outgoing import audit_refused, result, trace_of
from worker.runtime.shop import Shop

LARGE_BYTES = 256 * 1024


class LaneDesk:
    """Implements `handler.Desk`; `waiting` are records whose command is open, `entry` the document in hand."""

    def __init__(self, shop: Shop, aggregate: Aggregate) -> None:
        self.aggregate = aggregate
        self.waiting: list[Arrived] = []
        self.entry: Entry | None = None
        self._shop = shop
        self._lost: str | None = None
        self._refusals = 0
        self._refusals_committed = asyncio.Event()
        self._refusals_committed.set()

    @property
    def idle(self) -> bool:
        """Nobody waits, and every refusal is known to be committed."""
        return not self.waiting and self._refusals == 0

    @property
    def steps_max(self) -> int:
        """How many inputs go into one write: fewer for a large document, so that nobody waits long for the loop."""
        large = self.entry is not None and self.entry.size > LARGE_BYTES
        return STEPS_PER_WRITE_MAX // 16 if large else STEPS_PER_WRITE_MAX

    def now(self) -> datetime:
        return self._shop.clock.now()

    def forget(self) -> None:
        """The document in hand is not (or may not be) what the store holds."""
        if self.entry is not None:
            self._shop.cache.drop(self.entry.key)
            self._lost, self.entry = self.entry.key, None

    @property
    def owes_reload(self) -> bool:
        """Somebody waits for the document that was forgotten: a command, or a verdict that takes its outbox along."""
        return self._lost is not None and (bool(self.waiting) or self._shop.committer.awaits(self._lost))

    async def reload(self) -> None:
        """Load what was forgotten.  Raises as the store does, and whatever a document that is corrupt raises."""
        if self._lost is not None:
            await self.load(self._lost, fresh_since=None)

    def give_up(self) -> None:
        """The document cannot be read again: what is decided goes out without its outbox."""
        lost, self._lost = self._lost, None
        if lost is not None:
            self._shop.committer.absent(lost)

    async def load(self, key: str, *, fresh_since: int | None) -> Loaded:
        """From the cache, or the store; a load that did not come from the cache publishes the outbox again."""
        entry = self._shop.cache.get(key)
        if entry is not None and (fresh_since is None or entry.mark > fresh_since):
            self.entry = entry
            return entry.loaded()
        mark, version = self._shop.mark(), entry.version if entry else ""
        stored: Stored | Unchanged | None
        if entry is not None:
            stored = await self._shop.store.load_if_changed(key, entry.version)
            if isinstance(stored, Unchanged):
                entry.mark = mark
                self.entry = entry
                return entry.loaded()
        else:
            stored = await self._shop.store.load(key)
        self._lost = None if self._lost == key else self._lost
        now = self._shop.cache.get(key)
        if now is not entry or (entry is not None and entry.version != version):
            return await self.load(key, fresh_since=fresh_since)  # another lane of this document wrote meanwhile
        if stored is None:
            self._shop.cache.drop(key)
            self._shop.committer.absent(key)
            self.entry = None
            return Loaded(key, None, mark)
        assert not isinstance(stored, Unchanged), "only asked for where there is an entry"
        begun = self._shop.committer.begun  # only a transaction that begins from now on comes after the read (must 3)
        document = Document.model_validate_json(stored.body)
        size = len(stored.body)
        self.entry = Entry(key, document, stored.version, begun, mark, size, adopts=adopts(document))
        self._shop.cache.put(self.entry)
        self._shop.committer.publish(key)
        return self.entry.loaded()

    async def write(self, loaded: Loaded, document: Document, blobs: dict[str, bytes], *, decides: bool) -> None:
        """One conditional write, after what must be known before it.

        Dies before the replace: blobs and a marker too many, which nobody names, and the next resume removes.  Dies
        after it: the record is fetched again, finds its command in the document, and goes on.  A zombie that wakes up
        here is fenced by the barrier, or loses the compare-and-set, or writes what the next owner will read.
        """
        entry = self.entry
        assert entry is not None, "it was loaded here"
        assert loaded.document is entry.document, "what was decided on is what is replaced"
        for key, body in blobs.items():
            await self._shop.store.put(key, body)
        if decides:
            await self._shop.committer.barrier(entry.loaded_after)
            await self._refusals_committed.wait()
        old = {marker.audit_seq for marker in entry.document.state.unsettled}
        new = {marker.audit_seq: marker for marker in document.state.unsettled}
        for sequence in sorted(new.keys() - old):
            await self._shop.store.put(self.marker(sequence), new[sequence].model_dump_json().encode())
        mark = self._shop.mark()
        body = document.model_dump_json().encode()
        try:
            entry.version = await self._shop.store.replace(entry.key, body, entry.version)
        except Unavailable as error:
            raise OutcomeUnknown(str(error)) from error
        entry.adopts = entry.adopts and document.chain == entry.document.chain  # a fence adopts nothing
        entry.document, entry.mark = document, mark
        self._shop.cache.drop(entry.key)  # put again, it is counted with its new size
        entry.size = len(body)
        self._shop.cache.put(entry)
        self._shop.committer.publish(entry.key)
        if gone := sorted(old - new.keys()):
            with contextlib.suppress(Transient):  # one that is left behind is removed by the resume that it asks for
                await self._shop.store.delete([self.marker(sequence) for sequence in gone])

    def marker(self, sequence: int) -> str:
        """Where the reconciler finds what this aggregate owes."""
        return f"unsettled/{self.aggregate.key}/{sequence}"

    def settled(self, state: AnyState) -> tuple[Coordinates, ...]:
        """Of the memory's entries, those of this partition whose commit is known, where they could leave."""
        surplus = max(0, len(state.answered) - self._shop.memory_commands + 1)
        candidates = [entry.at for entry in state.answered[:surplus]] + [entry.at for entry in state.failures]
        return tuple(at for at in candidates if self._shop.is_committed(at))

    def acknowledged(self, loaded: Loaded) -> int:
        return self.entry.acknowledged if self.entry else 0

    def wait(self, arrived: Arrived) -> None:
        self.waiting.append(arrived)

    async def answer(self, arrived: Arrived, loaded: Loaded, entry: Answered | Failure) -> None:
        assert loaded.document is not None, "the entry stands in it"
        source = verdict_source(loaded.document, entry)
        body: bytes | Blob
        if isinstance(source, str):
            body = source.encode()
        elif source.inline:
            stored = await self._shop.store.load(source.key)
            if stored is None:
                raise Unavailable(f"{source.key} is not there")
            body = stored.body
        else:
            body = source
        await self._drop_stale_marker(arrived, loaded.document.state)
        trace = trace_of(arrived.record)
        published = result(self.aggregate.key, arrived.at, entry.at, body, arrived.command.received_at, trace)
        self._finish(arrived, entry.code, (published,))

    async def refuse(self, arrived: Arrived, loaded: Loaded, context: Context, refused: Refused) -> None:
        command, state = arrived.command, loaded.document.state if loaded.document else None
        sealed = await self._shop.sealer.seal(arrived.personal)
        settings = self._shop.handler.settings_blob.sha256
        record, blobs = refusal_record(
            self.aggregate, command, context, refused.verdict, sealed, settings, state, adopt=loaded.adopts
        )
        rendered = render(refused.verdict, arrived.personal, {})
        body = rendered if len(rendered) <= INLINE_BYTES_MAX else blobs.add(rendered)
        for key, blob in blobs.items():
            await self._shop.store.put(key, blob)
        published = (
            result(self.aggregate.key, arrived.at, arrived.at, body, command.received_at, trace_of(arrived.record)),
            audit_refused(self.aggregate, record, arrived.at, context.now),
        )
        self._finish(arrived, refused.verdict.code, published, self._refusal())

    def bury(self, arrived: Arrived, error: Exception) -> None:
        """Dead letter and verdict for a record that met a bug: a refusal, as far as later writes are concerned."""
        self._shop.bury(arrived, error, self._refusal())

    def _refusal(self) -> Callable[[], None]:
        """One refusal more; -> what to call once it is committed."""
        self._refusals += 1
        self._refusals_committed.clear()

        def committed() -> None:
            self._refusals -= 1
            if not self._refusals:
                self._refusals_committed.set()

        return committed

    def _finish(
        self, arrived: Arrived, code: str, records: tuple[Outgoing, ...], then: Callable[[], None] | None = None
    ) -> None:
        """Hand over to the commit, with the document whose outbox must go along (must 4)."""
        entry = self.entry
        if entry is not None and self._shop.cache.get(entry.key) is None:
            self._shop.cache.put(entry)  # evicted meanwhile: it holds the verdict, so its outbox is the one to send

        def committed() -> None:
            if then:
                then()
            self._shop.answered(arrived, code)

        self._shop.committer.finish(Finished(arrived.record.offset, records, entry.key if entry else None, committed))

    async def _drop_stale_marker(self, arrived: Arrived, state: AnyState) -> None:
        """A resume whose marker the document does not own (any more): nothing else would ever remove it."""
        operation = arrived.command.operation
        if not isinstance(operation, WorkflowResume | SessionResume):
            return
        owned = {self.marker(marker.audit_seq) for marker in state.unsettled}
        sequence = operation.marker.rpartition("/")[2]
        ours = sequence.isascii() and sequence.isdigit() and operation.marker == self.marker(int(sequence))
        if ours and operation.marker not in owned:
            await self._shop.store.delete([operation.marker])
