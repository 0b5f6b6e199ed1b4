"""The real `worker` as a black box: every command, for people and as JSON, good and bad, beside one running worker."""

import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from schemas import examples
from tests.acceptance.forked import Done, Forked
from worker.client import KINDS

WORKER = Path(sys.executable).with_name("worker")
README = Path(__file__).parents[2] / ".ci" / "readme.py"
SECONDS = 30.0
UNKNOWN = "00000000-0000-4000-8000-000000000000"
ULID = "01jd8m4k7x2v9qf3n6t0w5rbgz"


@dataclass(frozen=True)
class Beside:
    """The command line beside what is in a folder."""

    folder: Path
    forked: Forked

    def __call__(self, *arguments: str, given: str = "", **settings: str) -> Done:
        return self.forked(arguments, self.environment | settings, given)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"WORKER_DATA_DIR": str(self.folder)}

    def each(self, *calls: Sequence[str]) -> list[Done]:
        return [self(*call) for call in calls]

    def create(self, kind: str, **fields: Any) -> str:
        done = self("create", "-", given=json.dumps({"kind": kind, **fields}))
        assert done.returncode == 0, done
        return done.stdout.strip()

    def send(self, *arguments: str) -> dict[str, Any]:
        """-> the verdict, which agrees with the exit code."""
        done = self("send", *arguments, "--wait", str(SECONDS), "--json")
        verdict: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (verdict["http_status"] >= 400), done
        return verdict

    def sql(self, statement: str, *parameters: object) -> None:
        connection = sqlite3.connect(self.folder / "worker.db", isolation_level=None, timeout=SECONDS)
        connection.execute(statement, parameters)
        connection.close()


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with Forked() as made:
        yield made


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, forked: Forked) -> Iterator[Beside]:
    """Beside a running worker, which knows a zone and drains at the end by SIGTERM."""
    folder = tmp_path_factory.mktemp("running")
    settings = {"WORKER_PROBES_PORT": "0", "WORKER_ZONES": '{"eu-1": {"url": "http://127.0.0.1:9"}}'}
    environment = os.environ | {"WORKER_DATA_DIR": str(folder)} | settings
    with subprocess.Popen([WORKER, "run"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("worker.ready" in line for line in process.stdout)
        yield Beside(folder, forked)
        process.send_signal(signal.SIGTERM)
        assert "worker.stopped" in process.communicate(timeout=SECONDS)[0]
        assert process.returncode == 0


@pytest.fixture
def alone(tmp_path: Path, forked: Forked) -> Beside:
    """Beside nobody, in a folder that is empty."""
    return Beside(tmp_path, forked)


def one_line(done: Done, code: int, said: str) -> None:
    """Nothing but one line on stderr, which begins so."""
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith(said), done.stderr
    assert done.stderr.count("\n") == 1


def rows(done: Done) -> list[dict[str, Any]]:
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


# ---------------------------------------------------------------------------------- without a service


def test_help_is_light() -> None:
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
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "[]")
    assert "Exit codes: 0 done, 1 the answer is no" in done.stdout
    commands = re.findall(r"^  ([a-z-]+)  ", done.stdout.partition("Commands:")[2], re.MULTILINE)
    expected = "run demo create send results status show check reconcile diagram dead-letters harness"
    assert commands == expected.split()


def test_diagrams_are_mermaid(alone: Beside) -> None:
    text, one, unknown = alone.each(("diagram",), ("diagram", "turn", "--json"), ("diagram", "harnes"))
    assert text.stdout.count("stateDiagram-v2\n") == 4
    assert "    running --> cancelling: cancel\n    cancelling --> cancelled: seen stopped\n" in text.stdout
    assert list(rows(one)[0]) == ["turn"]
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
    "malformed id": (("send", "evaluation.cancel", "x"), "evaluation_id: String should match pattern"),
    "no team": (("send", "custom_harness.cancel", UNKNOWN), "team_id: Field required"),
    "no org": (("send", "harness.update", f"harness_{0:032x}"), "org_id: Field required"),
    "bad command id": (("send", "evaluation.cancel", UNKNOWN, "--id", "a b"), "id: String should match"),
    "bad time": (("send", "evaluation.cancel", UNKNOWN, "--time", "now"), "--time: must be an RFC 3339 time"),
    "bad data": (("send", "evaluation.cancel", UNKNOWN, "--data", "{"), "--data: is not JSON: "),
    "data is no object": (("send", "evaluation.cancel", UNKNOWN, "--data", "[]"), "--data: must be a JSON object"),
    "bad set": (("send", "evaluation.cancel", UNKNOWN, "--set", "mode"), "--set mode: must be name=text or"),
    "set is no JSON": (("send", "evaluation.cancel", UNKNOWN, "--set", "a:=b"), "--set a:=b: is not JSON: "),
    "no such file": (("send", "commands.json"), "commands.json: cannot be read: No such file"),
    "file is a folder": (("send", "."), ".: cannot be read: Is a directory"),
    "nothing to create from": (("create", "x.json"), "x.json: cannot be read: No such file"),
    "nothing to run": (("create", "evaluation", "--run", "' "), "--run: No closing quotation"),
    "cannot be run": (
        ("create", "evaluation", "--run", "/no/such"),
        "/no/such, output to /dev/null: cannot be started",
    ),
    "malformed coordinates": (("dead-letters", "show", "7"), "7: must be partition:offset"),
    "kind to show": (("show", "harness", "x"), f"kind: must be one of {', '.join(KINDS)}"),
    "id to show": (("show", "session", "x"), "id: String should match pattern"),
    "org of a harness": (("harness", "get", "x", "--org", "a/b"), "org_id: String should match pattern"),
}


