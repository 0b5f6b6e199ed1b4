"""The real `worker` as a black box where none runs: help, what is refused and how, what is made and published."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from schemas import examples
from tests.acceptance.beside import CANCEL, SECONDS, ULID, WORKER, Beside, event, one_line, org, record, rows
from tests.acceptance.forked import Done
from worker.cli.commands import FORMS
from worker.client import KINDS

README = Path(__file__).parents[2] / ".ci" / "readme.py"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_help_is_light_and_fits_eighty_columns() -> None:
    heavy = ("aiohttp", "aiokafka", "aioboto3", "kubernetes_asyncio", "cryptography", "sqlite3", "pydantic", "asyncio")
    program = f"""
import sys
from worker.cli import main
sys.argv = ["worker", "--help"]
try:
    main()
finally:
    sys.stderr.write(repr([name for name in {heavy!r} if name in sys.modules]))
"""
    command, environment = [sys.executable, "-c", program], os.environ | {"COLUMNS": "80"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "[]")
    assert "..." not in done.stdout.partition("Commands:")[2]
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Exit codes: 0 done, 1 the answer is no" in done.stdout
    commands = re.findall(r"^  ([a-z-]+)  ", done.stdout.partition("Commands:")[2], re.MULTILINE)
    single = "run demo create send results status show check reconcile simulate diagram"
    assert commands == [*single.split(), "audit", "dead-letters", "harness", "topics"]


def test_help_of_send_says_what_a_file_may_hold(alone: Beside) -> None:
    done = alone("send", "--help")
    assert f"{FORMS}." in " ".join(done.stdout.split())


def test_diagrams_are_mermaid(alone: Beside) -> None:
    text, one, unknown = alone.each(("diagram",), ("diagram", "turn", "--json"), ("diagram", "harnes"))
    assert text.stdout.count("stateDiagram-v2\n") == 4
    arrows = "    running --> cancelling: cancel, reported cancelled\n    cancelling --> cancelled: seen stopped\n"
    assert arrows in text.stdout
    assert text.stdout.count(" --> cancelled: reported cancelled, nothing to stop, cancel without a task\n") == 3
    [turn] = rows(one)
    assert "    running --> cancelled: reported cancelled\n" in turn["turn"]
    assert "    running --> cancelling: cancel\n" in turn["turn"]
    one_line(unknown, 2, "harnes: no such lifecycle")


def test_blocks_of_the_readme_are_generated_and_checked(tmp_path: Path) -> None:
    names = ("workflow lifecycle", "settings", "exit codes", "codes")
    copy = tmp_path / "README.md"
    blocks = "".join(f"## {name}\n<!-- generated: {name} -->\nold\n<!-- /generated -->\n" for name in names)
    copy.write_text(f"# Title\n{blocks}The end.\n")

    def readme(*arguments: str | Path) -> Done:
        command = [sys.executable, README, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    one_line(readme("--check", copy), 1, f"README.md: out of date: {', '.join(names)}")
    assert readme(copy).returncode == 0
    made = copy.read_text()
    assert made.startswith("# Title\n## workflow lifecycle\n<!-- generated: workflow lifecycle -->\n```mermaid\n")
    assert made.endswith("<!-- /generated -->\nThe end.\n")
    for part in ("| `WORKER_DATA_DIR` | `.worker` |", "| 3 | no verdict in time", "| `too_late` | 400 | rejected |"):
        assert part in made
    assert readme("--check", copy).returncode == 0
    copy.write_text(made.replace("| `.worker` |", "| `elsewhere` |"))
    one_line(readme("--check", copy), 1, "README.md: out of date: settings;")
    copy.write_text("<!-- generated: weather -->\n<!-- /generated -->\n")
    one_line(readme(copy), 1, "README.md: no block is called 'weather'")


BAD_CALLS = {
    "unknown type": (("send", "evaluation.stop", UNKNOWN), "evaluation.stop: no such command type; there are"),
    "no id": (("send", "evaluation.cancel"), "evaluation.cancel: the ID is missing"),
    "malformed id": (("send", "evaluation.cancel", "x"), "evaluation_id: must be a UUID\n"),
    "malformed session id": (("send", "session.cancel", "x"), "session_id: must be {26 characters}.{zone}\n"),
    "no team": (("send", "custom-harness.cancel", UNKNOWN), "team_id: is missing (--team-id)\n"),
    "no org": (("send", "harness.update", f"harness_{0:032x}"), "org_id: is missing (--org)\n"),
    "no marker": (("send", "session.resume", f"{ULID}.eu-1"), "marker: is missing (--set marker=...)\n"),
    "bad command id": (("send", "evaluation.cancel", UNKNOWN, "--id", "a b"), "id: must be 1 to 200 letters"),
    "mistyped field": (
        ("send", "evaluation.cancel", UNKNOWN, "--set", "grace_period_second:=3"),
        "grace_period_second: no such field; there is grace_period_seconds\n",
    ),
    "unknown field": (("send", "evaluation.cancel", UNKNOWN, "--set", "x=y"), "x: no such field\n"),
    "another type's field": (("send", "evaluation.cancel", UNKNOWN, "--team-id", "t"), "team_id: no such field\n"),
    "mistyped change": (
        ("send", "harness.update", f"harness_{0:032x}", "--org", "acme", "--set", "descripton=x"),
        "changes.descripton: no such field; there is description\n",
    ),
    "text for a number": (
        ("send", "evaluation.cancel", UNKNOWN, "--set", "deadline_seconds=9"),
        "deadline_seconds: must be a whole number\n",
    ),
    "bad time": (("send", "evaluation.cancel", UNKNOWN, "--time", "now"), "--time: must be an RFC 3339 time"),
    "bad data": (("send", "evaluation.cancel", UNKNOWN, "--data", "{"), "--data: is not JSON: "),
    "data is no object": (("send", "evaluation.cancel", UNKNOWN, "--data", "[]"), "--data: must be a JSON object"),
    "bad set": (("send", "evaluation.cancel", UNKNOWN, "--set", "mode"), "--set mode: must be name=text or"),
    "set is no JSON": (("send", "evaluation.cancel", UNKNOWN, "--set", "a:=b"), "--set a:=b: is not JSON: "),
    "no such file": (("send", "commands.json"), "commands.json: cannot be read: No such file"),
    "file is a folder": (("send", "."), ".: cannot be read: Is a directory"),
    "flag beside a file": (("send", "commands.json", "--reason", "why"), "--reason: only with TYPE ID\n"),
    "another flag beside a file": (("send", "commands.json", "--dry-run"), "--dry-run: only with TYPE ID\n"),
    "nothing to create from": (("create", "x.json"), "x.json: cannot be read: No such file"),
    "no Job to create": (("create", "evaluation"), "--run is missing: the command that is its Job\n"),
    "a Job for a file": (("create", "x.json", "--run", "true"), "--run: only with `evaluation`\n"),
    "a team for a file": (("create", "x.json", "--team", "t"), "--team: only with `evaluation`\n"),
    "nothing to run": (("create", "evaluation", "--run", "' "), "--run: No closing quotation"),
    "malformed coordinates": (("dead-letters", "show", "7"), "7: must be partition:offset"),
    "kind to show": (("show", "harness", "x"), f"kind: must be one of {', '.join(KINDS)}"),
    "id to show": (("show", "custom_harness", "x"), "id: must be a UUID\n"),
    "org of a harness": (("harness", "get", "x", "--org", "a/b"), "org_id: must be 1 to 128 letters"),
}


def test_what_cannot_be_used_is_one_line_that_names_it(alone: Beside) -> None:
    for done, (_, said) in zip(alone.each(*(call for call, _ in BAD_CALLS.values())), BAD_CALLS.values(), strict=True):
        one_line(done, 2, said)


def test_a_program_that_is_not_there_is_named(alone: Beside) -> None:
    done = alone("create", "evaluation", "--run", "nosuchbinary --fast")
    one_line(done, 2, "nosuchbinary: cannot be started: No such file or directory\n")


def test_wrong_usage_is_not_an_answer(alone: Beside) -> None:
    for done in alone.each(("send",), ("nothing",), ("harness", "get", "x")):
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


READERS = (
    ("results",), ("status",), ("show", "evaluation", UNKNOWN), ("harness", "get", "x", "--org", "acme"),
    ("dead-letters", "list"), ("dead-letters", "show", "0:0"), ("reconcile",),
)  # fmt: skip


def test_who_only_reads_makes_no_database(alone: Beside) -> None:
    folder = alone.folder / "mistyped"
    said = f"WORKER_DATA_DIR: {folder} has no worker.db; `worker run`, `create` or `send` makes it\n"
    for reader in READERS:
        one_line(alone(*reader, WORKER_DATA_DIR=str(folder)), 2, said)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" \n", "-: no commands in it\n"),
        ("[]", "-: no commands in it\n"),
        ("7", f"-: is no command; {FORMS}\n"),
        ('{"kind": "workflow"}', f"-: is no command; {FORMS}\n"),
        ('{"a": NaN}', "-: is not JSON: NaN is no value"),
        (f"{event()}\n\n{{\n", "- line 3: is not JSON: "),
        (f"[{event()}, {event(id=None)}]", "- command 2: id: must be there"),
        (event(specversion="0.3"), "-: specversion: must be 1.0"),
        (event(data="x"), "-: data: must be a JSON object"),
        (event(type="evaluation.stop"), "-: type: 'evaluation.stop' is not a command type"),
        (event(time="yesterday"), "-: time: must be an RFC 3339 time"),
        (event(data=CANCEL.payload | {"reson": ""}), "-: reson: no such field; there is reason\n"),
        (record(headers=[]), "-: headers: must be a JSON object of texts\n"),
        (record(headers={"ce_id": 7}), "-: headers: must be a JSON object of texts\n"),
        (record(headers={"ce_specversion": "1.0"}), "-: headers.ce_id: must be there"),
        (record(key="evaluation/x"), f"-: key: must be {CANCEL.key}, as the value says\n"),
        (record(value=None), "-: value: must be a JSON object\n"),
    ],
)
def test_a_file_of_commands_says_which_one_is_wrong(alone: Beside, text: str, said: str) -> None:
    one_line(alone("send", "-", given=text), 2, said)


def test_settings_and_services_that_cannot_be_used_are_named(alone: Beside) -> None:
    (alone.folder / "file").write_text("")
    one_line(alone("results", WORKER_PARTITIONS="many"), 2, "WORKER_PARTITIONS: must be a whole number\n")
    one_line(alone("status", WORKER_DATADIR="x"), 2, "WORKER_DATADIR: no such setting; there is WORKER_DATA_DIR")
    one_line(alone("check", WORKER_AGENTS='{"a": {"url": "ftp://a.test"}}'), 2, "WORKER_AGENTS__A__URL: must be an ")
    folder = str(alone.folder / "file" / "below")
    one_line(alone("results", WORKER_DATA_DIR=folder), 2, f"WORKER_DATA_DIR: {folder}")


def test_check_shows_settings_and_finds_what_cannot_be_reached(alone: Beside) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        agents = json.dumps({"scribe": {"url": url, "credential": "open-sesame"}})
        good = alone("check", WORKER_AGENTS=agents)
        bad = alone("check", "--json", WORKER_AGENTS=agents, WORKER_ZONES='{"eu": {"url": "http://127.0.0.1:1"}}')
    assert (good.returncode, good.stderr) == (0, "")
    assert re.search(r"^  agent scribe +ok +127\.0\.0\.1:\d+ accepts connections$", good.stdout, re.MULTILINE)
    assert re.search(r"^  worker +ok +none runs on this file$", good.stdout, re.MULTILINE)
    assert "WORKER_PARTITIONS  " in good.stdout
    assert bad.returncode == 2
    assert bad.stderr == "failed: zone eu\n"
    said = json.loads(bad.stdout)
    found = [(each["name"], each["ok"]) for each in said["dependencies"]]
    ours = [(name, True) for name in ("store", "log", "worker", "jobs")]
    assert found == [*ours, ("agent scribe", True), ("zone eu", False)]
    assert said["settings"]["WORKER_DECISIONS__MEMORY_COMMANDS"] == "128"
    assert "open-sesame" not in good.stdout + bad.stdout


def test_check_says_once_why_each_dependency_fails(alone: Beside) -> None:
    alone.create("session", session_id=f"{ULID}.eu-1")
    done = alone("check", WORKER_PARTITIONS="7")
    assert (done.returncode, done.stderr) == (2, "failed: store, log\n")
    assert len(re.findall(r"^  (?:store|log) +FAILED +WORKER_PARTITIONS: ", done.stdout, re.MULTILINE)) == 2


def test_without_a_worker_there_is_no_verdict_in_time(alone: Beside) -> None:
    done = alone("send", "evaluation.cancel", str(uuid4()), "--id", "c-7", "--wait", "0.1")
    published = "The command c-7 is published, and is answered later: `worker results`"
    assert (done.returncode, done.stdout) == (3, "c-7\n")
    assert done.stderr == f"no verdict within 0.1 s; is a worker running? {published}\n"


def test_whoever_stops_waiting_for_a_verdict_knows_what_was_sent(alone: Beside) -> None:
    send = [str(WORKER), "send", "evaluation.cancel", UNKNOWN, "--wait", "60", "--json", "--id", "c-8"]
    with subprocess.Popen(send, env=alone.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sending:
        deadline = time.monotonic() + SECONDS
        while not published(alone.folder / "worker.db"):
            assert time.monotonic() < deadline, sending.communicate()
            time.sleep(0.05)
        time.sleep(0.2)  # it hears so, and waits
        sending.send_signal(signal.SIGINT)
        out, _ = sending.communicate(timeout=SECONDS)
    assert (sending.returncode, json.loads(out)["id"]) == (130, "c-8")


def published(file: Path) -> int:
    """How many commands there are."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM records WHERE topic = 'commands'").fetchone()[0])
    return 0


