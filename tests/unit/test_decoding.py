"""Step 1: from bytes to a command, or to why it is none."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.base import time_text
from schemas.cloudevents import headers
from schemas.commands import WorkflowUpdate
from tests.unit.given import EVALUATION, NOW
from worker.decoding import Decoded, Poison, Rejected, decode
from worker.ports import Headers, Record, Topic

ACTOR = {"subject": "ada", "team_ids": ["team-1"], "permissions": ["agent:write"]}
DATA = {"actor": ACTOR, "reason": "too slow", "evaluation_id": EVALUATION}


def record(data: Any = DATA, kind: str = "evaluation.cancel", ce: Headers | None = None, **more: Any) -> Record:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    if ce is None:
        ce = headers(id="c1", type=kind, time=more.pop("time", NOW), subject="x", source="test")
    return Record(Topic.COMMANDS, 0, 7, NOW, b"evaluation/x", raw, ce)


def decoded(given: Record) -> Decoded:
    result = decode(given, 1000)
    assert isinstance(result, Decoded), result
    return result


def test_a_command_is_read_and_what_is_personal_is_kept_apart() -> None:
    result = decoded(record())
    assert result.command.aggregate.key == f"evaluation/{EVALUATION}"
    assert (result.personal.subject, result.personal.reason) == ("ada", "too slow")
    assert "ada" not in result.command.model_dump_json()
    assert "too slow" not in result.command.model_dump_json()


def test_structured_mode_gives_the_same_command() -> None:
    event = {"specversion": "1.0", "id": "c1", "type": "evaluation.cancel", "source": "test", "data": DATA}
    event["time"] = time_text(NOW)
    given = record(event, ce=(("content-type", b"application/cloudevents+json; charset=UTF-8"),))
    assert decoded(given).command == decoded(record()).command


def test_ids_are_folded_to_lower_case_and_unknown_keys_are_ignored() -> None:
    given = record(DATA | {"evaluation_id": EVALUATION.upper(), "new_key": 1})
    assert decoded(given).command.aggregate.id == EVALUATION


@pytest.mark.parametrize(
    "change", [{"correlation_id": "x"}, {"expires_at": "2026-02-01T00:00:00Z"}, {"actor": ACTOR | {"team_ids": []}}]
)
def test_the_fingerprint_leaves_out_what_a_retry_may_change(change: dict[str, Any]) -> None:
    assert decoded(record(DATA | change)).command.fingerprint == decoded(record()).command.fingerprint


@pytest.mark.parametrize("change", [{"reason": "y"}, {"mode": "force"}, {"actor": ACTOR | {"subject": "bob"}}])
def test_the_fingerprint_covers_the_data_and_the_subject(change: dict[str, Any]) -> None:
    assert decoded(record(DATA | change)).command.fingerprint != decoded(record()).command.fingerprint


@pytest.mark.parametrize(
    ("data", "field", "code"),
    [
        (DATA | {"evaluation_id": "nope"}, "evaluation_id", "invalid_command"),
        (DATA | {"mode": "gently"}, "mode", "invalid_command"),
        (DATA | {"grace_period_seconds": "30"}, "grace_period_seconds", "invalid_command"),
        ({k: v for k, v in DATA.items() if k != "evaluation_id"}, "evaluation_id", "invalid_command"),
    ],
)
def test_a_wrong_field_of_the_operation_is_a_verdict_that_names_it(data: Any, field: str, code: str) -> None:
    result = decode(record(data), 1000)
    assert isinstance(result, Rejected)
    assert (result.verdict.code, result.verdict.errors[0].loc) == (code, (field,))


OWNER = "batch/v1/CronJob/nightly/1f0c9a7e-5b1d"


@pytest.mark.parametrize("owner", [OWNER, "v1/Pod/runner/uid", "jobset.x-k8s.io/v1alpha2/JobSet/a.b/uid", None])
def test_an_owner_is_named_by_version_kind_name_and_uid(owner: str | None) -> None:
    job = {"namespace": "runs", "name": "job-1", "uid": "job-uid", "owner": owner}
    operation = decoded(record(DATA | {"status": "running", "job": job}, "workflow.update")).command.operation
    assert isinstance(operation, WorkflowUpdate)
    assert operation.job
    assert operation.job.owner == owner


@pytest.mark.parametrize(
    "owner",
    [
        "nightly",
        "CronJob/nightly/uid",
        "v1/CronJob/nightly/",
        "v1/CronJob//uid",
        "a/b/v1/CronJob/nightly/uid",
        "batch/v1/CronJob/../uid",
        "../v1/CronJob/nightly/uid",
        "batch/../CronJob/nightly/uid",
        "batch/v1/CronJob/a%2fb/uid",
        "batch/v1/CronJob/nightly/uid?x",
        f"{OWNER}\n",
    ],
)
def test_an_owner_of_another_shape_is_a_verdict_that_names_the_field_and_the_rule(owner: str) -> None:
    job = {"namespace": "runs", "name": "job-1", "uid": "job-uid", "owner": owner}
    result = decode(record(DATA | {"status": "running", "job": job}, "workflow.update"), 1000)
    assert isinstance(result, Rejected)
    [error] = result.verdict.errors
    rule = "must be apiVersion/kind/name/uid, such as batch/v1/CronJob/nightly/{uid}"
    assert (result.verdict.http_status, error.loc, error.msg) == (422, ("job", "owner"), rule)


def test_a_malformed_session_id_is_400() -> None:
    result = decode(record({"actor": ACTOR, "session_id": "x"}, "session.cancel"), 1000)
    assert isinstance(result, Rejected)
    assert (result.verdict.code, result.verdict.http_status) == ("invalid_session_id", 400)


def test_a_time_in_the_future_is_refused() -> None:
    assert isinstance(decode(record(time=NOW + timedelta(minutes=5)), 1000), Decoded)
    result = decode(record(time=NOW + timedelta(minutes=5, milliseconds=1)), 1000)
    assert isinstance(result, Rejected)
    assert result.verdict.code == "time_in_future"


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        (record(b"{", ce=headers(id="c1", type="x", time=NOW, subject="s")), True),
        (record([1]), True),
        (record({"evaluation_id": EVALUATION}), True),
        (record(DATA | {"actor": ACTOR | {"subject": ""}}), True),
        (record(ce=()), False),
        (record(ce=headers(id="\u0000", type="evaluation.cancel", time=NOW, subject="s")), False),
        (record(b"x" * 1001), True),
        (record(b"[" * 900), True),
        (record(b'{"a": NaN}'), True),
    ],
)
def test_what_is_unreadable_is_a_dead_letter_with_a_verdict_where_an_id_is(given: Record, answered: bool) -> None:
    result = decode(given, 1000)
    assert isinstance(result, Poison)
    assert (result.verdict is not None) == answered
    assert ":" in result.reason


def test_an_unknown_major_of_the_schema_is_a_dead_letter() -> None:
    ce = headers(id="c1", type="evaluation.cancel", time=NOW, subject="s")
    assert isinstance(decode(record(ce=(*ce, ("ce_dataschema", b"x/v1"))), 1000), Decoded)
    assert isinstance(decode(record(ce=(*ce, ("ce_dataschema", b"x/v2"))), 1000), Poison)


def test_an_error_never_repeats_the_value_that_was_given() -> None:
    result = decode(record(DATA | {"mode": "s3cret"}), 1000)
    assert isinstance(result, Rejected)
    assert "s3cret" not in result.verdict.model_dump_json()


@given(st.binary(max_size=200), st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=30)), max_size=6))
def test_any_bytes_are_decided(value: bytes, raw: list[tuple[str, bytes]]) -> None:
    decode(record(value, ce=tuple(raw)), 1000)
