"""Documents of one assignment, as this producer last read or wrote them.  Dropped with the assignment (must 5)."""

from collections import OrderedDict
from dataclasses import dataclass

from schemas.documents import Document

ENTRIES_MAX = 4096


@dataclass(slots=True)
class Entry:
    """A document with what is known of it.

    `loaded_after`: transactions begun when it was read; a later one that commits verifies it (must 3).
    `mark`: when it was last known to be what the store holds; `acknowledged`: outbox published up to here.
    """

    key: str
    document: Document
    version: str
    loaded_after: int
    mark: int
    acknowledged: int = 0

    @property
    def unpublished(self) -> bool:
        outbox = self.document.outbox
        return bool(outbox) and outbox[-1].audit_seq > self.acknowledged


class Cache:
    """Least recently used out first; what is pinned (unpublished, or a verdict waits for it) stays."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._pins: dict[str, int] = {}
        self._entries_max = entries_max

    def get(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, entry: Entry) -> None:
        self._entries[entry.key] = entry
        self._entries.move_to_end(entry.key)
        if len(self._entries) > self._entries_max:
            self._evict()

    def drop(self, key: str) -> None:
        self._entries.pop(key, None)

    def pin(self, key: str) -> None:
        self._pins[key] = self._pins.get(key, 0) + 1

    def unpin(self, key: str) -> None:
        left = self._pins[key] - 1
        if left:
            self._pins[key] = left
        else:
            del self._pins[key]

    def _evict(self) -> None:
        for key, entry in list(self._entries.items())[:-1]:
            if len(self._entries) <= self._entries_max:
                return
            if key not in self._pins and not entry.unpublished:
                del self._entries[key]