def test_every_example_of_a_command_can_be_sent_as_it_is_published(alone: Beside) -> None:
    names = examples.names("commands")
    files = [json.loads((examples.FOLDER / f"{name}.json").read_text()) for name in names]
    sent = rows(alone("send", "-", "--json", given="\n".join(map(json.dumps, files))))
    assert [(each["id"], each["key"]) for each in sent] == [(file["headers"]["ce_id"], file["key"]) for file in files]


def test_a_record_and_a_structured_event_are_the_same_command(alone: Beside) -> None:
    for text in (event(), record()):
        assert rows(alone("send", "-", "--json", given=text))[0]["key"] == CANCEL.key
    with sqlite3.connect(alone.folder / "worker.db") as connection:
        first, second = connection.execute("SELECT value, headers FROM records WHERE key = ?", (CANCEL.key.encode(),))
    connection.close()
    assert first == second


def test_reconcile_publishes_what_is_due(alone: Beside) -> None:
    marker = examples.load("document.unsettled")
    alone.create("session", session_id=f"{ULID}.eu-1")
    [nothing] = rows(alone("reconcile", "--json"))
    assert nothing == {"published": 0}
    alone.sql("INSERT INTO objects VALUES (?, 'v', ?)", marker.key, json.dumps(marker.payload).encode())
    done = alone("reconcile")
    assert (done.returncode, done.stdout) == (0, "1 resume commands published\n")
    assert "log     ok  4 partitions, 1 commands" in alone("check").stdout