def test_what_cannot_be_used_is_one_line_that_names_it(alone: Beside) -> None:
    for done, (_, said) in zip(alone.each(*(call for call, _ in BAD_CALLS.values())), BAD_CALLS.values(), strict=True):
        one_line(done, 2, said)


def test_wrong_usage_is_not_an_answer(alone: Beside) -> None:
    for done in alone.each(("send",), ("nothing",), ("create", "x.json", "--run", "true"), ("harness", "get", "x")):
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def event(**changes: Any) -> str:
    whole = examples.load("evaluation.cancel").structured() | changes
    return json.dumps({name: value for name, value in whole.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "-: is not JSON: "),
        ("7", "-: must be a CloudEvent, a JSON object"),
        ('{"a": NaN}', "-: is not JSON: NaN is no value"),
        (f"{event()}\n\n{{\n", "- line 3: is not JSON: "),
        (f"[{event()}, {event(id=None)}]", "- event 2: id: must be there"),
        (event(specversion="0.3"), "-: specversion: must be 1.0"),
        (event(data="x"), "-: data: must be a JSON object"),
        (event(type="evaluation.stop"), "-: type: 'evaluation.stop' is not a command type"),
        (event(time="yesterday"), "-: time: must be an RFC 3339 time"),
    ],
)
def test_a_file_of_events_says_which_one_is_wrong(alone: Beside, text: str, said: str) -> None:
    one_line(alone("send", "-", given=text), 2, said)


def test_settings_and_services_that_cannot_be_used_are_named(alone: Beside) -> None:
    (alone.folder / "file").write_text("")
    one_line(alone("run", WORKER_PARTITIONS="many"), 2, "WORKER_PARTITIONS: ")
    one_line(alone("status", WORKER_DATADIR="x"), 2, "WORKER_DATADIR: no such setting; there is WORKER_DATA_DIR")
    one_line(alone("check", WORKER_AGENTS='{"a": {"url": "ftp://a.test"}}'), 2, "WORKER_AGENTS__a__url: ")
    folder = str(alone.folder / "file" / "below")
    one_line(alone("results", WORKER_DATA_DIR=folder), 2, f"WORKER_DATA_DIR: {folder}")


# ---------------------------------------------------------------------------------- beside nobody


