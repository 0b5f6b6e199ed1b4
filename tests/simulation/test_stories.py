"""How the invariants read what is published, beside how the worker writes it; and the story of one aggregate."""

import json

import pytest

from schemas.documents import digest
from tests.simulation.told import EVALUATION, STATE, WORKFLOW_KEY, WORKFLOW_PATH, told
from worker.runtime.position import encode
from worker.simulation.invariants import Position, published, story
from worker.simulation.invariants.reading import done
from worker.simulation.world import Line


@pytest.mark.parametrize("holes", [[], [3], [3, 5, 900], list(range(3, 515))])
def test_positions_are_read_as_the_worker_writes_them(holes: list[int]) -> None:
    first, highest = 3, 1000
    read = done(Position(first, encode(first, highest, holes)))
    assert [offset for offset in range(highest + 10) if offset not in read] == [*holes, *range(highest, highest + 10)]


def test_a_state_is_hashed_as_the_worker_hashes_it() -> None:
    entry = {"id": "c", "fingerprint": "0" * 64, "time": "2026-01-01T00:00:00Z", "at": {"partition": 0, "offset": 1}}
    answered = [entry | {"code": "updated", "verdict_sha256": "1" * 64}] * 2
    state = STATE.validate_python(
        told().state(WORKFLOW_PATH) | {"answered": answered, "phase": "Gr\u00f6\u00dfe \u2028"}
    )
    assert published.digest(json.loads(state.model_dump_json())) == digest(state)


def test_a_story_tells_all_that_names_an_aggregate_in_the_order_of_time() -> None:
    history = told()
    lines = [
        Line(0.0, "worker-0.0", "starts", ""),
        Line(1.5, "worker-0.0", "s3.put", f"workflows/{EVALUATION}.json"),
        Line(1.6, "worker-0.0", "s3.put", "workflows/another.json"),
        Line(3.0, "worker-0.0", "kubernetes.DELETE", "jobs/job-1 uid-1"),
    ]
    told_lines = story(lines, history.evidence(), WORKFLOW_KEY)
    assert [line.split(" s  ", 1)[1].split()[:2] for line in told_lines] == [
        ["worker-0.0", "starts"],
        ["before", "document:"],
        ["worker-0.0", "s3.put"],
        ["worker-0.0", "document:"],
        ["worker-0.0", "kubernetes.DELETE"],
        ["worker-0.0", "document:"],
        ["results", "verdict"],
        ["results", "verdict"],
        ["results", "verdict"],
    ]
    assert "revision 1, version 1, cancelling, open cancel-1" in told_lines[3]
    assert "verdict 200 cancelled on a.command cancel-1 (record 0:0)" in told_lines[6]
    assert not any("another" in line for line in told_lines)
