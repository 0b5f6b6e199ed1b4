"""The client: publish commands, await their verdicts, read what there is; what the author of an API tier builds on.

    async with Client(ports.stream, ports.store) as client:
        cancel = prepare("evaluation.cancel", {"actor": {...}, "reason": "too slow", "evaluation_id": "..."})
        [result] = await client.ask([cancel], timeout_seconds=25)

Knows the ports, not the stack behind them, and leaves opening and stopping them to whoever made them.  Writes no
document: only the worker decides.  Every method may raise Unavailable, and Misconfigured where a topic or the store
holds what is none of ours.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.audit import AuditRecord
from schemas.base import Blob, Coordinates
from schemas.commands import Aggregate, Caller
from schemas.documents import Document, HarnessMetadata, OrgState
from schemas.harness import Harness
from schemas.status_events import StatusEvent
from schemas.verdicts import Verdict
from worker.client.answers import RETRY_SECONDS, Answers
from worker.client.messages import KINDS, Invalid, Message, aggregate, invalid, message, prepare
from worker.client.records import DeadLetter, Result, answered, dead_letter, header, parse, payload_of
from worker.domain.harness import Effective, effective, resolve
from worker.errors import Misconfigured, Transient, Unavailable
from worker.partitioner import partition_of
from worker.ports import DocumentStore, EventStream, Record, Topic

__all__ = ["KINDS", "Client", "DeadLetter", "Denied", "Invalid", "Message", "Result", "aggregate", "message", "prepare"]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Denied:
    """The answer to a read is no; the code is one of `schemas.codes`."""

    code: Literal["permission_denied", "not_found"]


class Client:
    """One per process is enough; `stop` it where it was used without `async with`."""

    def __init__(self, stream: EventStream, store: DocumentStore) -> None:
        self._stream, self._store = stream, store
        self._answers = Answers(stream)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End the reading of results; tolerates a second stop."""
        await self._answers.stop()

    # ------------------------------------------------------------------------------ commands and verdicts

    async def publish(self, messages: Sequence[Message]) -> list[Coordinates]:
        """Durable, in order; -> where each stands.  Raises Unavailable, OutcomeUnknown (publish the same again)."""
        places = await self._stream.publish([message.outgoing for message in messages])
        return [Coordinates(partition=partition, offset=offset) for partition, offset in places]

    async def ask(
        self,
        messages: Sequence[Message],
        timeout_seconds: float,
        published: Callable[[list[Coordinates]], None] = lambda places: None,
    ) -> list[Result | None]:
        """Publish, and wait for the verdict on each; None where there was none in time: the command stays published.

        `published` hears where each stands before anything is waited for.  Raises as `publish`.  Once published, an
        outage of results or store is waited out until the time is up.
        """
        await self._answers.start()
        with self._answers.publishing():
            places = await self.publish(messages)
            published(places)
            waiting = [asyncio.create_task(self._answer(self._answers.of(place))) for place in places]
        try:
            if waiting:
                await asyncio.wait(waiting, timeout=timeout_seconds)
            return [task.result() if task.done() else None for task in waiting]
        finally:
            self._answers.forget(places)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _answer(self, record: "asyncio.Future[Record]") -> Result:
        """The verdict, once it is read; one by reference is asked for until the store has it."""
        found = await record
        while True:
            try:
                return await self._result(found)
            except Transient:
                await asyncio.sleep(RETRY_SECONDS)

    async def results(self, *, of: Aggregate | None = None, follow: bool = False) -> AsyncIterator[Result]:
        """All verdicts, or one aggregate's, in offset order per partition; with `follow` it waits for more."""
        async for record in self._records(Topic.RESULTS, of=of, follow=follow):
            yield await self._result(record)

    async def _result(self, record: Record) -> Result:
        body = await self.payload(payload_of(record))
        return Result(answered(record), body, parse(Verdict, body, record))

    # ------------------------------------------------------------------------------ other topics

    async def status_events(self, *, follow: bool = False) -> AsyncIterator[StatusEvent]:
        """All changes of status, in offset order per partition; one may be seen again (aggregate and version)."""
        async for record in self._records(Topic.STATUS, follow=follow):
            yield parse(StatusEvent, record.value or b"", record)

    async def audit(self, of: Aggregate) -> AsyncIterator[AuditRecord]:
        """The audit records of one aggregate, first occurrences, in order; those of refusals where they came."""
        seen: set[bytes | None] = set()
        async for record in self._records(Topic.AUDIT, of=of):
            name = header(record, "ce_id")
            if name not in seen:
                seen.add(name)
                yield parse(AuditRecord, record.value or b"", record)

    async def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """All dead letters, in offset order per partition."""
        async for record in self._records(Topic.DEAD_LETTERS):
            yield dead_letter(record)

    async def payload(self, value: bytes | Blob) -> bytes:
        """The bytes themselves, wherever they are."""
        if isinstance(value, bytes):
            return value
        stored = await self._store.load(value.key)
        if stored is None:
            raise Unavailable(f"{value.key} is not there")
        return stored.body

    async def _records(
        self, topic: Topic, *, of: Aggregate | None = None, follow: bool = False
    ) -> AsyncIterator[Record]:
        """From the start; those of one aggregate are all in the partition of its key."""
        bounds = await self._stream.bounds(topic)
        key = of.key.encode() if of else None
        wanted = bounds if key is None else [partition_of(key, len(bounds))]
        async for record in self._stream.read(topic, {p: bounds[p][0] for p in wanted}, follow=follow):
            if key is None or record.key == key:
                yield record

    # ------------------------------------------------------------------------------ documents

    async def document(self, of: Aggregate) -> Document | None:
        """The document of an aggregate; of a custom harness: of its creation workflow.  None: there is none."""
        match aggregate(of.type, of.id):
            case Aggregate(type="custom-harness", id=harness_id):
                metadata = await self._load(HarnessMetadata, f"custom-harnesses/{harness_id}/metadata.json")
                if metadata is None or metadata.workflow_id is None:
                    return None
                return await self._load(Document, f"workflows/{metadata.workflow_id}.json")
            case Aggregate(type="evaluation", id=evaluation_id):
                return await self._load(Document, f"workflows/{evaluation_id}.json")
            case Aggregate(type="session", id=session_id):
                return await self._load(Document, f"sessions/{session_id}.json")
            case Aggregate(id=org_id):
                return await self._load(Document, f"orgs/{org_id}.json")

    async def harness(self, caller: Caller, asked: str) -> Harness | Denied:
        """The whole stored harness, by id, addressable name, or `default`, within the caller's org."""
        found = await self._lineage(caller, asked)
        return found if isinstance(found, Denied) else found[-1]

    async def effective_harness(self, caller: Caller, asked: str) -> Effective | Denied:
        """The harness merged with its parents."""
        found = await self._lineage(caller, asked)
        return found if isinstance(found, Denied) else effective(found)

    async def _lineage(self, caller: Caller, asked: str) -> list[Harness] | Denied:
        """The harness and its parents, the root first."""
        if "harness:view" not in caller.permissions:
            return Denied("permission_denied")
        document = await self.document(aggregate("org", caller.org_id)) if caller.org_id else None
        state = document.state if document else None
        name = resolve(state, asked) if isinstance(state, OrgState) else None
        lineage: dict[str, Harness] = {}
        while isinstance(state, OrgState) and name in state.harnesses and name not in lineage:
            entry = state.harnesses[name]
            body = await self._load(Harness, f"blobs/{entry.body}")
            if body is None:
                raise Unavailable(f"blobs/{entry.body} is not there")
            lineage[name], name = body, entry.parent
        return list(reversed(lineage.values())) or Denied("not_found")

    async def _load(self, model: type[M], key: str) -> M | None:
        stored = await self._store.load(key)
        if stored is None:
            return None
        try:
            return model.model_validate_json(stored.body)
        except ValidationError as error:
            raise Misconfigured(f"{key}: is no {model.__name__}: {invalid(error)}") from None
