"""I4 and I14: what cannot be read any more, and what the audit topic gives when it is folded."""

from random import Random

import pytest

from schemas.audit import AuditRecord
from tests.simulation.breaking import Breaks, Broken, assert_named, cases
from tests.simulation.told import ORG_KEY, WORKFLOW_KEY, Told, told
from worker.ports import Topic
from worker.settings import Settings
from worker.simulation.faults import NO_FAULTS
from worker.simulation.invariants import check
from worker.simulation.loop import run
from worker.simulation.outcome import Case, Scale
from worker.simulation.rebuilding import rebuilt
from worker.simulation.simulation import Simulation
from worker.simulation.world import World

breaks = Breaks()


@breaks("I4", ORG_KEY, "which is not stored, by worker-0.0 at")
def _a_blob_after_the_write_that_names_it(history: Told) -> None:
    blob = next(write for write in history.writes if write.key.startswith("blobs/"))
    history.writes.remove(blob)
    history.writes.append(blob)


@breaks("I4", WORKFLOW_KEY, "a record of audit names blobs/none, which is not stored")
def _an_input_that_nobody_can_read(history: Told) -> None:
    history.republish("audit", 1, lambda record: record.update(input={"sha256": "none", "bytes": 1}))


@breaks("I4", ORG_KEY, "a record of results names blobs/none, which is not stored")
def _a_verdict_that_nobody_can_read(history: Told) -> None:
    records = history.topics["results"][0]
    place = next(place for place, each in enumerate(records) if each.key == ORG_KEY.encode())
    records[place] = records[place]._replace(headers=(*records[place].headers, ("ce_dataref", b"blobs/none")))


@pytest.mark.parametrize("broken", cases(breaks))
def test_what_names_a_blob_that_is_not_stored_is_named(broken: Broken) -> None:
    assert_named(broken)


def test_nothing_else_is_said_where_a_blob_is_missing() -> None:
    history = told()
    _a_verdict_that_nobody_can_read(history)
    assert len(check(history.evidence())) == 1


def test_a_rebuild_folds_what_was_published_and_sees_what_is_left_out() -> None:
    """Over what real workers have left behind."""

    async def main() -> None:
        simulation = Simulation(World("1", NO_FAULTS), Case("1", NO_FAULTS, Scale(1, 20, 1)), Settings())
        outcome = await simulation.run()
        assert outcome.violations == ()
        records = simulation.broker.committed(f"worker.{Topic.AUDIT}", 0)
        blobs = {key: each.body for key, each in simulation.bucket.objects.items()}
        whole = rebuilt(records, blobs)
        assert whole
        for key, state in whole.items():
            mine = [each for each in records if (each.key or b"").decode() == key]
            last = max((AuditRecord.model_validate_json(each.value or b"") for each in mine), key=lambda r: r.audit_seq)
            assert last.state_after_sha256 == state
            without = [each for each in mine if AuditRecord.model_validate_json(each.value or b"") != last]
            assert rebuilt(without, blobs).get(key) != state, "each decision has changed the state"

    run(main(), Random("1"))
