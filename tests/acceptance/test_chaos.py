"""The crash test, small; and the checker itself: each kind of damage, planted into what a good run left, is found."""

import ast
import asyncio
import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import chaos
from tests.acceptance.checker import RULES, check
from tests.acceptance.evidence import Evidence, Record, processes, read

SEED = 3
HERE = Path(__file__).parent
CHECKER = ("checker", "documents", "evidence", "histories")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chaos.Run]:
    """A run that went well; what is to be left alone still runs."""
    run = chaos.Run(chaos.SMALL, SEED, tmp_path_factory.mktemp("chaos"))
    try:
        assert asyncio.run(run.go()) is None
        yield run
    finally:
        run.load.end()


@pytest.fixture(scope="module")
def good(run: chaos.Run) -> Evidence:
    return read(run.path)


def test_killed_in_every_window_the_worker_keeps_every_promise(run: chaos.Run) -> None:
    assert run.counted >= chaos.SMALL.kills, run.kills
    assert all(run.kills[window] >= quota for window, quota in chaos.SMALL.quotas.items()), run.kills
    assert sum(run.published.values()) == chaos.SMALL.commands
    assert chaos.checked(run.path) == 0


def test_the_checker_says_no_with_its_exit_code(run: chaos.Run, tmp_path: Path) -> None:
    path = Path(shutil.copy(run.path, tmp_path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM records WHERE topic = 'results' AND partition = 0 AND \"offset\" = 0")
        connection.commit()
    assert chaos.checked(path) == 1


def test_the_checker_knows_nothing_of_the_product() -> None:
    allowed = {*sys.stdlib_module_names, "tests.acceptance", *(f"tests.acceptance.{name}" for name in CHECKER)}
    for name in CHECKER:
        for node in ast.walk(ast.parse((HERE / f"{name}.py").read_text())):
            imported = [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in imported:
                assert module in allowed or module.partition(".")[0] in sys.stdlib_module_names, f"{name}: {module}"


# ------------------------------------------------------------------------------------------------ damage

Damage = Callable[[Evidence], object]


def first(evidence: Evidence, topic: str, **wanted: Any) -> Record:
    """The first record of a topic whose JSON has these fields."""
    return next(record for record in evidence.topic(topic) if wanted.items() <= record.json().items())


def lose(topic: str, **wanted: Any) -> Damage:
    """A record is missing, with all its repetitions."""

    def plant(evidence: Evidence) -> None:
        value = first(evidence, topic, **wanted).value
        evidence.topics[topic] = [record for record in evidence.topic(topic) if record.value != value]

    return plant


def again(topic: str, changes: dict[str, Any] | None = None, **wanted: Any) -> Damage:
    """A record stands there a second time, perhaps with other fields."""

    def plant(evidence: Evidence) -> None:
        record = first(evidence, topic, **wanted)
        value = json.dumps(record.json() | changes).encode() if changes else record.value
        evidence.topic(topic).append(replace(record, offset=10**6, value=value))

    return plant


def alter(topic: str, change: Callable[[Any], object], **wanted: Any) -> Damage:
    """A record has other fields."""

    def plant(evidence: Evidence) -> None:
        record = first(evidence, topic, **wanted)
        whole = record.json()
        change(whole)
        records = evidence.topic(topic)
        records[records.index(record)] = replace(record, value=json.dumps(whole).encode())

    return plant


def rewrite(change: Callable[[Any], object]) -> Damage:
    """The document of a cancelled evaluation says something else."""

    def plant(evidence: Evidence) -> None:
        key = cancelled(evidence)
        whole = json.loads(evidence.objects[key])
        change(whole)
        evidence.objects[key] = json.dumps(whole).encode()

    return plant


def cancelled(evidence: Evidence) -> str:
    """The key of a cancelled evaluation's document."""
    bodies = ((key, body) for key, body in evidence.objects.items() if key.startswith("workflows/"))
    return next(key for key, body in bodies if json.loads(body)["state"]["status"] == "cancelled")


def repeated_answer(evidence: Evidence) -> None:
    """The second verdict of a command that was sent twice has other bytes."""
    results, seen = evidence.topic("results"), set()
    for i, result in enumerate(results):
        if result.value in seen:
            results[i] = replace(result, value=json.dumps(result.json() | {"message": "another"}).encode())
            return
        seen.add(result.value)
    raise AssertionError("no command was sent twice")


def two_bodies(evidence: Evidence) -> None:
    """The same id was applied with another body."""
    result = first(evidence, "results", code="command_id_reused")
    at = {"partition": int(result.headers["verdict-partition"]), "offset": int(result.headers["verdict-offset"])}
    alter("results", lambda v: v.update(http_status=200), command=result.json()["command"] | {"at": at})(evidence)


def decided_twice(evidence: Evidence) -> None:
    """One more link of a chain, as good as the others, decides what had been decided."""
    key = f"evaluation/{cancelled(evidence).removeprefix('workflows/').removesuffix('.json')}"
    chain = {r.json()["audit_seq"]: r for r in evidence.topic("audit") if r.key == key and r.json()["audit_seq"]}
    last, given = (
        chain[max(chain)],
        next(r.json()["input"] for r in chain.values() if "id" in r.json().get("input", {})),
    )
    link = last.json() | {"kind": "decided", "audit_seq": max(chain) + 1, "input": given, "events": []}
    link |= {"previous_sha256": sha256(last.value), "state_before_sha256": link["state_after_sha256"]}
    body = json.dumps(link).encode()
    evidence.topic("audit").append(replace(last, offset=10**6, value=body))
    rewrite(lambda d: d["chain"].update(audit_seq=max(chain) + 1, record_sha256=sha256(body)))(evidence)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def forgotten_marker(evidence: Evidence) -> None:
    key = cancelled(evidence).removeprefix("workflows/").removesuffix(".json")
    evidence.objects[f"unsettled/evaluation/{key}/3"] = b"{}"


def lose_letter(evidence: Evidence) -> None:
    evidence.topic("dead-letters").pop()


def alter_letter(evidence: Evidence) -> None:
    letters = evidence.topic("dead-letters")
    letters[0] = replace(letters[0], value=letters[0].value + b" ")


def bury_a_good_one(evidence: Evidence) -> None:
    letter, good = evidence.topic("dead-letters")[0], first(evidence, "results", code="updated").headers
    where = {f"dead-letter-{name}": good[f"verdict-{name}"] for name in ("partition", "offset")}
    evidence.topic("dead-letters").append(replace(letter, headers=letter.headers | where))


def position(change: Callable[[int, str], tuple[int, str]]) -> Damage:
    def plant(evidence: Evidence) -> None:
        offset, metadata = evidence.positions[0]
        assert offset is not None
        evidence.positions[0] = change(offset, metadata)

    return plant


def open_command(document: Any) -> None:
    document["state"]["open"] = [{"id": "left-behind"}]


def unpublished(document: Any) -> None:
    document["outbox"] = [{"topic": "status", "id": "never-seen", "body": "{}"}]


def other_memory(document: Any) -> None:
    document["verdicts"] = dict.fromkeys(document["verdicts"], "{}")


def no_memory(document: Any) -> None:
    document["state"]["answered"] = []


ONE, SAME, AGREE = "one verdict per record", "same bytes for a remembered id", "verdicts and documents agree"
LETTERS, MEMORY, OPEN, AT_END = (
    "dead letters as intended",
    "memory holds what was published",
    "nothing is left open",
    "positions at the end",
)
TERMINAL, CHAIN, GAP, ONCE = (
    "terminal is terminal",
    "audit chains are whole",
    "versions have no gap",
    "decided once, in log order",
)
DAMAGE: dict[str, tuple[str, Damage]] = {
    "a verdict is lost": (ONE, lose("results", code="cancelled")),
    "a verdict is there twice": (ONE, again("results", code="cancelled")),
    "a refusal is there twice": (ONE, again("results", http_status=410)),
    "a verdict names another id": (ONE, alter("results", lambda v: v["command"].update(id="x"), code="cancelled")),
    "everything is lost": (ONE, lambda evidence: evidence.topics.clear()),
    "a repeated verdict differs": (SAME, repeated_answer),
    "an id is applied with two bodies": (SAME, two_bodies),
    "a refusal has another's place": (
        SAME,
        alter("results", lambda v: v["command"]["at"].update(offset=999), http_status=410),
    ),
    "a command failed": ("no failure", alter("results", lambda v: v.update(http_status=504), code="cancelled")),
    "an expired cancel was applied": (
        "refusals are refused",
        alter("results", lambda v: v.update(http_status=200), http_status=410),
    ),
    "a dead letter is lost": (LETTERS, lose_letter),
    "a dead letter is altered": (LETTERS, alter_letter),
    "a good command is a dead letter": (LETTERS, bury_a_good_one),
    "a document has another status": (AGREE, rewrite(lambda d: d["state"].update(status="running"))),
    "a document lost its last versions": (AGREE, rewrite(lambda d: d["state"].update(version=0))),
    "a verdict speaks of another status": (
        AGREE,
        alter("results", lambda v: v["aggregate"].update(status_after="failed"), code="cancelled", dry_run=False),
    ),
    "a document remembers another verdict": (MEMORY, rewrite(other_memory)),
    "a document forgot": (MEMORY, rewrite(no_memory)),
    "a command is left open": (OPEN, rewrite(open_command)),
    "an outbox was not published": (OPEN, rewrite(unpublished)),
    "a marker is left": (OPEN, forgotten_marker),
    "a position is behind": (AT_END, position(lambda offset, metadata: (offset - 1, metadata))),
    "a position's metadata is garbage": (AT_END, position(lambda offset, metadata: (offset, "2:AA"))),
    "a position has an unfinished one": (AT_END, position(lambda offset, metadata: (offset, "1:AAEA"))),
    "a cancelled evaluation runs again": (
        TERMINAL,
        again("status", {"before": "cancelled", "after": "running", "version": 99}, after="cancelled"),
    ),
    "a status event skips one": (
        TERMINAL,
        alter("status", lambda v: v.update(before="starting"), before="cancelling"),
    ),
    "a status event is out of order": (TERMINAL, again("status", {"version": 0}, after="cancelled")),
    "a status event is repeated otherwise": (TERMINAL, again("status", {"cause": "another"}, after="cancelled")),
    "an audit record is lost": (CHAIN, lose("audit", kind="decided")),
    "an audit record is altered": (CHAIN, alter("audit", lambda v: v.update(context={}), kind="decided")),
    "an audit record is repeated otherwise": (CHAIN, again("audit", {"context": {}}, kind="decided")),
    "a chain's head is another": (CHAIN, rewrite(lambda d: d["chain"].update(audit_seq=77))),
    "a version is skipped": (GAP, rewrite(lambda d: d["state"].update(version=d["state"]["version"] + 1))),
    "a status event is missing": (GAP, lose("status", after="cancelled")),
    "a command is decided twice": (ONCE, decided_twice),
    "a refusal is decided twice": (ONCE, again("audit", kind="refused")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(good: Evidence, name: str) -> None:
    rule, plant = DAMAGE[name]
    topics = {topic: list(records) for topic, records in good.topics.items()}
    evidence = replace(good, topics=topics, objects=dict(good.objects), positions=dict(good.positions))
    plant(evidence)
    assert list(RULES[rule](evidence))


def test_every_rule_has_its_damage() -> None:
    of_processes = {"nothing cancelled is alive", "nothing else was touched"}
    assert {rule for rule, _ in DAMAGE.values()} | of_processes == set(RULES)


def test_a_cancelled_process_that_lives_is_found(good: Evidence) -> None:
    name = cancelled(good).removeprefix("workflows/").removesuffix(".json")
    marker = {"VERDICT_WORKER_EVALUATION_ID": name}
    with subprocess.Popen(["/bin/sleep", "60"], env=marker) as survivor:
        try:
            found = check(replace(good, processes=list(processes())))
        finally:
            survivor.kill()
    assert [(finding.rule, str(survivor.pid) in finding.what) for finding in found] == [
        ("nothing cancelled is alive", True)
    ]


def test_a_process_of_others_that_is_gone_is_found(good: Evidence) -> None:
    [(pid, started), *_] = json.loads(good.objects["chaos/controls"])
    left = [process for process in good.processes if (process.pid, process.started) != (pid, started)]
    found = check(replace(good, processes=left))
    assert [(finding.rule, str(pid) in finding.what) for finding in found] == [("nothing else was touched", True)]
