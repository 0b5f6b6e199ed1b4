"""Harness updates: each row of the table, and the order of checks."""

import base64
import hashlib
from typing import Any

import pytest

from schemas.commands import Caller
from schemas.documents import OrgState
from schemas.events import Remembered
from schemas.harness import Capability, Harness, HarnessEntry, InitialFile, NetworkAccess
from schemas.status import HarnessStatus
from schemas.verdicts import Verdict
from tests.unit.given import NOW, command, context
from worker.domain.decide import decide
from worker.domain.decision import Decision, Refused, Written
from worker.domain.harness import effective, normal_path, resolve


def harness_id(n: int) -> str:
    return f"harness_{n:032x}"


H = harness_id(1)


def stored(n: int = 1, **more: Any) -> Harness:
    whole = {"id": harness_id(n), "name": f"name-{n}", "system_prompt": "be kind", "created_at": NOW, "updated_at": NOW}
    return Harness.model_validate(whole | more)


def sha(harness: Harness) -> str:
    return hashlib.sha256(harness.model_dump_json().encode()).hexdigest()


def org(*harnesses: Harness, **more: Any) -> OrgState:
    entries = {
        h.id: HarnessEntry(
            name=h.name, parent=h.parent_harness_id, status=h.status, built_in=h.is_built_in, version=3, body=sha(h)
        )
        for h in harnesses or (stored(),)
    }
    known = {"models": ("model-1",), "capabilities": ("search",)}
    return OrgState.model_validate({"org_id": "org-1", "harnesses": entries, **known, **more})


def update(state: OrgState | None, changes: dict[str, Any], *bodies: Harness, n: int = 1, **more: Any) -> Decision:
    reads = [
        {"key": f"blobs/{sha(h)}", "sha256": sha(h), "content": h.model_dump_json()} for h in bodies or (stored(),)
    ]
    fields = {"org_id": "org-1", "harness_id": harness_id(n), **more}
    return decide(state, command("harness.update", changes=changes, **fields), context(60, documents=reads))


def after(decision: Decision) -> Harness:
    assert isinstance(decision, Written), decision
    return Harness.model_validate_json(decision.blobs[0])


def verdict(decision: Decision) -> Verdict:
    if isinstance(decision, Refused):
        return decision.verdict
    assert isinstance(decision, Written), decision
    [found] = [event.verdict for event in decision.events if isinstance(event, Remembered)]
    return found


FILE = {"path": "/a.txt", "content": "hi"}


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"name": "new-name"}, "name", "new-name"),
        ({"display_name": ""}, "display_name", ""),
        ({"description": ""}, "description", ""),
        ({"system_prompt": ""}, "system_prompt", ""),
        ({"system_prompt": None}, "system_prompt", "be kind"),
        ({"parent_harness_id": harness_id(2)}, "parent_harness_id", harness_id(2)),
        ({"default_model_id": "model-1"}, "default_model_id", "model-1"),
        ({"tags": []}, "tags", ()),
        ({"tags": ["a", "b"]}, "tags", ("a", "b")),
        ({"capabilities": [{"ref": "search"}]}, "capabilities", (Capability(ref="search"),)),
        ({"initial_files": []}, "initial_files", ()),
        ({"network_access": {}}, "network_access", NetworkAccess()),
        ({"network_access": {"blocked": ["a.test"]}}, "network_access", NetworkAccess(blocked=("a.test",))),
        ({"status": "active"}, "status", HarnessStatus.ACTIVE),
        ({"status": "archived"}, "status", HarnessStatus.ARCHIVED),
        ({"unknown": 1}, "system_prompt", "be kind"),
        ({}, "system_prompt", "be kind"),
    ],
)
def test_a_provided_field_replaces_and_updated_at_moves(changes: dict[str, Any], field: str, value: Any) -> None:
    decision = update(org(stored(1), stored(2)), changes)
    assert getattr(after(decision), field) == value
    assert after(decision).updated_at > NOW
    assert (verdict(decision).outcome, verdict(decision).http_status) == ("applied", 200)


def test_null_detaches_the_parent() -> None:
    child = stored(1, parent_harness_id=harness_id(2))
    assert after(update(org(child, stored(2)), {"parent_harness_id": None}, child)).parent_harness_id is None


