"""The checker: whether what a run left behind keeps every promise.  `python -m tests.chaos.checker FOLDER`

Judges what `gather` copied, by the contract alone: standard library only, nothing of the product, no test code that
knows it.  What both stacks promise is judged by the rules of the crash test (tests/acceptance/checker); here is what
only real servers show: records of one id in two partitions, Jobs, pods, and those who stood by.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.acceptance import checker as base
from tests.acceptance import documents, histories
from tests.acceptance.checker import Finding, envelope, sameness
from tests.acceptance.evidence import answered_at
from tests.chaos.evidence import Evidence, Record, read

LABEL = "verdict-worker/evaluation-id"
NAMESPACE = "chaos"
BYSTANDERS = "chaos/bystanders"
TERMINAL = ("cancelled", "succeeded", "failed", "closed", "expired", "deleted")
FINDINGS_SHOWN = 60


def check(evidence: Evidence) -> list[Finding]:
    """All findings, rule by rule."""
    return [Finding(name, what) for name, rule in RULES.items() for what in rule(evidence)]


# ------------------------------------------------------------------------------------------------ commands and verdicts


def same_bytes_for_a_remembered_id(evidence: Evidence) -> Iterator[str]:
    """Of one id and body: all 2xx verdicts are one verdict, and once it is given in a partition it is given there.

    Between partitions there is no order, so a refusal in one says nothing of the other.  A record that came while an
    earlier one was in flight has that one's verdict, even if that is none to be remembered.
    """
    results = {answered_at(result): result for result in evidence.topic("results")}
    applied: dict[tuple[str, str], set[str]] = defaultdict(set)
    groups: dict[tuple[str, str, str], list[tuple[Record, Record]]] = defaultdict(list)
    for command in evidence.topic("commands"):
        command_id, _, data = envelope(command)
        if command_id and isinstance(data, dict) and command.at in results and not data.get("dry_run"):
            groups[command.key, command_id, sameness(command)].append((command, results[command.at]))
    for (key, command_id, body), pairs in groups.items():
        where = f"{key}: command {command_id}"
        values = {command.at: result.value for command, result in pairs}
        for command, result in pairs:
            if values.get(_first_at(result)) != result.value:
                yield f"{where}: record {command.at} has another verdict than {_first_at(result)}, which it repeats"
        given = [(command, result) for command, result in pairs if _is_applied(result)]
        if not given:
            continue
        applied[key, command_id].add(body)
        if len({result.value for _, result in given}) > 1:
            yield f"{where} has several verdicts, at {[command.at for command, _ in given]}"
        since = {command.partition: command.offset for command, _ in reversed(given)}
        for command, result in pairs:
            if not _is_applied(result) and command.offset > since.get(command.partition, command.offset):
                yield f"{where} was applied, and its record {command.at} refused"
    for (key, command_id), bodies in applied.items():
        if len(bodies) > 1:
            yield f"{key}: command id {command_id} was applied with {len(bodies)} bodies"


def _is_applied(result: Record) -> bool:
    return bool(result.json()["http_status"] < 300)


def _first_at(result: Record) -> tuple[int, int]:
    at = result.json()["command"]["at"]
    return at["partition"], at["offset"]


def no_dead_letters(evidence: Evidence) -> Iterator[str]:
    """Nothing in this load is malformed."""
    for letter in evidence.topic("dead-letters"):
        yield f"dead letter {letter.at}: {letter.headers}"


def decided_once_in_log_order(evidence: Evidence) -> Iterator[str]:
    """Per partition; and no record twice."""
    decided: dict[tuple[str, int], dict[int, list[int]]] = defaultdict(dict)
    refused: Counter[tuple[str, str]] = Counter()
    for record in evidence.topic("audit"):
        audit = record.json()
        given = audit.get("input") or {}
        if not audit["audit_seq"]:
            refused[record.key, record.headers["ce_id"]] += 1
        elif given.get("kind") == "command":
            at = given["at"]
            decided[record.key, at["partition"]].setdefault(audit["audit_seq"], []).append(at["offset"])
    for (key, partition), by_sequence in decided.items():
        offsets = [by_sequence[sequence][0] for sequence in sorted(by_sequence)]
        for a, b in pairwise(offsets):
            if b <= a:
                yield f"{key}: record {partition}:{b} was decided after {partition}:{a}"
    yield from (f"{key}: {name} was refused {count} times" for (key, name), count in refused.items() if count > 1)


def no_terminal_status_is_left_by_the_audit(evidence: Evidence) -> Iterator[str]:
    """What was decided says the same as what was told: of workflows and sessions, and of each turn."""
    seen: set[tuple[str, int]] = set()
    turns: dict[tuple[str, str], str] = {}
    for record in evidence.topic("audit"):
        audit = record.json()
        if not audit["audit_seq"] or (record.key, audit["audit_seq"]) in seen:
            continue
        seen.add((record.key, audit["audit_seq"]))
        for event in audit["events"]:
            before, after = event.get("before"), event.get("after")
            if event["kind"] == "turn_replaced":
                turn, after = (record.key, event["turn"]["turn_id"]), event["turn"]["status"]
                before, turns[turn] = turns.get(turn), after
            if before in TERMINAL and before != after:
                yield f"{record.key}: {before} became {after} by audit record {audit['audit_seq']}"


# ------------------------------------------------------------------------------------------------ what really ran


def nothing_cancelled_is_alive(evidence: Evidence) -> Iterator[str]:
    """No Job of a cancelled evaluation, and no pod of such a Job, by uid and by label."""
    cancelled = {
        key.removeprefix("evaluation/"): document["state"]
        for key, document in evidence.documents().items()
        if key.startswith("evaluation/") and document["state"]["status"] == "cancelled"
    }
    recorded = {job["uid"]: name for name, state in cancelled.items() for job in state["jobs"]}
    for job in evidence.jobs:
        about = job["metadata"]
        labelled = about.get("labels", {}).get(LABEL)
        whose = recorded.get(about["uid"]) or (labelled if about["namespace"] == NAMESPACE else None)
        if whose in cancelled:
            yield f"Job {about['name']} ({about['uid']}) of the cancelled evaluation {whose} is there"
    jobs = {job["metadata"]["uid"] for job in evidence.jobs}
    for pod in evidence.pods:
        for owner in pod["metadata"].get("ownerReferences", ()):
            if owner["uid"] in recorded or (owner["kind"] == "Job" and owner["uid"] not in jobs):
                yield f"pod {pod['metadata']['name']} is there, of a Job that is gone ({owner['uid']})"


def nothing_else_was_touched(evidence: Evidence) -> Iterator[str]:
    """Whoever stood by is there: same uids, not being deleted, running."""
    bystanders = json.loads(evidence.objects.get(BYSTANDERS, b"[]"))
    if not bystanders:
        yield "there is no bystander to look at"
    jobs = {job["metadata"]["uid"]: job for job in evidence.jobs}
    pods = {pod["metadata"]["uid"]: pod for pod in evidence.pods}
    for bystander in bystanders:
        name, job = f"{bystander['namespace']}/{bystander['name']}", jobs.get(bystander["uid"])
        if job is None or "deletionTimestamp" in job["metadata"]:
            yield f"Job {name} was to be left alone and is gone"
        if not bystander["pods"]:
            yield f"Job {name} had no pod to look at"
        for uid in bystander["pods"]:
            pod = pods.get(uid)
            if pod is None or "deletionTimestamp" in pod["metadata"] or pod["status"]["phase"] != "Running":
                yield f"pod {uid} of {name} was to be left alone and is gone"


def partial_data_is_gone_and_requests_are_kept(evidence: Evidence) -> Iterator[str]:
    for key, document in evidence.documents().items():
        state = document["state"]
        if not key.startswith("evaluation/"):
            continue
        folder = f"teams/{state['team_id']}/evaluations/{state['workflow_id']}"
        if f"{folder}/request.json" not in evidence.objects:
            yield f"{key}: its request is gone"
        if state["cleaned"] and not state["warnings"]:
            left = [name for name in evidence.objects if name.startswith(f"{folder}/partial/")]
            yield from (f"{key}: {name} was to be removed" for name in left)


Rule = Callable[[Any], Iterator[str]]
RULES: dict[str, Rule] = {
    **{name: rule for name, rule in base.RULES.items() if name != "dead letters as intended"},
    "same bytes for a remembered id": same_bytes_for_a_remembered_id,
    "no dead letters": no_dead_letters,
    "verdicts and documents agree": documents.verdicts_and_documents_agree,
    "terminal is terminal": histories.no_status_leaves_a_terminal_one,
    "terminal is terminal, by the audit": no_terminal_status_is_left_by_the_audit,
    "decided once, in log order": decided_once_in_log_order,
    "nothing cancelled is alive": nothing_cancelled_is_alive,
    "nothing else was touched": nothing_else_was_touched,
    "partial data gone, requests kept": partial_data_is_gone_and_requests_are_kept,
}


def table(evidence: Evidence, findings: list[Finding]) -> str:
    """What was looked at, each rule with its count, and the first findings."""
    counts = Counter(finding.rule for finding in findings)
    topics = ", ".join(f"{len(records)} {name}" for name, records in sorted(evidence.topics.items()))
    bystanders = len(json.loads(evidence.objects.get(BYSTANDERS, b"[]")))
    lines = [f"checked: {topics}"]
    lines += [f"  {len(evidence.documents())} documents, {len(evidence.jobs)} Jobs left, {bystanders} bystanders"]
    lines += [f"  {rule:34} {f'{counts[rule]} findings' if counts[rule] else 'ok'}" for rule in RULES]
    lines += [f"  ! {finding.rule}: {finding.what}" for finding in findings[:FINDINGS_SHOWN]]
    return "\n".join(lines) + "\n"


def main(folder: Path) -> int:
    """Print the table; -> 1 if anything was found."""
    evidence = read(folder)
    findings = check(evidence)
    sys.stdout.write(table(evidence, findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
