"""The server of one bucket: requests as they arrive, and faults F17 to F25.

A fault is counted at a request that it changes.  The documents stay whole whatever happens: what goes wrong here is
what the contract of S3 allows, and what servers that speak it were seen to do (facts, S1 to S5).
"""

from collections.abc import Sequence

from worker.settings import S3Settings
from worker.simulation.s3.client import Client, Found, Refusal, lost
from worker.simulation.s3.objects import NoSuchKey, Object, Objects, PreconditionFailed, Write
from worker.simulation.s3.strangers import PLATFORM, is_document, is_probe, may_vanish, rewritten
from worker.simulation.service import Service, Troubles
from worker.simulation.world import World

TROUBLES = Troubles(hang="F20", late="F20")
RETRY_AFTER_SECONDS_MAX = 3
FLICKER_SECONDS_MAX = 0.05
"""How long B stands at most where A, B, A is written."""


class Bucket:
    """`service.away`: connections are refused.  `ignore_conditions`: of every PUT; no store to work with."""

    def __init__(self, world: World) -> None:
        self.service = Service(world, "s3", TROUBLES)
        self.endpoint_url = "http://s3.test"
        self.ignore_conditions = False
        self._world = world
        self._stored = Objects()
        self._busy_until = 0.0
        self._deaf_for: dict[str, None] = {}
        """Objects of probes for which conditions are ignored (F22)."""

    def connect(self, settings: S3Settings) -> Client:
        """What `S3Store` takes as its client; opened inside of the process that it belongs to."""
        return Client(self, settings)

    # ------------------------------------------------------------------------------ for the workload and the weather

    def write(self, key: str, body: bytes) -> None:
        """From outside, whatever is there."""
        self._stored.put(self._world.now, PLATFORM, key, body)

    def burst(self, seconds: float) -> None:
        """Every request is answered with 503 for so long (F19)."""
        self._busy_until = max(self._busy_until, self._world.now + seconds)

    def calm(self) -> None:
        """The burst is over, and conditions are honoured."""
        self._busy_until, self.ignore_conditions = 0.0, False
        self._deaf_for.clear()

    # ------------------------------------------------------------------------------ for the checker

    @property
    def objects(self) -> dict[str, Object]:
        """What is stored, by key."""
        return self._stored.by_key

    @property
    def writes(self) -> Sequence[Write]:
        """All that was applied, in order, but for writes that were taken back by A, B, A (F21)."""
        return self._stored.writes

    # ------------------------------------------------------------------------------ requests as they arrive

    def put(self, who: str, key: str, body: bytes, if_match: str | None, if_none_match: str | None) -> str:
        """-> ETag.  Raises NoSuchKey, PreconditionFailed, Refusal, ConnectionClosedError."""
        self._busy()
        conditional = if_match is not None or if_none_match is not None
        if conditional and not self._ignores(key, if_match, if_none_match):
            self._meddle(key, if_match)
            self._stored.check(key, if_match, if_none_match)
            if self._strikes("F18"):
                raise Refusal(409)
        written = self._stored.put(self._world.now, who, key, body)
        self._perhaps_lose_reply()
        return written.etag

    def get(self, key: str, if_none_match: str | None) -> Found:
        self._busy()
        found = self._stored.by_key.get(key)
        if found is None:
            raise NoSuchKey(key)
        if if_none_match == found.etag:
            raise Refusal(304, {"etag": found.etag})
        if not self._strikes("F23"):
            return Found(found.body, found.etag)
        older = self._stored.replaced.get(key)
        if older in (None, found.etag, if_none_match) or self._world.faults.source("F23").random() < 0.5:
            return Found(found.body, found.etag, cut=True)
        return Found(found.body, older or "")

    def delete(self, who: str, keys: Sequence[str]) -> None:
        """A missing one is success."""
        self._busy()
        vanishing = [key for key in keys if key in self._stored.by_key and may_vanish(key)]
        if vanishing and self._strikes("F24"):
            self._vanish(self._world.faults.source("F24").choice(vanishing))
        for key in keys:
            self._stored.delete(self._world.now, who, key)
        self._perhaps_lose_reply()

    def list(self, prefix: str, after: str, limit: int) -> tuple[Sequence[str], bool]:
        self._busy()
        return self._stored.keys(prefix, after, limit)

    # ------------------------------------------------------------------------------ what goes wrong

    def _busy(self) -> None:
        if self._world.now < self._busy_until:
            self._world.faults.met("F19")
            seconds = self._world.faults.source("F19").randint(1, RETRY_AFTER_SECONDS_MAX)
            raise Refusal(503, {"retry-after": str(seconds)})

    def _ignores(self, key: str, if_match: str | None, if_none_match: str | None) -> bool:
        """Whether this server does not look at conditions (F22), which only a probe ever finds out."""
        if is_probe(key) and if_none_match is not None and key not in self._stored.by_key and self._strikes("F22"):
            self._deaf_for[key] = None
        if not self.ignore_conditions:
            return key in self._deaf_for
        try:
            self._stored.check(key, if_match, if_none_match)
        except (NoSuchKey, PreconditionFailed):
            self._world.faults.met("F22")
        return True

    def _meddle(self, key: str, if_match: str | None) -> None:
        """Somebody else comes right before a write that would have won (F21, F24, F25)."""
        before = self._stored.by_key.get(key)
        if before is None or before.etag != if_match:
            return
        if is_probe(key) and self._strikes("F24"):
            self._vanish(key)
        elif is_document(key) and self._strikes("F25"):
            self._rewrite(key, before, "F25")
        elif is_document(key) and self._strikes("F21"):
            chance = self._world.faults.source("F21")
            written = self._rewrite(key, before, "F21")
            if chance.random() < 0.5:
                self._take_back(before, written)  # and the write that is coming wins, as if nothing had been
            else:
                seconds = chance.uniform(0, FLICKER_SECONDS_MAX)
                self._world.after(seconds, lambda: self._take_back(before, written))

    def _rewrite(self, key: str, before: Object, fault: str) -> Write:
        self._world.note(PLATFORM, "writes", f"{key} ({fault})")
        body = rewritten(before.body, self._world.faults.source(fault))
        self._stored.put(self._world.now, PLATFORM, key, body)
        return self._stored.writes[-1]

    def _take_back(self, before: Object, written: Write) -> None:
        if self._stored.undo(before, written):
            self._world.note(PLATFORM, "takes back", written.key)

    def _vanish(self, key: str) -> None:
        self._world.note(PLATFORM, "removes", key)
        self._stored.delete(self._world.now, PLATFORM, key)

    def _perhaps_lose_reply(self) -> None:
        if self._strikes("F17"):
            self._world.note("s3", "reply lost")
            raise lost(self.endpoint_url)

    def _strikes(self, fault: str) -> bool:
        return self._world.faults.strikes(fault)
