"""The checker: whether what a run left behind keeps every promise.  `python -m tests.acceptance.checker FILE`

Judges the SQLite file and /proc by the contract alone: standard library only, nothing of the product, no test code that
knows it.  Each rule yields what it found; a table is printed, and the exit code is 1 if there is anything.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.acceptance import documents, histories
from tests.acceptance.evidence import Evidence, Record, answered_at, read


class Finding(NamedTuple):
    """A broken promise: which, and what shows it."""

    rule: str
    what: str


def check(evidence: Evidence) -> list[Finding]:
    """All findings, rule by rule."""
    return [Finding(name, what) for name, rule in RULES.items() for what in rule(evidence)]


# ------------------------------------------------------------------------------------------------ commands and verdicts


def envelope(command: Record) -> tuple[str | None, str, Any]:
    """-> (id, type, data) as far as they can be read, in binary and in structured mode."""
    try:
        value = json.loads(command.value)
    except ValueError:
        value = None
    if command.headers.get("content-type", "").startswith("application/cloudevents+json"):
        return value["id"], value["type"], value["data"]
    return command.headers.get("ce_id"), command.headers.get("ce_type", ""), value


def sameness(command: Record) -> str:
    """What makes two records of one id the same command: type, aggregate, subject, data without token details."""
    _, kind, data = envelope(command)
    if not isinstance(data, dict) or not isinstance(data.get("actor"), dict):
        return command.value.hex()
    rest = {name: value for name, value in data.items() if name not in ("actor", "correlation_id", "expires_at")}
    return json.dumps([kind, command.key, data["actor"].get("subject"), rest], sort_keys=True)


def one_verdict_per_record(evidence: Evidence) -> Iterator[str]:
    commands = {command.at: command for command in evidence.topic("commands")}
    counts = Counter(answered_at(result) for result in evidence.topic("results"))
    if not commands:
        yield "there is no command record at all"
    for at, command in commands.items():
        wanted = 1 if envelope(command)[0] else 0
        if counts[at] != wanted:
            yield f"command {at} has {counts[at]} verdict records, not {wanted}"
    for result in evidence.topic("results"):
        about = commands.get(answered_at(result))
        if about is None:
            yield f"result {result.at} answers {answered_at(result)}, which is no command record"
        elif result.key != about.key or result.json()["command"]["id"] != envelope(about)[0]:
            yield f"result {result.at} answers {about.at} with another key or command id"


def same_bytes_for_a_remembered_id(evidence: Evidence) -> Iterator[str]:
    results = {answered_at(result): result for result in evidence.topic("results")}
    ids: dict[tuple[str, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for command in evidence.topic("commands"):
        command_id, _, data = envelope(command)
        if command_id and isinstance(data, dict) and command.at in results and not data.get("dry_run"):
            ids[command.key, command_id][sameness(command)].append(command)
    for (key, command_id), bodies in ids.items():
        applied = 0
        for commands in bodies.values():
            verdicts = [(command.at, results[command.at]) for command in commands]
            first = next((i for i, (_, result) in enumerate(verdicts) if result.json()["http_status"] < 300), None)
            if first is None:
                yield from (f"{at}: a refusal with another's coordinates" for at, r in verdicts if _at(r) != at)
                continue
            applied += 1
            for at, result in verdicts[first:]:
                if result.value != verdicts[first][1].value:
                    yield f"{key}: command {command_id} was applied, and its record {at} has other bytes"
            if _at(verdicts[first][1]) not in [command.at for command in commands]:
                yield f"{key}: command {command_id} is answered with another command's coordinates"
        if applied > 1:
            yield f"{key}: command id {command_id} was applied with {applied} bodies"


def _at(result: Record) -> tuple[int, int]:
    at = result.json()["command"]["at"]
    return at["partition"], at["offset"]


def no_failures(evidence: Evidence) -> Iterator[str]:
    """Nothing in this load justifies a 5xx."""
    for result in evidence.topic("results"):
        verdict = result.json()
        if verdict["http_status"] >= 500:
            yield f"command {answered_at(result)} ended in {verdict['code']}: {verdict['message']}"


def refusals_are_refused(evidence: Evidence) -> Iterator[str]:
    """What the command record alone condemns (another team's evaluation is told by its document)."""
    results, found = {answered_at(result): result for result in evidence.topic("results")}, evidence.documents()
    for command in evidence.topic("commands"):
        command_id, kind, data = envelope(command)
        if not command_id or kind != "evaluation.cancel" or "chaos-malformed" in command.headers:
            continue
        verdict, actor = results[command.at].json() if command.at in results else {}, data["actor"]
        wanted = {
            403: "agent:write" not in actor["permissions"],
            404: found[command.key]["state"]["team_id"] not in actor["team_ids"],
            410: data.get("expires_at", "9") < command.headers["ce_time"],
            409: data.get("expected_version", 0) > found[command.key]["state"]["version"],
            422: not isinstance(data.get("grace_period_seconds", 0), int),
        }
        due = next((status for status, condemned in wanted.items() if condemned), None)
        if due and verdict.get("http_status") != due:
            yield f"{command.key}: command {command.at} must be refused with {due}: {verdict.get('code')}"
        if data.get("dry_run") and verdict.get("dry_run") is not True:
            yield f"{command.key}: command {command.at} is a dry run, its verdict is not"


def dead_letters_as_intended(evidence: Evidence) -> Iterator[str]:
    meant = {command.at: command for command in evidence.topic("commands") if "chaos-malformed" in command.headers}
    counts = Counter(answered_at(letter, "dead-letter") for letter in evidence.topic("dead-letters"))
    yield from (f"command {at} is a dead letter and was well formed" for at in counts if at not in meant)
    yield from (f"command {at} has {counts[at]} dead letters, not 1" for at in meant if counts[at] != 1)
    for letter in evidence.topic("dead-letters"):
        command = meant.get(answered_at(letter, "dead-letter"))
        if command and (command.value != letter.value or not _original(command).items() <= letter.headers.items()):
            yield f"dead letter {letter.at} has other bytes or headers than command {command.at}"


def _original(command: Record) -> dict[str, str]:
    return {f"original-{name}": text for name, text in command.headers.items()}


# ------------------------------------------------------------------------------------------------ processes


def nothing_cancelled_is_alive(evidence: Evidence) -> Iterator[str]:
    found = evidence.documents()
    for process in evidence.processes:
        document = found.get(f"evaluation/{process.evaluation}")
        if document and document["state"]["status"] == "cancelled":
            yield f"pid {process.pid} of the cancelled evaluation {process.evaluation} is alive"


def nothing_else_was_touched(evidence: Evidence) -> Iterator[str]:
    alive = {(process.pid, process.started) for process in evidence.processes}
    controls = json.loads(evidence.objects.get("chaos/controls", b"[]"))
    if not controls:
        yield "there is no control process to look at"
    yield from (f"pid {pid} was to be left alone and is gone" for pid, at in controls if (pid, at) not in alive)


RULES: dict[str, Callable[[Evidence], Iterator[str]]] = {
    "one verdict per record": one_verdict_per_record,
    "same bytes for a remembered id": same_bytes_for_a_remembered_id,
    "no failure": no_failures,
    "refusals are refused": refusals_are_refused,
    "dead letters as intended": dead_letters_as_intended,
    "verdicts and documents agree": documents.verdicts_and_documents_agree,
    "memory holds what was published": documents.memory_holds_what_was_published,
    "nothing is left open": documents.nothing_is_left_open,
    "positions at the end": documents.positions_at_the_end,
    "terminal is terminal": histories.no_status_leaves_a_terminal_one,
    "audit chains are whole": histories.audit_chains_are_whole,
    "versions have no gap": histories.versions_have_no_gap,
    "decided once, in log order": histories.decided_once_in_log_order,
    "nothing cancelled is alive": nothing_cancelled_is_alive,
    "nothing else was touched": nothing_else_was_touched,
}


def table(evidence: Evidence, findings: list[Finding]) -> str:
    """What was looked at, each rule with its count, and the first findings."""
    counts = Counter(finding.rule for finding in findings)
    topics = ", ".join(f"{len(records)} {name}" for name, records in sorted(evidence.topics.items()))
    lines = [f"checked: {topics}; {len(evidence.documents())} documents, {len(evidence.processes)} processes"]
    lines += [f"  {rule:34} {f'{counts[rule]} findings' if counts[rule] else 'ok'}" for rule in RULES]
    lines += [f"  ! {finding.rule}: {finding.what}" for finding in findings[:100]]
    return "\n".join(lines) + "\n"


def main(path: Path) -> int:
    """Print the table; -> 1 if anything was found."""
    evidence = read(path)
    findings = check(evidence)
    sys.stdout.write(table(evidence, findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