def test_check_shows_settings_and_finds_what_cannot_be_reached(alone: Beside) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        agents = json.dumps({"scribe": {"url": url, "credential": "open-sesame"}})
        good = alone("check", WORKER_AGENTS=agents)
        bad = alone("check", "--json", WORKER_AGENTS=agents, WORKER_ZONES='{"eu": {"url": "http://127.0.0.1:1"}}')
    assert (good.returncode, good.stderr) == (0, "")
    assert re.search(r"^  agent scribe +ok +127\.0\.0\.1:\d+ accepts connections$", good.stdout, re.MULTILINE)
    assert "WORKER_PARTITIONS  " in good.stdout
    assert bad.returncode == 2
    assert re.fullmatch(r"zone eu: .+\n", bad.stderr)
    said = json.loads(bad.stdout)
    found = {each["name"]: each["ok"] for each in said["dependencies"]}
    assert found == {"store": True, "log": True, "processes": True, "agent scribe": True, "zone eu": False}
    assert said["settings"]["WORKER_DECISIONS__MEMORY_COMMANDS"] == "128"
    assert "open-sesame" not in good.stdout + bad.stdout


def test_without_a_worker_there_is_no_verdict_in_time(alone: Beside) -> None:
    done = alone("send", "evaluation.cancel", str(uuid4()), "--id", "c-7", "--wait", "0.1")
    one_line(done, 3, "no verdict within 0.1 s; the command c-7 is published")


def test_reconcile_publishes_what_is_due(alone: Beside) -> None:
    marker = examples.load("document.unsettled")
    [nothing] = rows(alone("reconcile", "--json"))
    assert nothing == {"published": 0}
    alone.sql("INSERT INTO objects VALUES (?, 'v', ?)", marker.key, json.dumps(marker.payload).encode())
    done = alone("reconcile")
    assert (done.returncode, done.stdout) == (0, "1 resume commands published\n")
    assert "log        ok  4 partitions, 1 commands" in alone("check").stdout


def org(**fields: Any) -> dict[str, Any]:
    """An org of two harnesses, with `fields` for the second."""
    base = {"id": f"harness_{0:032x}", "name": "base", "system_prompt": "Be brief."}
    writer = {"id": f"harness_{1:032x}", "name": "writer", "parent_harness_id": base["id"], "system_prompt": "Write."}
    return {"org_id": "acme", "default": base["id"], "models": ["m"], "harnesses": [base, writer | fields]}


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
        ({"kind": "workflow", "workflow_id": "x", "team_id": "t"}, "workflow_id: String should match"),
        ({"kind": "session", "session_id": f"{ULID}.eu-1", "tennant": "t"}, "tennant: no such field"),
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


# ---------------------------------------------------------------------------------- beside a running worker


def test_an_evaluation_is_created_cancelled_and_told_about(worker: Beside) -> None:
    [made] = rows(worker("create", "evaluation", "--run", "sleep 300", "--json"))
    name = made["id"]
    dry = worker.send("evaluation.cancel", name, "--dry-run")
    assert (dry["dry_run"], len(dry["would"])) == (True, 1)
    cancelled = worker("send", "evaluation.cancel", name, "--reason", "too \x1b[31mslow", "--wait", str(SECONDS))
    assert cancelled.returncode == 0, cancelled
    assert cancelled.stdout.startswith("cancelled (applied, 200): everything that ran for it was seen stopped\n")
    assert re.search(r"^  receipt    stopped\n    job local/process-\w+: stopped$", cancelled.stdout, re.MULTILINE)
    assert "by cli: too \ufffd[31mslow\n" in cancelled.stdout
    again = worker.send("evaluation.cancel", name)
    assert again["code"] == "already_terminal"

    results, lines, told, changes, story, whole = worker.each(
        ("results", "--json"), ("results",), ("status", "--json"), ("status",),
        ("show", "evaluation", name), ("show", "evaluation", name, "--json"),
    )  # fmt: skip
    sent = [verdict["command"]["id"] for verdict in (dry, again)]
    assert [row for row in rows(results) if row["command"]["id"] in sent] == [dry, again]
    assert f"200  applied  cancelled  evaluation.cancel  evaluation/{name} running -> cancelled" in lines.stdout
    assert [row["after"] for row in rows(told) if row["subject_id"] == name] == ["cancelling", "cancelled"]
    assert f"evaluation/{name} workflow  cancelling -> cancelled  version 2  by observation\n" in changes.stdout
    assert story.stdout.startswith(f"evaluation/{name}: cancelled, version 2, ")
    assert re.search(r"evaluation\.cancel \S+ by cli: too", story.stdout)
    assert re.search(
        r"found as created.*intent recorded, deadline.*observed.*receipt    stopped", story.stdout, re.DOTALL
    )
    chapters = rows(whole)[0]["story"]
    assert [chapter["what"] for chapter in chapters if chapter["audit_seq"]] == ["adopted", "command", "observed"]
    assert chapters[-1]["verdicts"][0]["code"] == "already_terminal"


