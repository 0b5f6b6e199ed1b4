"""The reconciler: a timer that asks for what is unsettled to be resumed (contract, section 9).

It lists the markers and publishes an ordinary command for each that is due; nothing else.  The command's id is a
UUIDv5 of marker and time bucket, so two reconcilers, or one that died after publishing, ask once.  Buckets back off
from a minute to an hour, counted from when the marker was due.  A marker that cannot be read asks for a resume, too:
the resume removes it where its document does not own it.
"""

import json
from bisect import bisect_right
from datetime import datetime
from itertools import accumulate, chain, repeat
from uuid import uuid5

import structlog
from pydantic import ValidationError

from schemas.base import EVENTS, time_text
from schemas.cloudevents import headers
from schemas.commands import Actor
from schemas.documents import Unsettled
from worker.ports import Clock, DocumentStore, EventStream, Outgoing, Topic
from worker.telemetry import metrics

PREFIX = "unsettled/"
ACTOR = Actor(subject="system:reconciler", permissions=("workflow:resume",))
BUCKETS_KEPT = 10_000
_MINUTES = (1, 2, 4, 8, 16, 32)
BUCKET_ENDS = tuple(60 * minutes for minutes in accumulate(chain(_MINUTES, repeat(60, 24 * 30))))
"""Seconds after a marker was due at which its next bucket begins: 1, 3, 7, 15, 31, 63 minutes, then every hour."""
log = structlog.get_logger()


Due = tuple[datetime, int]
"""When a marker was due, and which of its buckets it is."""


def bucket(due_at: datetime, now: datetime) -> int | None:
    """Which time bucket of a marker it is; None before it is due."""
    seconds = (now - due_at).total_seconds()
    return bisect_right(BUCKET_ENDS, seconds) if seconds >= 0 else None


class Reconciler:
    """Asks once per marker and bucket; what it remembers only saves repetitions that would be harmless."""

    def __init__(self, store: DocumentStore, stream: EventStream, clock: Clock) -> None:
        self._store, self._stream, self._clock = store, stream, clock
        self._asked: dict[str, Due] = {}

    async def once(self) -> int:
        """List, and publish what is due; -> commands published.  Raises Unavailable, OutcomeUnknown."""
        wanted: list[tuple[str, Due, Outgoing]] = []
        markers = 0
        after = ""
        while keys := await self._store.list(PREFIX, after=after):
            after = keys[-1]
            markers += len(keys)
            for key in keys:
                due = await self._due(key)
                if due is not None and (command := resume(key, *due, self._clock.now())):
                    wanted.append((key, due, command))
        metrics.UNSETTLED.set(markers)
        if wanted:
            await self._stream.publish([command for _, _, command in wanted])
            metrics.RESUMES.inc(len(wanted))
            log.info("reconciler.resumed", commands=len(wanted), markers=markers)
        if len(self._asked) > BUCKETS_KEPT:
            self._asked.clear()
        self._asked |= {key: due for key, due, _ in wanted}
        return len(wanted)

    async def _due(self, key: str) -> Due | None:
        """The marker's bucket, where it was not asked for in it yet."""
        stored = await self._store.load(key)
        if stored is None:
            return None  # settled meanwhile
        try:
            due_at = Unsettled.model_validate_json(stored.body).due_at
        except ValidationError:
            due_at = self._clock.now()
        number = bucket(due_at, self._clock.now())
        due = None if number is None else (due_at, number)
        return None if self._asked.get(key) == due else due


def resume(marker: str, due_at: datetime, number: int, now: datetime) -> Outgoing | None:
    """The command that a marker asks for in a bucket; None where its key is no marker's."""
    kind, _, rest = marker.removeprefix(PREFIX).partition("/")
    identity, _, _ = rest.rpartition("/")
    fields = {"evaluation": "evaluation_id", "custom-harness": "harness_id", "session": "session_id"}
    if kind not in fields or not identity:
        return None
    data = {
        "actor": ACTOR.model_dump(mode="json", exclude_none=True),
        "reason": f"unsettled, try {number + 1}",
        fields[kind]: identity,
        "marker": marker,
    }
    key, operation = f"{kind}/{identity}", "session.resume" if kind == "session" else "workflow.resume"
    ce = headers(
        id=str(uuid5(EVENTS, f"{marker}@{time_text(due_at)}#{number}")),
        type=operation,
        time=now,
        subject=key,
        source="verdict-worker",
    )
    return Outgoing(Topic.COMMANDS, key.encode(), json.dumps(data).encode(), ce)
