"""One audit record, read whole, and decided again.

A record names what is large by hash; here it is fetched, checked and put in place, so that the arguments of `decide`
are exactly those of then (must 10).  Knows neither chains nor where records come from.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from schemas.audit import AuditRecord, Context, DecisionSettings, DocumentRead
from schemas.base import Blob
from schemas.commands import Command
from schemas.documents import State
from schemas.events import Event
from schemas.observations import Observed
from worker.domain.decide import decide
from worker.domain.decision import AnyState, Decision
from worker.domain.evolve import evolve

T = TypeVar("T")
_INPUT: TypeAdapter[Command | Observed] = TypeAdapter(Command | Observed)
_STATE: TypeAdapter[AnyState] = TypeAdapter(State)
_EVENTS: TypeAdapter[tuple[Event, ...]] = TypeAdapter(tuple[Event, ...])


class Payloads(Protocol):
    """What records name by hash."""

    async def payload(self, sha256: str) -> bytes | None: ...


class Unreadable(Exception):
    """What stands there is no record, or lacks what it names: `rule` is `unreadable` or `payload`."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(text)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Told:
    """A record with its references resolved; `sha256` is that of its bytes."""

    record: AuditRecord
    sha256: str
    given: Command | Observed | None
    events: tuple[Event, ...]
    found: AnyState | None


class Reader:
    """Reads records whole; settings, of which there are few, are fetched once."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads
        self._settings: dict[str, DecisionSettings] = {}

    async def read(self, body: bytes) -> Told:
        """Raises Unreadable, Unavailable."""
        try:
            record = AuditRecord.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise Unreadable("unreadable", f"this is no audit record: {place}: {first['msg']}") from None
        given, events, found = record.input, record.events, record.found
        return Told(
            record=record,
            sha256=hashlib.sha256(body).hexdigest(),
            given=await self._whole(_INPUT, given) if isinstance(given, Blob) else given,
            events=await self._whole(_EVENTS, events) if isinstance(events, Blob) else events,
            found=await self._whole(_STATE, found) if isinstance(found, Blob) else found,
        )

    async def again(self, told: Told, state: AnyState | None) -> Decision:
        """The decision on this state, by the code that runs now.  Raises Unreadable, Unavailable.

        What the code cannot take at all, since the record was made up, is `unreadable`, too.
        """
        if told.given is None:
            raise Unreadable("unreadable", "there is no input to decide on")
        context = await self.context(told)
        try:
            return decide(state, told.given, context)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise Unreadable("unreadable", f"this input cannot be decided on: {said}") from error

    async def payload(self, sha256: str) -> bytes:
        """Checked.  Raises Unreadable, Unavailable."""
        body = await self._payloads.payload(sha256)
        if body is None:
            raise Unreadable("payload", f"blobs/{sha256}, which the record names, is not there")
        if hashlib.sha256(body).hexdigest() != sha256:
            raise Unreadable("payload", f"blobs/{sha256}, which the record names, holds something else")
        return body

    async def context(self, told: Told) -> Context:
        """What else the decision looked at.  Raises Unreadable, Unavailable."""
        recorded = told.record.context
        return Context(
            now=recorded.now,
            build=recorded.build,
            audit_seq=told.record.audit_seq,
            settings=await self._settings_of(recorded.settings_sha256),
            documents=tuple([await self._read_then(read) for read in recorded.documents]),
            settled=recorded.settled,
        )

    async def _settings_of(self, sha256: str) -> DecisionSettings:
        if sha256 not in self._settings:
            body = await self.payload(sha256)
            self._settings[sha256] = _parsed(TypeAdapter(DecisionSettings), body, sha256)
        return self._settings[sha256]

    async def _read_then(self, read: DocumentRead) -> DocumentRead:
        """A document that was read, with its content; one that is no blob stands in the record itself."""
        if read.sha256 is None:
            return read
        if read.key.startswith("blobs/"):
            return read.model_copy(update={"content": (await self.payload(read.sha256)).decode()})
        if hashlib.sha256((read.content or "").encode()).hexdigest() != read.sha256:
            raise Unreadable("payload", f"{read.key}, as the decision read it, has another hash")
        return read

    async def _whole(self, kind: TypeAdapter[Any], reference: Blob) -> Any:
        return _parsed(kind, await self.payload(reference.sha256), reference.sha256)


def fold(state: AnyState, events: Iterable[Event]) -> AnyState:
    """The state after recorded events.  Raises TypeError for one that this aggregate cannot have."""
    for event in events:
        state = evolve(state, event)
    return state


def _parsed(kind: TypeAdapter[T], body: bytes, sha256: str) -> T:
    try:
        return kind.validate_json(body)
    except ValidationError:
        raise Unreadable("payload", f"blobs/{sha256}, which the record names, cannot be read") from None