def test_create_never_writes_over_what_exists(alone: Beside) -> None:
    evaluation = str(uuid4())
    given = {"kind": "workflow", "workflow_id": evaluation.upper(), "team_id": "demo", "request": {"model": "m"}}
    [made] = rows(alone("create", "-", "--json", given=json.dumps(given)))
    assert made == {"kind": "workflow", "id": evaluation, "key": f"workflows/{evaluation}.json"}
    [before] = rows(alone("show", "evaluation", evaluation, "--json"))
    again = alone("create", "-", given=json.dumps(given | {"status": "running", "request": {}}))
    one_line(again, 1, f"workflows/{evaluation}.json exists; nothing was changed")
    assert rows(alone("show", "evaluation", evaluation, "--json")) == [before]
    assert before["document"]["state"]["status"] == "created"
    with sqlite3.connect(alone.folder / "worker.db") as connection:
        key = f"teams/demo/evaluations/{evaluation}/request.json"
        assert connection.execute("SELECT body FROM objects WHERE key = ?", (key,)).fetchone() == (b'{"model": "m"}',)
    connection.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "harness"}, "kind: must be workflow, session, org or custom_harness"),
        ({"kind": "workflow", "workflow_id": "x", "team_id": "t"}, "workflow_id: must be a UUID\n"),
        (
            {"kind": "session", "session_id": f"{ULID}.eu-1", "tennant": "t"},
            "tennant: no such field; there is tenant\n",
        ),
        ({"kind": "session", "session_id": f"{ULID}.eu-1", "version": 3}, "version: is the worker's own"),
        (
            {"kind": "workflow", "workflow_id": str(uuid4()), "team_id": "t", "purpose": "custom_harness"},
            "harness_id: ",
        ),
        ({"kind": "org", **org(name="base")}, "harnesses.0: name_taken: "),
    ],
)
def test_create_says_what_is_wrong_with_a_document(alone: Beside, given: dict[str, Any], said: str) -> None:
    one_line(alone("create", "-", given=json.dumps(given)), 2, f"-: {said}")
    assert not any(alone.folder.iterdir())


def test_a_published_example_of_a_document_can_be_created(alone: Beside) -> None:
    example = Path(__file__).parents[2] / "schemas" / "examples" / "document.workflow.created.json"
    done = alone("create", str(example))
    assert (done.returncode, done.stdout.strip()) == (0, "3f0c9a7e-5b1d-4c86-9f27-8a4d1e6b2c35"), done.stderr


def test_no_process_is_started_for_a_cluster_that_would_not_find_it(tmp_path: Path) -> None:
    environment = os.environ | {"WORKER_STACK": "services", "WORKER_DATA_DIR": str(tmp_path)}
    command = [str(Path(sys.executable).with_name("worker")), "create", "evaluation", "--run", "sleep 60"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("--run: ")