def test_archiving_is_stamped() -> None:
    assert after(update(org(), {"status": "archived"})).archived_at is not None


def test_files_bring_their_capability_first() -> None:
    changes = {"initial_files": [FILE], "capabilities": [{"ref": "search"}]}
    assert [c.ref for c in after(update(org(), changes)).capabilities] == ["session_file_system", "search"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "default"},
        {"name": "Upper"},
        {"name": "a--b"},
        {"name": "-a"},
        {"name": "a\n"},
        {"name": "a" * 65},
        {"display_name": "x" * 256},
        {"description": "é" * 5121},
        {"system_prompt": "x" * (1024 * 1024 + 1)},
        {"system_prompt": 3},
        {"parent_harness_id": "harness_1"},
        {"tags": "a"},
        {"tags": [1]},
        {"capabilities": [{"ref": "a"}, {"ref": "a"}]},
        {"capabilities": [{"ref": f"c{i}"} for i in range(251)]},
        {"initial_files": [{"path": f"/{i}", "content": ""} for i in range(101)]},
        {"initial_files": [{"path": "/a", "content": "x" * (5 * 1024 * 1024 + 1)}]},
        {"initial_files": [{"path": "/a", "content": "!", "encoding": "base64"}]},
        {"initial_files": [FILE, {"path": "/workspace/a.txt", "content": ""}]},
        {"initial_files": [{"path": "/../a", "content": ""}]},
        {"network_access": []},
        {"status": "gone"},
    ],
    ids=str,
)
def test_a_field_that_breaks_a_rule_is_400_and_named(changes: dict[str, Any]) -> None:
    found = verdict(update(org(), changes))
    assert (found.code, found.http_status) == ("invalid_field", 400)
    assert found.errors[0].loc[0] == next(iter(changes))


def test_base64_counts_decoded() -> None:
    content = base64.b64encode(b"x" * (4 * 1024 * 1024)).decode()
    file = {"path": "/a", "content": content, "encoding": "base64"}
    assert verdict(update(org(), {"initial_files": [file]})).code == "updated"


# In the order of the contract; each is given together with everything that comes after it.
ORDER: list[tuple[str, dict[str, Any]]] = [
    ("permission_denied", {"caller": Caller(org_id="org-1")}),
    ("invalid_harness_id", {"harness_id": "harness_01933b5a0000700080000000000001"}),
    ("invalid_field", {"changes": {"name": "UP"}}),
    ("not_found", {"harness_id": harness_id(99)}),
    ("built_in", {"built_in": True}),
    ("not_active", {"status": "archived"}),
    ("name_taken", {"changes": {"name": "name-2"}}),
    ("capability_unknown", {"changes": {"capabilities": [{"ref": "nope"}]}}),
    ("model_unknown", {"changes": {"default_model_id": "nope"}}),
    ("parent_not_found", {"changes": {"parent_harness_id": harness_id(98)}}),
    ("version_conflict", {"expected_version": 9}),
]


@pytest.mark.parametrize("first", range(len(ORDER)), ids=[code for code, _ in ORDER])
def test_the_first_failing_check_wins(first: int) -> None:
    fields: dict[str, Any] = {"changes": {}}
    for _, given in reversed(ORDER[first:]):
        fields |= {**given, "changes": {**fields["changes"], **given.get("changes", {})}}
    body = stored(1, is_built_in=fields.pop("built_in", False), status=fields.pop("status", "active"))
    changes = fields.pop("changes")
    assert verdict(update(org(body, stored(2)), changes, body, **fields)).code == ORDER[first][0]


def test_the_status_deleted_is_forbidden() -> None:
    assert verdict(update(org(), {"status": "deleted"})).http_status == 403


def test_another_orgs_harness_is_not_found() -> None:
    caller = Caller(org_id="org-2", permissions=("harness:manage",))
    assert verdict(update(org(), {}, caller=caller)).http_status == 404


@pytest.mark.parametrize("status", ["archived", "active"])
def test_a_parent_must_be_active_and_must_not_close_a_cycle(status: str) -> None:
    child = stored(2, parent_harness_id=H if status == "active" else None, status=status)
    assert verdict(update(org(stored(1), child), {"parent_harness_id": harness_id(2)})).code == "invalid_parent"
    assert verdict(update(org(), {"parent_harness_id": H})).code == "invalid_parent"


