"""Erasing a person from the audit log: the key to their fields goes, the records stay, and so does the chain (must 10).

Only the key's object is touched, so it can be done beside running workers, and again.  What else names the person is
not the log's: see "Erasing a person" in schemas/AUDIT.md.
"""

import hashlib

from schemas.base import Model, Sha256
from worker.ports import DocumentStore, EventStream, Topic
from worker.sealing import personal_key


class Erased(Model):
    """What became of a person's key."""

    subject_sha256: Sha256
    """SHA-256 of the subject, by which records name the key."""
    had_key: bool
    """Whether there was a key; false: erased before, or nobody of that name ever asked for anything."""
    records: int | None = None
    """Audit records whose personal fields nobody can read any more; absent: they were not counted."""


async def erase(store: DocumentStore, subject: str) -> Erased:
    """Remove the subject's key; idempotent.  Raises Unavailable."""
    sha256 = hashlib.sha256(subject.encode()).hexdigest()
    key = personal_key(sha256)
    had_key = await store.load(key) is not None
    await store.delete([key])
    return Erased(subject_sha256=sha256, had_key=had_key)


async def count(stream: EventStream, subject_sha256: str) -> int:
    """Records that were sealed for this subject, repetitions counted once; reads the whole log."""
    sealed = f'"subject_sha256":"{subject_sha256}"'.encode()
    found: set[bytes] = set()
    bounds = await stream.bounds(Topic.AUDIT)
    start = {partition: first for partition, (first, _) in bounds.items()}
    async for record in stream.read(Topic.AUDIT, start, follow=False):
        if record.value and sealed in record.value:
            found.add(hashlib.sha256(record.value).digest())
    return len(found)
