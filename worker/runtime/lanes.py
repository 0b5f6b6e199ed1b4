"""Lanes: the inputs of one key are decided one by one; keys go on side by side (must 6).

A lane is the handler's desk: it adds what only this assignment knows, the cache, the fences before a write, and which
commits are known.  A lane lives in the memory of one assignment and dies with it: the document and the log hold all
that the next owner needs.
"""

import asyncio
from collections import deque
from datetime import datetime

from schemas.audit import Context
from schemas.base import Blob, Coordinates
from schemas.cloudevents import headers
from schemas.commands import Aggregate
from schemas.documents import Answered, Document, Failure
from schemas.observations import Observed
from schemas.verdicts import Verdict
from worker.domain.decision import AnyState, Refused
from worker.errors import AssignmentLost, Conflict, OutcomeUnknown, Transient, Unavailable
from worker.handler import Arrived, Given, Loaded, verdict_source
from worker.ledger import refusal_record, render
from worker.ports import Outgoing, Stored, Topic, Unchanged
from worker.runtime.cache import Entry
from worker.runtime.committer import Finished
from worker.runtime.flight import Flight
from worker.runtime.retry import Backoff
from worker.runtime.shop import Shop


class Lane:
    """The queue of one key, and the desk at which its inputs are decided."""

    def __init__(self, shop: Shop, aggregate: Aggregate) -> None:
        self.aggregate = aggregate
        self._shop = shop
        self._inputs: deque[Given] = deque()
        self._waiting: list[Arrived] = []
        self._refusals = 0
        self._refusals_committed = asyncio.Event()
        self._refusals_committed.set()
        self._flight: Flight | None = None
        self._entry: Entry | None = None
        self._task: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------ the queue

    def put(self, given: Given) -> None:
        self._inputs.append(given)
        if self._task is None:
            self._task = self._shop.spawn(self._work())

    @property
    def idle(self) -> bool:
        return self._task is None and not self._waiting and self._refusals == 0

    @property
    def quiet(self) -> bool:
        """Nothing is being decided; effects may be under way."""
        return self._task is None

    async def stop(self) -> None:
        """End effects; the lane's own task is ended by the shop."""
        if self._flight:
            await self._flight.stop()

    async def _work(self) -> None:
        backoff = Backoff(self._shop.clock, self._shop.ids)
        while self._inputs:
            try:
                done = await self._shop.handler.handle(self, list(self._inputs)[:64])
                for _ in range(done):
                    self._inputs.popleft()
                await self._settle()
                backoff.reset()
            except (Conflict, OutcomeUnknown) as error:
                self._forget()
                if backoff.tries or isinstance(error, OutcomeUnknown):
                    await backoff.pause(error)
                else:
                    backoff.tries += 1
            except Transient as error:
                self._shop.outage(self.aggregate, error)
                await backoff.pause(error)
            except AssignmentLost:
                raise
            except Exception as error:  # noqa: BLE001  # anything unclassified is a bug (must 7)
                self._bury(error)
        self._task = None
        self._shop.lane_quiet(self)

    def _forget(self) -> None:
        if self._entry is not None:
            self._shop.cache.drop(self._entry.key)
            self._entry = None

    def _bury(self, error: Exception) -> None:
        """A bug: dead letters with the reason, and verdicts; the partition goes on (must 7)."""
        given = self._inputs.popleft()
        self._shop.bug(self.aggregate, error)
        victims = [given] if isinstance(given, Arrived) else self._waiting
        for arrived in list(victims):
            if arrived in self._waiting:
                self._waiting.remove(arrived)
            self._shop.bury(arrived, error)

    # ------------------------------------------------------------------------------ the desk

    def now(self) -> datetime:
        return self._shop.clock.now()

    async def load(self, key: str, *, fresh_since: int | None) -> Loaded:
        """From the cache, or the store; a load that did not come from the cache publishes the outbox again."""
        entry = self._shop.cache.get(key)
        if entry is not None and (fresh_since is None or entry.mark > fresh_since):
            self._entry = entry
            return Loaded(key, entry.document, entry.mark)
        begun, mark = self._shop.committer.begun, self._shop.mark()
        stored: Stored | Unchanged | None
        if entry is not None:
            stored = await self._shop.store.load_if_changed(key, entry.version)
            if isinstance(stored, Unchanged):
                entry.mark = mark
                return Loaded(key, entry.document, mark)
        else:
            stored = await self._shop.store.load(key)
        if stored is None:
            self._shop.cache.drop(key)
            self._entry = None
            return Loaded(key, None, mark)
        assert not isinstance(stored, Unchanged), "only asked for where there is an entry"
        document = Document.model_validate_json(stored.body)
        self._entry = Entry(key, document, stored.version, loaded_after=begun, mark=mark)
        self._shop.cache.put(self._entry)
        if self._entry.unpublished:
            self._shop.committer.publish(key)
        return Loaded(key, document, mark)

    async def write(self, loaded: Loaded, document: Document, blobs: dict[str, bytes], *, decides: bool) -> None:
        """One conditional write, after what must be known before it (musts 3 and 6)."""
        entry = self._entry
        assert entry is not None, "it was loaded here"
        assert loaded.document is entry.document, "what was decided on is what is replaced"
        for key, body in blobs.items():
            await self._shop.store.put(key, body)
        if decides:
            await self._shop.committer.barrier(entry.loaded_after)
            await self._refusals_committed.wait()
        mark = self._shop.mark()
        body = document.model_dump_json().encode()
        await self._markers(loaded, document, before=True)
        try:
            entry.version = await self._shop.store.replace(entry.key, body, entry.version)
        except Unavailable as error:
            raise OutcomeUnknown(str(error)) from error
        entry.document, entry.mark = document, mark
        await self._markers(loaded, document, before=False)
        if entry.unpublished:
            self._shop.committer.publish(entry.key)

    async def _markers(self, loaded: Loaded, document: Document, *, before: bool) -> None:
        """Markers are there before the verdict that owes them, and go after what settles them is durable."""
        old = {m.audit_seq for m in loaded.document.state.unsettled} if loaded.document else set()
        new = {m.audit_seq: m for m in document.state.unsettled}
        prefix = f"unsettled/{self.aggregate.key}"
        if before:
            for sequence, marker in new.items():
                if sequence not in old:
                    await self._shop.store.put(f"{prefix}/{sequence}", marker.model_dump_json().encode())
        elif gone := sorted(old - set(new)):
            await self._shop.store.delete([f"{prefix}/{sequence}" for sequence in gone])

    def settled(self, state: AnyState) -> tuple[Coordinates, ...]:
        """Of the memory's entries, those of this partition whose commit is known, where they could leave."""
        surplus = max(0, len(state.answered) - self._shop.memory_commands + 1)
        candidates = [entry.at for entry in state.answered[:surplus]] + [entry.at for entry in state.failures]
        return tuple(at for at in candidates if self._shop.is_committed(at))

    def acknowledged(self, loaded: Loaded) -> int:
        return self._entry.acknowledged if self._entry else 0

    def wait(self, arrived: Arrived) -> None:
        self._waiting.append(arrived)

    async def answer(self, arrived: Arrived, loaded: Loaded, entry: Answered | Failure) -> None:
        assert loaded.document is not None, "the entry stands in it"
        source = verdict_source(loaded.document, entry)
        if isinstance(source, Blob):
            stored = await self._shop.store.load(source.key)
            if stored is None:
                raise Unavailable(f"{source.key} is not there")
            body = stored.body
        else:
            body = source.encode()
        self._finish(arrived, body, self._entry.key if self._entry else None)

    async def refuse(self, arrived: Arrived, loaded: Loaded, context: Context, refused: Refused) -> None:
        command = arrived.command
        sealed = await self._shop.sealer.seal(arrived.personal)
        state = loaded.document.state if loaded.document else None
        settings = self._shop.handler.settings_blob.sha256
        record = refusal_record(self.aggregate, command, context, refused.verdict, sealed, settings, state)
        extra = (_audit(self.aggregate, record.model_dump_json(exclude_none=True).encode(), arrived, context.now),)
        body = render(refused.verdict, arrived.personal, {})
        self._finish(arrived, body, self._entry.key if state is not None and self._entry else None, extra, refusal=True)

    def _finish(
        self,
        arrived: Arrived,
        body: bytes,
        document_key: str | None,
        extra: tuple[Outgoing, ...] = (),
        *,
        refusal: bool = False,
    ) -> None:
        if refusal:
            self._refusals += 1
            self._refusals_committed.clear()

        def committed() -> None:
            self._shop.answered(arrived, body)
            if refusal:
                self._refusals -= 1
                if not self._refusals:
                    self._refusals_committed.set()
            self._shop.lane_quiet(self)

        verdict = result(self.aggregate.key, arrived.at, body, arrived.command.received_at)
        records = (verdict, *extra)
        self._shop.committer.finish(Finished(arrived.record.offset, records, document_key, refusal, committed))

    # ------------------------------------------------------------------------------ after a step

    async def _settle(self) -> None:
        """Answer whoever waits and can be answered now; decide again whoever is unknown; steer the effects."""
        entry = self._entry
        if entry is None:
            return
        state = entry.document.state
        loaded = Loaded(entry.key, entry.document, entry.mark)
        for arrived in list(self._waiting):
            known = _known(state, arrived)
            if known is not None:
                await self.answer(arrived, loaded, known)
                self._waiting.remove(arrived)
            elif all(opened.id != arrived.command.id for opened in state.open):
                self._waiting.remove(arrived)
                self._inputs.appendleft(arrived)
        if state.open and self._flight is None:
            self._flight = self._shop.flight(self._observed)
        if self._flight is not None:
            self._flight.steer(state)

    def _observed(self, observed: Observed) -> None:
        self.put(observed)


def _known(state: AnyState, arrived: Arrived) -> Answered | Failure | None:
    command = arrived.command
    for entry in reversed(state.answered):
        if entry.id == command.id and entry.fingerprint == command.fingerprint:
            return entry
    for failure in state.failures:
        if failure.id == command.id and failure.at == command.at:
            return failure
    return None


def result(key: str, at: Coordinates, body: bytes, received_at: datetime) -> Outgoing:
    """A verdict as it is published: the same bytes whenever the same verdict is."""
    verdict_id = Verdict.model_validate_json(body).id
    ce = headers(id=verdict_id, type="command.verdict", time=received_at, subject=key)
    answers = (("verdict-partition", str(at.partition).encode()), ("verdict-offset", str(at.offset).encode()))
    return Outgoing(Topic.RESULTS, key.encode(), body, (*ce, *answers))


def _audit(aggregate: Aggregate, body: bytes, arrived: Arrived, now: datetime) -> Outgoing:
    name = f"{aggregate.key}/refused/{arrived.at.partition}/{arrived.at.offset}"
    ce = headers(id=name, type="audit.refused", time=now, subject=aggregate.key)
    return Outgoing(Topic.AUDIT, aggregate.key.encode(), body, ce)