def test_an_erased_person_is_erased_from_the_story(worker: Beside) -> None:
    name = worker.create("workflow", workflow_id=str(uuid4()), team_id="demo")
    worker.send("evaluation.cancel", name, "--subject", "ada@example.test", "--reason", "secret plans")
    worker.send("evaluation.cancel", name, "--subject", "bob@example.test", "--reason", "me too")
    shapeless = ("--set", "mode=gently", "--raw", "--subject", "ada@example.test", "--reason", "secret, too")
    assert worker.send("evaluation.cancel", name, *shapeless)["code"] == "invalid_command"
    worker.sql("DELETE FROM objects WHERE key = ?", f"personal/{hashlib.sha256(b'ada@example.test').hexdigest()}")
    text, whole = worker.each(("show", "evaluation", name), ("show", "evaluation", name, "--json"))
    assert " by erased: erased\n" in text.stdout
    assert " by bob@example.test: me too\n" in text.stdout
    who = [each["command"].get("subject") for each in rows(whole)[0]["story"] if "command" in each]
    assert who == ["erased", "bob@example.test", None]
    assert "ada@" not in text.stdout + whole.stdout
    assert "secret" not in text.stdout + whole.stdout


def test_every_type_can_be_sent_by_flags(worker: Beside) -> None:
    harness, session = str(uuid4()), f"{ULID}.eu-1"
    worker.create("custom_harness", harness_id=harness, team_id="demo", workflow_id=(creation := str(uuid4())))
    worker.create("workflow", workflow_id=creation, team_id="demo", purpose="custom_harness", harness_id=harness)
    worker.create("session", session_id=session, tenant="acme")
    tenant = ("--tenant", "acme")
    turn = ("--set", "turn_id=t1", "--set", "turn_number:=1", "--set", "status=succeeded")
    calls = {
        ("workflow.update", harness, "--creation", "--set", "status=starting"): "updated",
        ("custom_harness.cancel", harness, "--team-id", "demo"): "cancelled",
        ("workflow.resume", harness, "--creation", "--set", "marker=m"): "unchanged",
        ("turn.update", session, *tenant, *turn): "updated",
        ("session.cancel", session.upper(), *tenant): "no_running_turn",
        ("session.resume", session, "--set", "marker=m"): "unchanged",
        ("session.update", session, *tenant, "--set", "status=closed", "--expected-version", "1"): "updated",
        ("evaluation.cancel", str(uuid4()), "--permission", "agent:read"): "permission_denied",
        ("evaluation.cancel", "x", "--raw"): "invalid_command",
    }
    assert {call: worker.send(*call)["code"] for call in calls} == calls
    custom, closed = worker.each(("show", "custom-harness", harness), ("show", "session", session))
    assert custom.stdout.startswith(f"custom-harness/{harness}: cancelled, version 2, ")
    assert closed.stdout.startswith(f"session/{session}: closed, turn 1 (t1) succeeded, version 2, ")


