"""What a Job and its pods say, as the worker sees it: which pods run, what holds a Job, and what it was owned by."""

from typing import Any

import pytest

from worker.adapters.kubernetes.objects import identity, pods_of, view
from worker.ports import JobIdentity, JobView, Pod

DELETED = {"deletionTimestamp": "2026-01-31T12:00:00Z"}


def job(*conditions: tuple[str, str], **metadata: Any) -> dict[str, Any]:
    found = [{"type": kind, "status": status} for kind, status in conditions]
    return {
        "metadata": {"namespace": "runs", "name": "job-1", "uid": "job-uid"} | metadata,
        "status": {"conditions": found},
    }


def pod(name: str, phase: str = "Running", *states: str, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"{name}-uid"} | metadata,
        "status": {"phase": phase, "containerStatuses": [{"state": {state: {}}} for state in states]},
    }


def test_nothing_is_gone() -> None:
    assert view(None, []) == JobView(exists=False)
    assert view(None, []).gone


def test_pods_of_a_job_that_is_gone_are_still_there() -> None:
    seen = view(None, [pod("b", **DELETED), pod("a", "Pending")])
    assert seen == JobView(exists=False, pods=(Pod("a", "a-uid"), Pod("b", "b-uid", terminating=True)))
    assert not seen.gone


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_whose_end_the_node_observed_runs_no_more_though_its_object_lingers(phase: str) -> None:
    assert view(None, [pod("a", phase, "terminated", finalizers=["acme.test/keep"])]).gone
    assert view(None, [pod("a", phase, "waiting", "terminated")]).gone


@pytest.mark.parametrize("kind", ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"])
def test_a_pod_that_the_control_plane_gave_up_is_not_proved_to_have_ended(kind: str) -> None:
    lost: dict[str, Any] = {
        "metadata": {"name": "a", "uid": "a-uid"},
        "status": {"phase": "Failed", kind: [{"state": {"running": {}}}]},
    }
    assert view(None, [lost]).pods == (Pod("a", "a-uid"),)


@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown"])
def test_a_pod_in_any_other_phase_counts(phase: str) -> None:
    assert len(view(None, [pod("a", phase, "terminated")]).pods) == 1


@pytest.mark.parametrize(
    ("conditions", "outcome"),
    [
        ([], None),
        ([("Complete", "True")], "completed"),
        ([("SuccessCriteriaMet", "True"), ("Complete", "True")], "completed"),
        ([("FailureTarget", "True")], None),
        ([("FailureTarget", "True"), ("Failed", "True")], "failed"),
        ([("Complete", "False")], None),
        ([("Suspended", "True")], None),
    ],
)
def test_the_outcome_is_what_the_job_reports_as_its_end(conditions: list[tuple[str, str]], outcome: str | None) -> None:
    assert view(job(*conditions), []) == JobView(exists=True, outcome=outcome)  # type: ignore[arg-type]


def test_a_job_without_a_status_runs() -> None:
    assert view({"metadata": {"name": "job-1", "uid": "job-uid"}}, []) == JobView(exists=True)


def test_finalizers_of_others_hold_a_job_once_it_is_deleted_and_no_pod_runs() -> None:
    held = job(finalizers=["foregroundDeletion", "acme.test/archive"], **DELETED)
    assert view(held, []).held_by == ("acme.test/archive",)
    assert view(held, [pod("a")]).held_by == ()
    assert view(job(finalizers=["acme.test/archive"]), []).held_by == ()


def test_finalizers_of_a_dead_pod_hold_its_job() -> None:
    ended = pod("a", "Failed", finalizers=["batch.kubernetes.io/job-tracking", "acme.test/logs"], **DELETED)
    assert view(job(finalizers=["foregroundDeletion"], **DELETED), [ended]).held_by == ("acme.test/logs",)


def test_a_job_is_identified_with_the_controller_above_it() -> None:
    bare = JobIdentity("runs", "job-1", "job-uid")
    above = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "cron-uid"}
    assert identity(job()) == bare
    assert identity(job(ownerReferences=[above])) == bare
    assert identity(job(ownerReferences=[{**above, "uid": "other"}, {**above, "controller": True}])) == JobIdentity(
        "runs", "job-1", "job-uid", "batch/v1/CronJob/nightly/cron-uid"
    )


def test_only_a_uid_that_may_be_a_label_has_pods() -> None:
    of = JobIdentity("runs", "job-1", "0b5e8a9c-1111-4111-8111-111111111111")
    assert pods_of(of) == f"batch.kubernetes.io/controller-uid={of.uid}"
    for uid in ("a,b", "a=b", "a/b", "", "-a", "a" * 64):
        assert pods_of(JobIdentity("runs", "job-1", uid)) is None
