"""What happened to one aggregate, in the order of time, for people: calls, records, documents, verdicts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from worker.simulation.invariants.effects import things
from worker.simulation.invariants.evidence import Coordinates, Evidence
from worker.simulation.invariants.reading import Json, Reading, Version
from worker.simulation.world import Line

TOLD_CHARACTERS_MAX = 200


class _Told(NamedTuple):
    seconds: float
    who: str
    text: str


def story(history: Sequence[Line], evidence: Evidence, key: str) -> list[str]:
    """A line each: `12.345 s  worker-1.2  s3.put ...`; of all that names the aggregate, or something that it owns."""
    reading = Reading(evidence)
    names = _names(reading, key)
    told = [
        _Told(line.seconds, line.who, f"{line.what} {line.detail}".strip())
        for line in history
        if any(name in line.detail or name in line.what for name in names) or _is_a_turn_of_fate(line)
    ]
    told += _versions(reading.by_aggregate.get(key, []))
    told += _verdicts(reading, key)
    width = max((len(each.who) for each in told), default=0)
    # Sorting is stable: what happened at one time stays in its order.
    return [
        f"{each.seconds:10.3f} s  {each.who:<{width}}  {each.text[:TOLD_CHARACTERS_MAX]}"
        for each in sorted(told, key=lambda each: each.seconds)
    ]


def _is_a_turn_of_fate(line: Line) -> bool:
    """What happens to whole processes and servers, and so to every aggregate."""
    return line.what in ("starts", "killed", "ends", "sleeps", "wakes", "SIGTERM", "clock", "away", "back", "dies")


def _names(reading: Reading, key: str) -> list[str]:
    """By which the aggregate is known in calls: its ids, and the identities of whatever was recorded for it."""
    found = {key.partition("/")[2]: None}
    for version in reading.by_aggregate.get(key, []):
        if "workflow_id" in version.state:
            found[version.state["workflow_id"]] = None
        found |= {thing.identity: None for thing in things(version.state)}
    return list(found)


def _versions(versions: Sequence[Version]) -> Iterator[_Told]:
    for version in versions:
        body, state = version.body, version.state
        more = f", open {', '.join(command['id'] for command in state['open'])}" if state["open"] else ""
        text = f"document: revision {body['revision']}, version {state['version']}, {_standing(state)}{more}"
        yield _Told(version.seconds, version.process, text)


def _standing(state: Json) -> str:
    if state["kind"] == "org":
        return f"{len(state['harnesses'])} harnesses"
    if state["kind"] == "session" and state["turn"]:
        return f"{state['status']}, turn {state['turn']['turn_id']} {state['turn']['status']}"
    return str(state["status"])


def _verdicts(reading: Reading, key: str) -> Iterator[_Told]:
    """When each became visible is when its record was published."""
    published: dict[Coordinates, float] = {}
    for records in reading.evidence.topics.get("results", ()):
        for record in records:
            headers = dict(record.headers)
            at = (int(headers["verdict-partition"]), int(headers["verdict-offset"]))
            published.setdefault(at, record.seconds)
    for at, results in sorted(reading.results.items()):
        for result in results:
            if result.key == key:
                said = result.verdict
                text = (
                    f"verdict {said['http_status']} {said['code']} on {said['command']['type']} {said['command']['id']}"
                )
                yield _Told(published[at], "results", f"{text} (record {at[0]}:{at[1]})")
