"""Documents of one assignment, as this producer last read or wrote them.  Dropped with the assignment (must 5)."""

from collections import OrderedDict
from dataclasses import dataclass

from schemas.documents import Document
from worker.handler import Loaded

ENTRIES_MAX = 4096
BYTES_MAX = 64 * 1024 * 1024


@dataclass(slots=True)
class Entry:
    """A document with what is known of it.

    `loaded_after`: transactions begun when it was read; a later one that commits verifies it (must 3).
    `mark`: when it was last known to be what the store holds; `acknowledged`: outbox published up to here;
    `size`: bytes as stored.
    """

    key: str
    document: Document
    version: str
    loaded_after: int
    mark: int
    size: int
    adopts: bool = False
    acknowledged: int = 0

    def loaded(self) -> Loaded:
        """As the handler sees it."""
        return Loaded(self.key, self.document, self.mark, self.adopts)

    @property
    def unpublished(self) -> bool:
        outbox = self.document.outbox
        return bool(outbox) and outbox[-1].audit_seq > self.acknowledged


class Cache:
    """Least recently used out first; what is pinned (a verdict waits for it) or not published yet stays."""

    def __init__(self, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._pins: dict[str, int] = {}
        self._bytes = 0
        self._entries_max, self._bytes_max = entries_max, bytes_max

    def get(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, entry: Entry) -> None:
        self.drop(entry.key)
        self._entries[entry.key] = entry
        self._bytes += entry.size
        self._evict()

    def drop(self, key: str) -> None:
        if entry := self._entries.pop(key, None):
            self._bytes -= entry.size

    def pin(self, key: str) -> None:
        self._pins[key] = self._pins.get(key, 0) + 1

    def unpin(self, key: str) -> None:
        left = self._pins[key] - 1
        if left:
            self._pins[key] = left
        else:
            del self._pins[key]

    def _is_full(self) -> bool:
        return len(self._entries) > self._entries_max or self._bytes > self._bytes_max

    def _evict(self) -> None:
        """Down to the bounds, as far as that can be; the newest entry is in use and stays."""
        if not self._is_full():
            return
        for key in list(self._entries)[:-1]:
            if key not in self._pins and not self._entries[key].unpublished:
                self.drop(key)
                if not self._is_full():
                    return