def test_two_updates_that_would_form_a_cycle_are_decided_on_one_directory() -> None:
    one, two = stored(1), stored(2)
    decision = update(org(one, two), {"parent_harness_id": harness_id(2)}, one)
    assert isinstance(decision, Written)
    assert isinstance(decision.state, OrgState)
    race = update(decision.state, {"parent_harness_id": H}, two, n=2, id="c2", offset=1)
    assert verdict(race).code == "invalid_parent"


def test_of_two_updates_to_one_name_the_second_is_refused() -> None:
    one, two = stored(1), stored(2)
    decision = update(org(one, two), {"name": "wanted"}, one)
    assert isinstance(decision, Written)
    assert isinstance(decision.state, OrgState)
    assert verdict(update(decision.state, {"name": "wanted"}, two, n=2, id="c2", offset=1)).code == "name_taken"


@pytest.mark.parametrize("status", ["active", "archived"])
def test_archiving_is_refused_while_others_inherit(status: str) -> None:
    child = stored(2, parent_harness_id=H, status=status)
    assert verdict(update(org(stored(1), child), {"status": "archived"})).code == "still_inherited"


def test_archiving_the_default_is_refused() -> None:
    assert verdict(update(org(default=H), {"status": "archived"})).code == "is_default"


def test_an_update_racing_an_archive_is_refused() -> None:
    decision = update(org(), {"status": "archived"})
    assert isinstance(decision, Written)
    assert isinstance(decision.state, OrgState)
    assert verdict(update(decision.state, {"tags": []}, after(decision), id="c2", offset=1)).code == "not_active"


@pytest.mark.parametrize(("path", "normal"), [("/workspace/a", "/a"), ("a", "/a"), ("/workspaces", "/workspaces")])
def test_paths_are_compared_without_the_workspace(path: str, normal: str) -> None:
    assert normal_path(path) == normal


@pytest.mark.parametrize("path", ["", "/", "/workspace", "/workspace/", "a//b", "a/../b", "..", "a\0"])
def test_a_path_must_name_a_file(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        normal_path(path)


def test_names_resolve_within_the_org() -> None:
    state = org(stored(1), stored(2, status="archived"), stored(3, status="deleted"), default=H)
    asked = ("default", H, "name-1", "name-2", "name-3", harness_id(3), "nope")
    assert [resolve(state, name) for name in asked] == [H, H, H, harness_id(2), None, None, None]
    assert resolve(org(), "default") is None


def test_the_effective_harness_is_merged_from_root_to_leaf() -> None:
    root = stored(
        1,
        default_model_id="model-1",
        capabilities=[{"ref": "a", "config": {"x": 1}}, {"ref": "b"}],
        initial_files=[{"path": "/workspace/f", "content": "old"}],
        network_access={"allowed": ["*.a.test"]},
    )
    leaf = stored(
        2,
        system_prompt="be brief",
        capabilities=[{"ref": "a", "config": {"x": 2}}],
        initial_files=[{"path": "f", "content": "new"}],
        network_access={"allowed": ["b.a.test"], "blocked": ["z.test"]},
    )
    merged = effective([root, leaf])
    assert merged.system_prompt == "be kind\n\nbe brief"
    assert merged.default_model_id == "model-1"
    assert merged.capabilities == (Capability(ref="a", config={"x": 2}), Capability(ref="b"))
    assert merged.initial_files == (InitialFile(path="f", content="new"),)
    assert (merged.network_access.allowed, merged.network_access.blocked) == (("b.a.test",), ("z.test",))


@pytest.mark.parametrize("changes", [None, [], "x"])
def test_changes_that_are_no_object_are_refused_after_the_permission(changes: Any) -> None:
    def given(caller: Caller) -> str:
        asked = command("harness.update", caller=caller, org_id="org-1", harness_id=H, changes=changes)
        decision = decide(org(), asked, context())
        assert isinstance(decision, Refused)
        return decision.verdict.code

    assert given(Caller(org_id="org-1")) == "permission_denied"
    assert given(Caller(org_id="org-1", permissions=("harness:manage",))) == "invalid_field"
