"""An org made from whole harnesses: what an update could not bring about cannot be created either."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.harness import Harness
from schemas.status import HarnessStatus
from worker.cli.orgs import org_of

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
BASE, WRITER = (f"harness_{number:032x}" for number in range(2))


def given(*changes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """`base`, the default, and `writer` below it, each with changes."""
    whole: list[dict[str, Any]] = [{"id": BASE, "name": "base"}, {"id": WRITER, "name": "writer"}]
    whole[1]["parent_harness_id"] = BASE
    changed = [harness | change for harness, change in zip(whole, (*changes, {}, {}), strict=False)]
    org = {"org_id": "acme", "default": BASE, "models": ["m"], "capabilities": ["search"], "harnesses": changed}
    return org | fields


def test_the_directory_says_what_the_bodies_say() -> None:
    files = [{"path": "a.txt", "content": "a"}]
    writer = {"initial_files": files, "capabilities": [{"ref": "search"}], "default_model_id": "m", "tags": None}
    org, bodies = org_of(given({"is_built_in": True}, writer), NOW)
    assert (org.default, org.harnesses[WRITER].parent, org.harnesses[BASE].built_in) == (BASE, BASE, True)
    stored = Harness.model_validate_json(bodies[f"blobs/{org.harnesses[WRITER].body}"])
    assert [capability.ref for capability in stored.capabilities] == ["session_file_system", "search"]
    assert (stored.created_at, stored.updated_at, stored.tags) == (NOW, NOW, ())


def test_what_is_archived_or_deleted_may_have_lost_its_parent() -> None:
    archived = {"status": "archived"}
    org, _ = org_of(given(archived, archived, default=None), NOW)
    assert {entry.status for entry in org.harnesses.values()} == {HarnessStatus.ARCHIVED}
    org_of(given({}, {"status": "deleted", "name": "base"}), NOW)


@pytest.mark.parametrize(
    ("org", "said"),
    [
        (given(name="x"), "name: no such field"),
        (given(harnesses={}), "harnesses: must be a list"),
        (given(harnesses=["x"]), "harnesses.0: must be a whole harness"),
        (given(org_id="a/b"), "org_id"),
        (given({}, {"nam": "x"}), "harnesses.1.nam: no such field; there is name"),
        (given({}, {"id": "harness_1"}), "harnesses.1.id: must be `harness_` and 32"),
        (given({}, {"id": BASE}), f"harnesses.1.id: {BASE} is listed twice"),
        (given({}, {"name": None}), "harnesses.1.name: is missing"),
        (given({}, {"name": "default"}), "harnesses.1.name: must not be `default`"),
        (given({}, {"name": "base"}), "harnesses.0: name_taken: "),
        (given({"status": "archived"}, {"name": "base", "parent_harness_id": None}), "harnesses.0: name_taken: "),
        (given({}, {"capabilities": [{"ref": "fly"}]}), "harnesses.1: capability_unknown: "),
        (given({}, {"default_model_id": "x"}), "harnesses.1: model_unknown: "),
        (given({}, {"parent_harness_id": f"harness_{9:032x}"}), "harnesses.1: parent_not_found: "),
        (given({}, {"parent_harness_id": WRITER}), "harnesses.1: invalid_parent: "),
        (given({"parent_harness_id": WRITER}), "harnesses.0: invalid_parent: "),
        (given({"status": "archived"}, default=None), "harnesses.1: invalid_parent: "),
        (given({}, {"status": "gone"}), "harnesses.1.status: "),
        (given(default=f"harness_{9:032x}"), "default: must be the id of an active harness"),
        (given({}, {"status": "archived"}, default=WRITER), "default: must be the id of an active harness"),
    ],
)
def test_what_breaks_a_rule_is_named_with_its_place(org: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        org_of(org, NOW)
