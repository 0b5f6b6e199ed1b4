"""Effects to their end, on a clock that jumps: evidence, escalations, and what a bug or an outage does to them."""

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from schemas.documents import Job, Task
from schemas.observations import Finished, Forbidden, Observation, PartialRemoved, Pending, Stopped
from worker.adapters.memory_jobs import MemoryJobs
from worker.adapters.memory_remote import AgentTask, ExecutorTurn, Fault, MemoryAgents, MemoryExecutors
from worker.adapters.system import SystemIds
from worker.domain.effects import Effect, FindJobs, RemovePartial, StopJob, StopTask, StopTurn
from worker.errors import OutcomeUnknown, Unavailable
from worker.ports import Deletion, JobIdentity, Pod
from worker.runtime.perform import Performer
from worker.runtime.trail import Trail

EVALUATION = "11111111-1111-4111-8111-111111111111"
SESSION = "01arz3ndektsv4rrffq69g5fav.g"


class JumpingClock:
    """Each sleep is over at once, and took as long as it was asked to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 31, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class World:
    """A performer over doubles."""

    def __init__(self) -> None:
        self.clock = JumpingClock()
        self.jobs, self.agents, self.executors = (
            MemoryJobs(self.clock),
            MemoryAgents(self.clock, ["helper"]),
            MemoryExecutors(self.clock, ["g"]),
        )
        self.store: Any = None
        self.trail = Trail()

    async def to_its_end(self, effect: StopJob) -> Observation:
        """As the flight does: what has to be recorded first is, and the effect goes on."""
        seen = await self.perform(effect)
        if not isinstance(seen, Pending):
            return seen
        return await self.perform(replace(effect, job=effect.job.model_copy(update={"gone": seen.resource})))

    async def perform(self, effect: Effect) -> Observation:
        performer = Performer(
            jobs=self.jobs,
            agents=self.agents,
            executors=self.executors,
            store=self.store,
            clock=self.clock,
            ids=SystemIds(),
            job_label="label",
        )
        return await performer.perform(effect, self.trail)

    def stop_job(self, job: JobIdentity, deadline_seconds: float = 120, grace_seconds: int = 30) -> StopJob:
        recorded = Job(namespace=job.namespace, name=job.name, uid=job.uid)
        now = self.clock.now()
        return StopJob(recorded, "graceful", grace_seconds, now, now + timedelta(seconds=deadline_seconds))


@pytest.fixture
def world() -> World:
    return World()


async def test_a_polite_job_is_seen_stopped_without_escalation(world: World) -> None:
    job = world.jobs.add(EVALUATION, pods=2, stop_seconds=3)
    seen = await world.perform(world.stop_job(job))
    assert isinstance(seen, Stopped)
    assert (seen.resource.evidence, seen.resource.escalations, len(seen.resource.pods)) == ("stopped", (), 2)
    assert 3 <= world.clock.seconds < 10


async def test_after_the_grace_each_pod_is_killed_and_that_is_proof(world: World) -> None:
    job = world.jobs.add(EVALUATION, pods=2, stop_seconds=math.inf, grace_seconds=600)
    seen = await world.perform(world.stop_job(job))
    assert isinstance(seen, Stopped)
    assert (seen.resource.evidence, [e.grace_period_seconds for e in seen.resource.escalations]) == ("stopped", [1, 1])
    assert 30 <= world.clock.seconds < 35


async def test_a_node_that_is_away_is_forced_shortly_before_the_deadline_and_never_called_stopped(world: World) -> None:
    job = world.jobs.add(EVALUATION, node_away=True)
    seen = await world.to_its_end(world.stop_job(job))
    assert isinstance(seen, Stopped)
    assert (seen.resource.evidence, [e.grace_period_seconds for e in seen.resource.escalations]) == ("forced", [1, 0])
    assert 105 <= world.clock.seconds < 120


async def test_a_removal_without_proof_is_recorded_before_it_is_asked_for(world: World) -> None:
    job = world.jobs.add(EVALUATION, pods=120, node_away=True)
    planned = await world.perform(world.stop_job(job))
    assert isinstance(planned, Pending)
    assert [escalation.grace_period_seconds for escalation in planned.resource.escalations] == [1] * 99 + [0]
    assert {asked.grace_period_seconds for asked in world.jobs.asked if asked.verb == "delete_pod"} == {1}


async def test_whoever_goes_on_after_a_planned_removal_does_not_say_stopped(world: World) -> None:
    job = world.jobs.add(EVALUATION, node_away=True)
    effect = world.stop_job(job)
    planned = await world.perform(effect)
    assert isinstance(planned, Pending)
    [pod] = (await world.jobs.observe(job)).pods
    assert await world.jobs.delete_pod(job, pod, 0) == Deletion.REMOVED  # and dies before it has said so
    world.trail = Trail()
    seen = await world.perform(replace(effect, job=effect.job.model_copy(update={"gone": planned.resource})))
    assert isinstance(seen, Stopped)
    assert (seen.resource.evidence, seen.resource.escalations) == ("forced", planned.resource.escalations)
    assert seen.resource.asked_at == planned.resource.asked_at


class Speechless(MemoryJobs):
    """Does what it is asked to do with pods, and never says so."""

    async def delete_pod(self, job: JobIdentity, pod: Pod, grace_period_seconds: Literal[0, 1]) -> Deletion:
        await super().delete_pod(job, pod, grace_period_seconds)
        raise OutcomeUnknown("the reply was lost")


async def test_a_removal_whose_answer_was_lost_is_no_proof(world: World) -> None:
    world.jobs = Speechless(world.clock)
    job = world.jobs.add(EVALUATION, node_away=True)
    seen = await world.to_its_end(world.stop_job(job))
    assert isinstance(seen, Stopped)
    assert seen.resource.evidence == "forced"


async def test_a_short_deadline_leaves_time_for_the_kill_that_proves_before_the_one_that_does_not(world: World) -> None:
    job = world.jobs.add(EVALUATION, stop_seconds=math.inf, grace_seconds=600)
    seen = await world.perform(world.stop_job(job, deadline_seconds=10, grace_seconds=600))
    assert isinstance(seen, Stopped)
    assert (seen.resource.evidence, [e.grace_period_seconds for e in seen.resource.escalations]) == ("stopped", [1])


async def test_the_grace_is_not_given_again_by_the_next_worker(world: World) -> None:
    job = world.jobs.add(EVALUATION, stop_seconds=math.inf, grace_seconds=600)
    effect = world.stop_job(job)
    world.clock.seconds = 29
    seen = await world.perform(effect)
    assert isinstance(seen, Stopped)
    assert len(seen.resource.escalations) == 1
    assert world.clock.seconds < 35


async def test_a_job_of_that_name_with_another_uid_is_left_alone(world: World) -> None:
    other = world.jobs.add(EVALUATION, name="job")
    seen = await world.perform(world.stop_job(JobIdentity("memory", "job", "uid-of-ours")))
    assert isinstance(seen, Stopped)
    assert world.jobs.remaining() == [other]


async def test_a_cluster_that_forbids_it_is_told_with_its_reason(world: World) -> None:
    job = world.jobs.add(EVALUATION)
    world.jobs.forbidden = frozenset({"delete"})
    seen = await world.perform(world.stop_job(job))
    assert isinstance(seen, Forbidden)
    assert "forbidden" in seen.message
    assert seen.resource.evidence == "unconfirmed"


async def test_lost_replies_are_asked_again(world: World) -> None:
    job = world.jobs.add(EVALUATION)
    world.jobs.loses_replies = True
    task = asyncio.create_task(world.perform(world.stop_job(job)))
    await asyncio.sleep(0.01)
    world.jobs.loses_replies = False
    seen = await task
    assert isinstance(seen, Stopped)
    assert world.jobs.remaining() == []


async def test_an_unclassified_error_is_tried_again(world: World) -> None:
    class Odd(MemoryJobs):
        left = 3

        async def find(self, evaluation_id: str) -> Any:
            self.left -= 1
            if self.left >= 0:
                raise ZeroDivisionError("a bug")
            return await super().find(evaluation_id)

    world.jobs = Odd(world.clock)
    job = world.jobs.add(EVALUATION)
    seen = await world.perform(FindJobs(EVALUATION))
    assert seen.kind == "jobs_found"
    assert [found.uid for found in seen.jobs] == [job.uid]


@pytest.mark.parametrize(("fault", "said"), [(Fault.REFUSES, "forbidden"), (Fault.UNAVAILABLE, None)])
async def test_an_agent_that_refuses_is_final_and_one_that_is_away_is_asked_again(
    world: World, fault: Fault, said: str | None
) -> None:
    world.agents.run("helper", "task-1", AgentTask())
    world.agents.faults["helper"] = fault
    effect = StopTask(Task(agent="helper", task_id="task-1"), world.clock.now() + timedelta(seconds=60))
    task = asyncio.create_task(world.perform(effect))
    await asyncio.sleep(0.01)
    world.agents.faults.pop("helper")
    assert (await task).kind == (said or "stopped")


async def test_a_task_that_ended_by_itself_proves_its_outcome(world: World) -> None:
    world.agents.run("helper", "task-1", AgentTask(ends_after_seconds=0))
    effect = StopTask(Task(agent="helper", task_id="task-1"), world.clock.now() + timedelta(seconds=60))
    seen = await world.perform(effect)
    assert isinstance(seen, Finished)
    assert (seen.outcome, seen.resource.evidence) == ("succeeded", "stopped")


async def test_a_turn_that_takes_its_time_is_polled_until_it_has_stopped(world: World) -> None:
    world.executors.run("g", "turn-1", ExecutorTurn(stops_after_seconds=20))
    effect = StopTurn("g", SESSION, "turn-1", world.clock.now() + timedelta(seconds=50))
    seen = await world.perform(effect)
    assert isinstance(seen, Stopped)
    assert 20 <= world.clock.seconds < 25


async def test_partial_data_that_cannot_be_removed_is_a_warning(world: World) -> None:
    class Away:
        async def list(self, prefix: str) -> list[str]:
            raise Unavailable("the store is away")

    world.store = Away()
    seen = await world.perform(RemovePartial("team-1", EVALUATION))
    assert isinstance(seen, PartialRemoved)
    assert seen.warning == "partial data was not removed: the store is away"


async def test_partial_data_that_comes_back_is_a_warning_and_no_endless_loop(world: World) -> None:
    class Stubborn:
        async def delete(self, keys: Any) -> None: ...

        async def list(self, prefix: str) -> Any:
            return [f"{prefix}odd"]

    world.store = Stubborn()
    seen = await world.perform(RemovePartial("team-1", EVALUATION))
    assert isinstance(seen, PartialRemoved)
    assert seen.warning is not None
    assert seen.warning.startswith("cannot be removed")
