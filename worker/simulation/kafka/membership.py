"""A consumer's membership in its group, as aiokafka keeps it up: join, heartbeats, and what the listener is told.

A member that the coordinator does not know any more joins again under a new name, whoever has its instance id (facts:
K10); partitions are there before the listener hears of them (K4).  Knows nothing of records.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from aiokafka import errors
from aiokafka.structs import TopicPartition

from worker.simulation.kafka.link import BACKOFF_SECONDS, Link
from worker.simulation.kafka.members import Assignment, Joined, Joining
from worker.simulation.kafka.transactions import Position

MAX_POLL_SECONDS = 300.0
"""A member that nobody asks for records for so long leaves the group (`max_poll_interval_ms`)."""
NEVER_JOINED = -1
UNREACHABLE = (errors.RequestTimedOutError, errors.NodeNotReadyError, errors.KafkaConnectionError)
MOVED = (errors.NotCoordinatorError, errors.CoordinatorNotAvailableError, errors.CoordinatorLoadInProgressError)


class Settings(NamedTuple):
    """How a member behaves."""

    group: str
    instance_id: str
    session_seconds: float
    rebalance_seconds: float
    heartbeat_seconds: float


class Partitions(Protocol):
    """Where partitions come to and go from."""

    assigned: Assignment

    @property
    def idle_seconds(self) -> float:
        """Since somebody last asked for records."""

    def hold(self) -> None:
        """Nothing is delivered until the next assignment."""

    def assign(self, partitions: Assignment) -> None:
        """These, and no others."""

    def fail(self, error: BaseException) -> None:
        """Whoever waits for partitions hears of it."""


class Membership:
    """Begins with `start`; `member_id` is what the coordinator calls us, empty where it does not."""

    def __init__(
        self, link: Link, settings: Settings, topics: tuple[str, ...], listener: Any, sink: Partitions
    ) -> None:
        self.member_id = ""
        self._link, self._settings, self._topics = link, settings, topics
        self._listener, self._sink = listener, sink
        self._generation = NEVER_JOINED
        self._prepared = False
        self._rejoin = True
        self._closing = False
        self._stir = asyncio.Event()
        self._heart: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._clock = asyncio.get_running_loop().time

    # ------------------------------------------------------------------------------ what the consumer uses

    def start(self) -> None:
        self._task = asyncio.create_task(self._coordinate())

    def check(self) -> None:
        """Raises what ended the coordination, CancelledError among it."""
        if self._task is not None and self._task.done():
            self._task.result()

    async def close(self) -> None:
        """Leave the group; a member with an instance id just goes (K10)."""
        self._closing = True
        self._stir.set()
        if self._task is not None and not self._task.done():
            await self._task
        await self._stop_heart()
        await self._leave()

    async def committed(self, places: list[TopicPartition]) -> dict[TopicPartition, Position]:
        """Where the group stands, as far as it does; asked until there is an answer.  Not newer than K4 says."""
        name = self._settings.group

        def serve() -> dict[TopicPartition, Position]:
            positions = self._link.broker.group(name).positions
            return {place: positions[place] for place in places if place in positions}

        while True:
            try:
                return await self._link.ask_coordinator("OffsetFetch", serve, f"{name} {[p.partition for p in places]}")
            except UNREACHABLE + MOVED:
                await self._link.back_off()

    # ------------------------------------------------------------------------------ coordination

    async def _coordinate(self) -> None:
        try:
            while not self._closing:
                if self._rejoin:
                    await self._join_again()
                else:
                    self._stir.clear()
                    await self._stir.wait()
        except Exception as error:
            failure = errors.KafkaError(f"Unexpected error during coordination {error!r}")
            self._sink.fail(failure)
            raise failure from error

    async def _join_again(self) -> None:
        if not self._prepared:
            await self._let_go()
            self._prepared = True
        await self._stop_heart()
        if self._sink.assigned and self._sink.idle_seconds >= MAX_POLL_SECONDS:
            await asyncio.sleep(BACKOFF_SECONDS)
            return
        partitions = await self._join()
        if partitions is None:
            await self._link.back_off()
            return
        await self._take(partitions)
        self._prepared = False
        self._heart = asyncio.create_task(self._beat())

    async def _let_go(self) -> None:
        """The listener is awaited, while heartbeats go on."""
        self._sink.hold()
        if self._listener is not None:
            told = self._listener.on_partitions_revoked(self._sink.assigned)
            if asyncio.iscoroutine(told):
                await told

    async def _take(self, partitions: Assignment) -> None:
        """Partitions are ours before the listener is told: whoever looks for positions may be faster than it (K4)."""
        self._sink.assign(partitions)
        if self._listener is not None:
            told = self._listener.on_partitions_assigned(partitions)
            if asyncio.iscoroutine(told):
                await told

    async def _join(self) -> Assignment | None:
        """-> what we have now; None: join again."""
        try:
            joined = await self._asked_to_join()
            self.member_id, self._generation = joined.member_id, joined.generation
            self._rejoin = False
            assignments = self._assignments(joined) if joined.leader_id == joined.member_id else {}
            return await self._synced(joined, assignments)
        except (errors.UnknownMemberIdError, errors.IllegalGenerationError):
            self._forget()
        except UNREACHABLE + MOVED + (errors.RebalanceInProgressError,):
            self._rejoin = True
        return None

    async def _asked_to_join(self) -> Joined:
        settings = self._settings
        host = f"/{self._link.host}"

        def serve() -> "asyncio.Future[Joined]":
            return self._link.broker.group(settings.group).join(said)

        while True:
            said = Joining(
                self.member_id,
                settings.instance_id,
                self._link.client_id,
                host,
                self._topics,
                settings.session_seconds,
                settings.rebalance_seconds,
            )
            try:
                answer = await self._link.ask_coordinator("JoinGroup", serve, f"{settings.group} {self.member_id}")
                return await self._link.waited(answer)
            except errors.MemberIdRequired as error:
                self.member_id = str(error.args[0])

    async def _synced(self, joined: Joined, assignments: Mapping[str, Assignment]) -> Assignment:
        name, group = joined.member_id, self._settings.group

        def serve() -> "asyncio.Future[Assignment]":
            return self._link.broker.group(group).sync(name, joined.generation, assignments)

        answer = await self._link.ask_coordinator("SyncGroup", serve, f"{group} {name} {joined.generation}")
        return await self._link.waited(answer)

    def _assignments(self, joined: Joined) -> dict[str, Assignment]:
        """Round robin over sorted partitions and members, as aiokafka's assignor does."""
        topics = self._link.broker.topics
        wanted = sorted({topic for _, theirs in joined.members for topic in theirs})
        places = [TopicPartition(topic, number) for topic in wanted for number in range(topics[topic].partitions)]
        subscribed = dict(joined.members)
        given: dict[str, list[TopicPartition]] = {name: [] for name in sorted(subscribed)}
        turns = itertools.cycle(given)
        for place in places:
            name = next(turns)
            while place.topic not in subscribed[name]:
                name = next(turns)
            given[name].append(place)
        return {name: tuple(theirs) for name, theirs in given.items()}

    def _forget(self) -> None:
        """The coordinator does not know us: join as somebody new."""
        self.member_id, self._generation = "", NEVER_JOINED
        self._request_rejoin()

    def _request_rejoin(self) -> None:
        self._rejoin = True
        self._stir.set()

    async def _leave(self) -> None:
        if self._generation > 0 and not self._settings.instance_id:
            name, group = self.member_id, self._settings.group
            serve: Callable[[], None] = lambda: self._link.broker.group(group).leave(name)  # noqa: E731
            try:
                await self._link.ask_coordinator("LeaveGroup", serve, f"{group} {name}")
            except errors.KafkaError:
                self._link.forget_coordinator()
        self._forget()

    # ------------------------------------------------------------------------------ heartbeats

    async def _stop_heart(self) -> None:
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.cancel()
            await asyncio.wait([heart])

    async def _beat(self) -> None:
        """Until the coordinator does not know us any more."""
        interval = self._settings.heartbeat_seconds
        seconds, well_seconds = interval, self._clock()
        while self.member_id:
            await asyncio.sleep(seconds)
            asked_seconds = self._clock()
            if await self._heard():
                well_seconds = self._clock()
                seconds = max(0.0, interval - well_seconds + asked_seconds)
            else:
                await self._link.back_off()
                seconds = 0.0
            if self._clock() - well_seconds > self._settings.session_seconds:
                self._link.forget_coordinator()
            if self._sink.idle_seconds >= MAX_POLL_SECONDS:
                await self._leave()

    async def _heard(self) -> bool:
        """One heartbeat.  -> whether the coordinator still has us, also where all are to join again."""
        name, generation, group = self.member_id, self._generation, self._settings.group
        try:
            await self._link.ask_coordinator(
                "Heartbeat",
                lambda: self._link.broker.group(group).heartbeat(name, generation),
                f"{name} {generation}",
            )
        except errors.RebalanceInProgressError:
            self._request_rejoin()
        except (errors.UnknownMemberIdError, errors.IllegalGenerationError):
            self._forget()
            return False
        except UNREACHABLE + MOVED:
            return False
        return True
