"""The worker's own rebuild: published audit records, folded by `evolve` from the first to the last.  Judges nothing."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from schemas.audit import AuditRecord
from schemas.base import Blob
from schemas.documents import State, digest
from schemas.events import Event
from worker.domain.evolve import evolve
from worker.simulation.kafka.partition import Stored

STATE: TypeAdapter[Any] = TypeAdapter(State)
EVENTS: TypeAdapter[tuple[Any, ...]] = TypeAdapter(tuple[Event, ...])


def rebuilt(records: Iterable[Stored], blobs: Mapping[str, bytes]) -> dict[str, str]:
    """Records of the audit topic, in order -> by aggregate's key the digest of the state that they give.

    Of a record that comes again the first occurrence counts.  Raises KeyError for a blob that is missing.
    """
    chains: dict[str, dict[int, AuditRecord]] = {}
    for stored in records:
        record = AuditRecord.model_validate_json(stored.value or b"")
        if record.kind != "refused":
            chains.setdefault((stored.key or b"").decode(), {}).setdefault(record.audit_seq, record)
    return {key: digest(_folded(chain, blobs)) for key, chain in chains.items()}


def _folded(chain: Mapping[int, AuditRecord], blobs: Mapping[str, bytes]) -> Any:
    """What was adopted is where a state begins; events change it."""
    state: Any = None
    for _, record in sorted(chain.items()):
        if record.found is not None:
            found = record.found
            state = STATE.validate_json(blobs[_key(found)]) if isinstance(found, Blob) else found
        events = record.events
        for event in EVENTS.validate_json(blobs[_key(events)]) if isinstance(events, Blob) else events:
            state = evolve(state, event)
    return state


def _key(blob: Blob) -> str:
    return f"blobs/{blob.sha256}"
