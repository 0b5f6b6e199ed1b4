"""Members of a group: what they say of themselves, what they are told, and the answers that they wait for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from aiokafka.structs import TopicPartition

Assignment = tuple[TopicPartition, ...]


class Joining(NamedTuple):
    """What a member says of itself when it joins; `member_id` may be empty."""

    member_id: str
    instance_id: str
    client_id: str
    host: str
    topics: tuple[str, ...]
    session_seconds: float
    rebalance_seconds: float


class Joined(NamedTuple):
    """What it is told: the leader also hears who has joined, and makes the assignment."""

    member_id: str
    generation: int
    leader_id: str
    members: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(slots=True)
class Member:
    """A member as the coordinator knows it; the two futures are answers that it waits for."""

    said: Joining
    seen_seconds: float
    joining: asyncio.Future[Joined] | None = None
    syncing: asyncio.Future[Assignment] | None = None
    assignment: Assignment = ()

    @property
    def name(self) -> str:
        return self.said.member_id


def settle(waiting: asyncio.Future[Any], outcome: Any) -> None:
    """Give the answer, an error as an error; one that nobody waits for any more is no matter."""
    if waiting.done():
        return
    if isinstance(outcome, BaseException):
        waiting.set_exception(outcome)
        waiting.exception()
    else:
        waiting.set_result(outcome)


def names(members: Sequence[Member]) -> list[tuple[str, str, str, bytes, bytes]]:
    """As DescribeGroups lists them: member, client, host, metadata, assignment."""
    return [(each.name, each.said.client_id, each.said.host, b"", b"") for each in members]


def uuid(chance: Random) -> str:
    text = f"{chance.getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
