"""The group coordinator: members, generations, who has which partition, and where the group stands.

Eager: whenever somebody comes or goes, all join again.  A member with an instance id may come back under a new name
without a rebalance, and two that share one steal it from each other (facts: K9, K10).  Positions are read without a
look at transactions that are being decided (K4).  Knows nothing of how requests travel.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal

from aiokafka import errors
from aiokafka.structs import TopicPartition

from worker.simulation.kafka.members import Assignment, Joined, Joining, Member, settle, uuid
from worker.simulation.kafka.transactions import Position
from worker.simulation.world import World

ANSWER_SECONDS = (0.0003, 0.003)
"""How long an answer travels that was waited for."""
GROUP_STATES = {"empty": "Empty", "joining": "PreparingRebalance", "syncing": "CompletingRebalance", "stable": "Stable"}


class Group:
    """One consumer group; `reachable` says whether the coordinator is."""

    def __init__(self, world: World, name: str, reachable: Callable[[], bool]) -> None:
        self.name = name
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.positions: dict[TopicPartition, Position] = {}
        self._world, self._reachable = world, reachable
        self._chance = world.random(f"kafka/{name}")
        self._state: Literal["empty", "joining", "syncing", "stable"] = "empty"
        self._leader = ""
        self._named: dict[str, None] = {}
        self._round = 0

    @property
    def state(self) -> str:
        return GROUP_STATES[self._state]

    # ------------------------------------------------------------------------------ requests

    def join(self, said: Joining) -> asyncio.Future[Joined]:
        """Answered once all have joined.

        Raises MemberIdRequired with a name, UnknownMemberIdError; UnknownError where another has the instance id.
        """
        if said.instance_id:
            return self._join_static(said)
        if not said.member_id:
            name = f"{said.client_id}-{uuid(self._chance)}"
            self._named[name] = None
            raise errors.MemberIdRequired(name)
        if said.member_id in self.members:
            return self._join_again(self.members[said.member_id], said)
        if said.member_id not in self._named:
            raise errors.UnknownMemberIdError
        del self._named[said.member_id]
        return self._enter(said)

    def sync(self, name: str, generation: int, assignments: Mapping[str, Assignment]) -> asyncio.Future[Assignment]:
        """Answered once the leader has told who gets what, in `assignments`.

        Raises UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError.
        """
        member = self._checked(name, generation)
        if self._state == "joining":
            raise errors.RebalanceInProgressError
        answer: asyncio.Future[Assignment] = self._world.loop.create_future()
        if self._state == "stable":
            answer.set_result(member.assignment)
            return answer
        member.syncing = answer
        if name == self._leader:
            self._state = "stable"
            for each in list(self.members.values()):
                each.assignment = assignments.get(each.name, ())
                if each.syncing is not None:
                    self._answer(each.syncing, each.assignment)
                    each.syncing = None
            self._world.note("kafka", "assigned", f"{self.name} {generation} {self._told()}")
        return answer

    def heartbeat(self, name: str, generation: int) -> None:
        """Raises UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError."""
        member = self._checked(name, generation)
        member.seen_seconds = self._world.now
        if self._state == "joining":
            raise errors.RebalanceInProgressError

    def leave(self, name: str) -> None:
        """Raises UnknownMemberIdError."""
        if name not in self.members:
            raise errors.UnknownMemberIdError
        self._remove(self.members[name])

    # ------------------------------------------------------------------------------ members

    def rebalance(self) -> bool:
        """Somebody joins again (F5).  -> whether there was anybody."""
        if self._state in ("syncing", "stable"):
            self._prepare()
            return True
        return False

    def seen_again(self) -> None:
        """The coordinator has moved: sessions begin anew."""
        for member in self.members.values():
            member.seen_seconds = self._world.now

    def _checked(self, name: str, generation: int) -> Member:
        member = self.members.get(name)
        if member is None:
            raise errors.UnknownMemberIdError
        if generation != self.generation:
            raise errors.IllegalGenerationError
        return member

    def _enter(self, said: Joining) -> asyncio.Future[Joined]:
        member = self.members[said.member_id] = Member(said, self._world.now)
        self._watch(member)
        return self._wait(member)

    def _join_again(self, member: Member, said: Joining) -> asyncio.Future[Joined]:
        member.said, member.seen_seconds = said, self._world.now
        if self._state == "stable" and member.name != self._leader:  # its answer was lost: nothing has changed
            return self._at_once(Joined(member.name, self.generation, self._leader))
        return self._wait(member)

    def _join_static(self, said: Joining) -> asyncio.Future[Joined]:
        holder = next((each for each in self.members.values() if each.said.instance_id == said.instance_id), None)
        if said.member_id:
            if holder is None:
                raise errors.UnknownMemberIdError
            if holder.name != said.member_id:
                raise errors.UnknownError  # FENCED_INSTANCE_ID, which the client does not know
            return self._join_again(holder, said)
        named = said._replace(member_id=f"{said.instance_id}-{uuid(self._chance)}")
        if holder is None:
            return self._enter(named)
        return self._replace(holder, named)

    def _replace(self, before: Member, said: Joining) -> asyncio.Future[Joined]:
        """Its partitions are its own again; who had the name before is no longer known."""
        for waiting in (before.joining, before.syncing):
            if waiting is not None:
                self._answer(waiting, errors.UnknownError())
        member = Member(said, self._world.now, assignment=before.assignment)
        self.members = {each.name: each for each in (member if old is before else old for old in self.members.values())}
        leader = self._leader
        if leader == before.name:
            self._leader = said.member_id
        self._watch(member)
        self._world.note("kafka", "replaced", f"{self.name} {before.name} by {said.member_id}")
        if self._state == "stable":
            return self._at_once(Joined(said.member_id, self.generation, leader))
        return self._wait(member)

    def _watch(self, member: Member) -> None:
        """Remove it once its session has ended."""
        due = member.seen_seconds + member.said.session_seconds
        self._world.after(max(due - self._world.now, 0.001), lambda: self._look(member))

    def _look(self, member: Member) -> None:
        if self.members.get(member.name) is not member:
            return
        silent = self._world.now - member.seen_seconds >= member.said.session_seconds - 0.001
        if not silent:
            self._watch(member)
        elif member.joining or member.syncing or not self._reachable():
            member.seen_seconds = self._world.now
            self._watch(member)
        else:
            self._world.note("kafka", "session ends", f"{self.name} {member.name}")
            self._remove(member)

    def _remove(self, member: Member) -> None:
        del self.members[member.name]
        for waiting in (member.joining, member.syncing):
            if waiting is not None:
                self._answer(waiting, errors.UnknownMemberIdError())
        if self._state == "joining":
            self._complete_if_all()
        elif self._state != "empty":
            self._prepare()

    # ------------------------------------------------------------------------------ rounds

    def _wait(self, member: Member) -> asyncio.Future[Joined]:
        """For the end of this round, which begins now unless one is under way."""
        if self._state != "joining":
            self._prepare()
        if member.joining is not None:  # the answer to an earlier request, which nobody waits for any more
            self._answer(member.joining, errors.RebalanceInProgressError())
        answer = member.joining = self._world.loop.create_future()
        self._complete_if_all()
        return answer

    def _prepare(self) -> None:
        self._state = "joining"
        self._round += 1
        for member in self.members.values():
            if member.syncing is not None:
                self._answer(member.syncing, errors.RebalanceInProgressError())
                member.syncing = None
        number = self._round
        self._world.after(self._patience(), lambda: self._complete(number))
        if not self.members:
            self._complete(number)

    def _patience(self) -> float:
        """Seconds that the slowest member is given."""
        return max((member.said.rebalance_seconds for member in self.members.values()), default=0.0)

    def _complete_if_all(self) -> None:
        if all(member.joining is not None for member in self.members.values()):
            self._complete(self._round)

    def _complete(self, number: int) -> None:
        """Whoever has not joined by now is out, unless it has an instance id."""
        if self._state != "joining" or number != self._round:
            return
        late = [each for each in self.members.values() if each.joining is None and not each.said.instance_id]
        for member in late:
            del self.members[member.name]
        joined = [member for member in self.members.values() if member.joining is not None]
        if self.members and not joined:
            self._world.after(self._patience(), lambda: self._complete(number))
            return
        self.generation += 1
        self._round += 1
        self._state = "syncing" if joined else "empty"
        if self._leader not in {member.name for member in joined}:
            self._leader = joined[0].name if joined else ""
        everybody = tuple((member.name, member.said.topics) for member in self.members.values())
        for member in joined:
            members = everybody if member.name == self._leader else ()
            assert member.joining is not None
            self._answer(member.joining, Joined(member.name, self.generation, self._leader, members))
            member.joining = None
            member.seen_seconds = self._world.now

    def _told(self) -> str:
        return "; ".join(f"{each.name} {[p.partition for p in each.assignment]}" for each in self.members.values())

    # ------------------------------------------------------------------------------ answers

    def _at_once(self, joined: Joined) -> asyncio.Future[Joined]:
        answer: asyncio.Future[Joined] = self._world.loop.create_future()
        answer.set_result(joined)
        return answer

    def _answer(self, waiting: asyncio.Future[Any], outcome: Any) -> None:
        """It travels back, to whoever may still wait for it."""
        self._world.after(self._chance.uniform(*ANSWER_SECONDS), lambda: settle(waiting, outcome))
