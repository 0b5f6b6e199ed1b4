"""The API tier of a simulation: it publishes what the cast says, spread over time, and now and then wrongly (F12).

Wrongly: the same command again, at once or much later, in its partition or another; bytes that are no command; a major
of the schema that nobody knows; a record that is too large.  Knows the published envelope, and the log it appends to.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Literal

from schemas.cloudevents import headers
from worker.partitioner import partition_of
from worker.ports import Headers
from worker.simulation.cast import Player, Say, uuid
from worker.simulation.process import EPOCH
from worker.simulation.world import World

SOURCE = "simulation"
LATER_SECONDS = 45.0
Append = Callable[[int, bytes, bytes, Headers], int]
"""Partition, key, value, headers -> offset."""
Kind = Literal["command", "unreadable", "too_large"]


@dataclass(frozen=True, slots=True)
class Sent:
    """A record that was published."""

    seconds: float
    partition: int
    offset: int
    kind: Kind
    id: str
    type: str
    key: str
    value: bytes


class Producer:
    """`run` publishes `commands` records within `seconds`; `sent` is everything."""

    def __init__(
        self, world: World, players: Sequence[Player], append: Append, *, partitions: int, command_bytes_max: int
    ) -> None:
        self.sent: list[Sent] = []
        self._world, self._players, self._append = world, players, append
        self._partitions, self._command_bytes_max = partitions, command_bytes_max
        self._random = world.random("producer")
        self._last_at = 0.0

    async def run(self, commands: int, seconds: float) -> None:
        """Returns when the last one is sent, repetitions included."""
        left = commands
        while left > 0:
            # Bursts on few aggregates find other schedules than an even stream does.
            burst = min(left, self._random.choice((1, 1, 1, 2, 3, 8)))
            players = self._random.choices(self._players, k=self._random.choice((1, 2, 3)))
            for _ in range(burst):
                self._send(self._random.choice(players).next(self._random))
            left -= burst
            await asyncio.sleep(self._random.expovariate(commands / 2.5 / seconds))
        await asyncio.sleep(self._last_at - self._world.now)

    def _send(self, say: Say) -> None:
        command_id = uuid(self._random)
        value = json.dumps(say.data).encode()
        time = EPOCH + timedelta(seconds=self._world.now)
        self._publish("command", command_id, say, value, time)
        if self._world.faults.strikes("F12"):
            self._wrongly(self._world.faults.source("F12"), command_id, say, value, time)

    def _wrongly(self, chance: Random, command_id: str, say: Say, value: bytes, time: datetime) -> None:
        match chance.choice(("again", "again", "elsewhere", "later", "poison", "version", "large")):
            case "again":
                self._publish("command", command_id, say, value, time)
            case "elsewhere":
                self._publish("command", command_id, say, value, time, elsewhere=chance.randrange(1, self._partitions))
            case "later":
                seconds = chance.uniform(0.1, LATER_SECONDS)
                self._last_at = max(self._last_at, self._world.now + seconds)
                self._world.after(seconds, lambda: self._publish("command", command_id, say, value, time))
            case "poison":
                self._publish("unreadable", uuid(chance), say, b"\xff no JSON", time)
            case "version":
                unknown: Headers = (("ce_dataschema", b"https://example.test/commands/99/schema.json"),)
                self._publish("unreadable", uuid(chance), say, value, time, extra=unknown)
            case _:
                self._publish("too_large", uuid(chance), say, value.ljust(self._command_bytes_max + 1), time)

    def _publish(
        self,
        kind: Kind,
        command_id: str,
        say: Say,
        value: bytes,
        time: datetime,
        *,
        elsewhere: int = 0,
        extra: Headers = (),
    ) -> None:
        key = say.key.encode()
        ce = headers(id=command_id, type=say.type, time=time, subject=say.key, source=SOURCE, extra=extra)
        partition = (partition_of(key, self._partitions) + elsewhere) % self._partitions
        offset = self._append(partition, key, value, ce)
        self.sent.append(Sent(self._world.now, partition, offset, kind, command_id, say.type, say.key, value))
        self._world.note("producer", "sends", f"{say.type} {say.key} {command_id} {kind} at {partition}:{offset}")