def test_harnesses_are_created_changed_and_got(worker: Beside) -> None:
    assert worker.create("org", **org()) == "acme"
    writer = f"harness_{1:032x}"
    changes = ("--set", "name=author", "--data", '{"tags": ["a"], "name": "no"}')
    updated = worker.send("harness.update", writer, "--org", "acme", *changes)
    assert (updated["code"], updated["harness"]["name"], updated["harness"]["tags"]) == ("updated", "author", ["a"])
    get = ("harness", "get")
    whole, merged, default, old, denied, shown = worker.each(
        (*get, "author", "--org", "acme", "--json"),
        (*get, writer, "--org", "acme", "--effective", "--json"),
        (*get, "default", "--org", "acme"),
        (*get, "writer", "--org", "acme"),
        (*get, "author", "--org", "acme", "--permission", "harness:manage"),
        ("show", "org", "acme"),
    )
    assert {field: value for field, value in rows(whole)[0].items() if value is not None} == updated["harness"]
    assert rows(merged)[0]["system_prompt"] == "Be brief.\n\nWrite."
    assert re.search(r'^name +"base"$', default.stdout, re.MULTILINE)
    one_line(old, 1, "not_found: ")
    one_line(denied, 1, "permission_denied: ")
    assert "acme: 2 harnesses, version 1, " in shown.stdout


def test_files_of_events_are_sent_in_order_and_can_be_repeated(worker: Beside, tmp_path: Path) -> None:
    name = worker.create("workflow", workflow_id=str(uuid4()), team_id="team-atlas")
    data = examples.load("evaluation.cancel").payload | {"evaluation_id": name}
    once = {"id": str(uuid4()), "time": None, "source": None}
    first, second = event(**once, data=data), event(**once, data=data | {"reason": "another one"})
    file = tmp_path / "commands.ndjson"
    file.write_text(f"{first}\n{second}\n")
    done = worker("send", str(file), "--wait", str(SECONDS), "--json")
    assert done.returncode == 1
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verdict["code"] for verdict in verdicts] == ["cancelled", "command_id_reused"]
    again = worker("send", "-", "--wait", str(SECONDS), "--json", given=f"[{first}]")
    assert (again.returncode, again.stdout) == (0, done.stdout.splitlines(keepends=True)[0])
    [sent] = rows(worker("send", "-", "--json", given=second))
    assert (sent["id"], sent["key"]) == (json.loads(second)["id"], f"evaluation/{name}")


def test_dead_letters_are_listed_and_shown(worker: Beside) -> None:
    name = str(uuid4())
    raw = ("--raw", "--data", '{"actor": 7}', "--id", name)
    assert worker.send("evaluation.cancel", name, *raw)["code"] == "invalid_command"
    [letter] = [each for each in rows(worker("dead-letters", "list", "--json")) if each["command_id"] == name]
    at, listed = letter["at"], worker("dead-letters", "list").stdout
    assert re.search(rf"^{at}  \S+  actor: ", listed, re.MULTILINE)
    shown, whole, absent = worker.each(
        ("dead-letters", "show", at), ("dead-letters", "show", at, "--json"), ("dead-letters", "show", "0:99999")
    )
    assert re.search(r"^reason +actor: ", shown.stdout, re.MULTILINE)
    [body] = rows(whole)
    assert json.loads(body["value"])["actor"] == 7
    assert (body["key"], body["headers"]["ce_id"]) == (f"evaluation/{name}", name)
    one_line(absent, 1, "not_found: no dead letter for 0:99999")


def test_what_is_not_there_is_a_no(worker: Beside) -> None:
    name = str(uuid4())
    one_line(worker("show", "evaluation", name), 1, f"not_found: there is no evaluation {name}")


def test_followers_see_what_happens_until_they_are_interrupted(worker: Beside) -> None:
    name = worker.create("workflow", workflow_id=str(uuid4()), team_id="demo")
    commands = ([WORKER, topic, "--follow", "--json"] for topic in ("results", "status"))
    followers = [
        subprocess.Popen(command, env=worker.environment, stdout=subprocess.PIPE, text=True) for command in commands
    ]
    try:
        worker.send("evaluation.cancel", name)
        for follower in followers:
            assert follower.stdout is not None
            assert any(name in line for line in follower.stdout)
            follower.send_signal(signal.SIGINT)
            assert follower.wait(SECONDS) == 130
    finally:
        for follower in followers:
            follower.kill()
            follower.communicate()


def test_a_second_worker_is_told_who_has_the_file(worker: Beside) -> None:
    second = worker("run", WORKER_PROBES_ENABLED="false")
    assert second.returncode == 2
    assert re.fullmatch(r"another worker has .+: pid \d+\n", second.stderr)
