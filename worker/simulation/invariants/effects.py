"""I8, I9 and I12: what was touched, what still runs, and what the processes left behind."""

from collections.abc import Iterator
from math import inf
from typing import Any, NamedTuple

from worker.simulation.invariants.evidence import CLOCK_SECONDS, Kind, Violation
from worker.simulation.invariants.reading import Json, Reading, Version

KEPT_FOR_EVER = ("workflows/", "sessions/", "orgs/", "custom-harnesses/", "blobs/", "personal/")
PROOF = ("stopped", "forced")
NOBODY = ("", inf)


class Thing(NamedTuple):
    """A Job, task or turn as a document records it."""

    kind: Kind
    identity: str
    owner: str | None
    evidence: str | None
    """What its receipt says; None: nothing was seen of it."""


def things(state: Json) -> Iterator[Thing]:
    """Everything that a document records, which a teardown would stop."""
    if state["kind"] == "workflow":
        for job in state["jobs"]:
            yield Thing("job", job["uid"], job.get("owner"), _evidence(job))
        for task in (*state["earlier_tasks"], state["workflow_specific_fields"]):
            if task is not None:
                yield Thing("task", task["task_id"], None, _evidence(task))
    if state["kind"] == "session" and state["turn"] is not None:
        yield Thing("turn", state["turn"]["turn_id"], None, _evidence(state["turn"]))


def _evidence(thing: Json) -> str | None:
    gone: Any = thing.get("gone")
    return str(gone["evidence"]) if gone else None


# ------------------------------------------------------------------------------ I8


def i8_intent_first(reading: Reading) -> Iterator[Violation]:
    """No identity outside of those recorded is touched, and none before its intent is durable; nobody else's Job."""
    since = _intents(reading)
    for touch in reading.evidence.touched:
        text = f"{touch.kind} {touch.identity} is touched by {touch.process} at {touch.seconds:.3f} s"
        key, seconds = since.get((touch.kind, touch.identity), NOBODY)
        if touch.identity in reading.evidence.bystanders:
            yield Violation("I8", key, f"{text}, which no command is about")
        elif seconds == inf:
            yield Violation("I8", key, f"{text}, and no intent was ever recorded")
        elif touch.seconds < seconds:
            yield Violation("I8", key, f"{text}, before its intent at {seconds:.3f} s")
    yield from _objects_removed(reading)


def _intents(reading: Reading) -> dict[tuple[str, str], tuple[str, float]]:
    """By thing: whose it is, and since when an intent to stop it is durable."""
    since: dict[tuple[str, str], tuple[str, float]] = {}
    for key, versions in reading.by_aggregate.items():
        for version in versions:
            seconds = version.seconds if version.state["open"] else inf
            for thing in things(version.state):
                owner = [] if thing.owner is None else [thing.owner.rpartition("/")[2]]
                for identity in (thing.identity, *owner):
                    name = (thing.kind, identity)
                    if seconds < since.get(name, NOBODY)[1] or name not in since:
                        since[name] = (key, seconds)
    return since


def _objects_removed(reading: Reading) -> Iterator[Violation]:
    """Partial data only under an intent that asks for it; documents, requests and blobs never."""
    wanted: dict[str, float] = {}
    for versions in reading.by_aggregate.values():
        for version in versions:
            state = version.state
            if state["kind"] == "workflow" and state["open"] and (state.get("teardown") or {}).get("cleanup"):
                prefix = f"teams/{state['team_id']}/evaluations/{state['workflow_id']}/partial/"
                wanted.setdefault(prefix, version.seconds)
    for write in reading.evidence.writes:
        if write.body is not None:
            continue
        text = f"{write.key} is removed by {write.process} at {write.seconds:.3f} s"
        if write.key.startswith(KEPT_FOR_EVER) or write.key.endswith("/request.json"):
            yield Violation("I8", "", f"{text}, which is kept for ever")
        elif write.key.startswith("teams/"):
            prefix = write.key[: write.key.find("/partial/") + len("/partial/")]
            if wanted.get(prefix, inf) > write.seconds:
                yield Violation("I8", "", f"{text}, and nobody has asked for it")


# ------------------------------------------------------------------------------ I9


def i9_stopped(reading: Reading) -> Iterator[Violation]:
    """At rest every cancelled thing has stopped, late Jobs too, or has an unconfirmed verdict and a marker.

    What was removed without proof (`forced`) may run on, as its receipt says.
    """
    if not reading.evidence.at_rest:
        return
    running = set(reading.evidence.running)
    for key, versions in reading.by_aggregate.items():
        state = versions[-1].state
        for command in state["open"]:
            at = (command["at"]["partition"], command["at"]["offset"])
            yield Violation("I9", key, f"command {command['id']} is open for ever", at)
        yield from _markers(reading, key, state)
        if _status(state) not in ("cancelling", "cancelled"):
            continue
        if _status(state) == "cancelling" and not state["unsettled"]:
            yield Violation("I9", key, "it is cancelling for ever, and no marker says so")
        for thing in things(state):
            if (thing.kind, thing.identity) not in running or thing.evidence == "forced":
                continue
            if thing.evidence == "stopped":
                yield Violation("I9", key, f"{thing.kind} {thing.identity} runs, and was seen stopped")
            elif not state["unsettled"]:
                yield Violation("I9", key, f"{thing.kind} {thing.identity} runs for ever, and no marker says so")
            elif not _unconfirmed(reading, versions):
                yield Violation("I9", key, f"{thing.kind} {thing.identity} runs, and no verdict says so")


def _status(state: Json) -> str:
    """Of what can be cancelled."""
    if state["kind"] == "session":
        return str(state["turn"]["status"]) if state["turn"] else ""
    return str(state["status"]) if state["kind"] == "workflow" else ""


def _markers(reading: Reading, key: str, state: Json) -> Iterator[Violation]:
    """What a document owes has an object that the reconciler finds."""
    for marker in state["unsettled"]:
        name = f"unsettled/{key}/{marker['audit_seq']}"
        if name not in reading.evidence.objects:
            yield Violation("I9", key, f"its marker {name} is not there")


def _unconfirmed(reading: Reading, versions: list[Version]) -> bool:
    """Whether a 5xx (for a session: 424 too) of this aggregate was published."""
    failures = (entry["at"] for version in versions for entry in version.state.get("failures", ()))
    for at in failures:
        for result in reading.results.get((at["partition"], at["offset"]), ()):
            if result.verdict["outcome"] == "failed":
                return True
    return False


def i9_evidence(reading: Reading) -> Iterator[Violation]:
    """What a receipt calls `stopped` had ended before that was published; a cancel's 2xx has evidence of everything."""
    for at, results in reading.results.items():
        for result in results:
            receipt = result.verdict.get("receipt")
            for resource in receipt["resources"] if receipt else ():
                identity = (resource["kind"], resource["identity"])
                ended_at = reading.evidence.ended_at.get(identity, 0.0)
                if resource["evidence"] == "stopped" and ended_at > result.seconds + CLOCK_SECONDS:
                    text = f"a receipt says that {identity[0]} {identity[1]} has stopped, and it runs"
                    yield Violation("I9", result.key, f"{text} until {ended_at:.3f} s", at)
                if result.applied and result.verdict["code"] == "cancelled" and resource["evidence"] not in PROOF:
                    text = f"cancelled, without evidence of {identity[0]} {identity[1]}"
                    yield Violation("I9", result.key, text, at)


# ------------------------------------------------------------------------------ I12


def i12_nothing_left(reading: Reading) -> Iterator[Violation]:
    """At rest the processes have as many tasks as at their start."""
    evidence = reading.evidence
    if evidence.at_rest and evidence.tasks > evidence.tasks_baseline:
        yield Violation("I12", "", f"{evidence.tasks} tasks are left, {evidence.tasks_baseline} are the baseline")
