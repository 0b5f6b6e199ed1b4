"""The real `worker` as a black box: every command, for people and as JSON, good and bad, beside one running worker."""

import hashlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.acceptance.beside import CANCEL, SECONDS, ULID, WORKER, Beside, event, one_line, org, rows
from tests.acceptance.forked import Forked


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


def test_an_evaluation_is_created_cancelled_and_told_about(worker: Beside) -> None:
    [made] = rows(worker("create", "evaluation", "--run", "sleep 300", "--json"))
    name = made["id"]
    dry = worker.send("evaluation.cancel", name, "--dry-run")
    assert (dry["dry_run"], len(dry["would"])) == (True, 1)
    cancelled = worker("send", "evaluation.cancel", name, "--reason", "too \x1b[31mslow", "--wait", str(SECONDS))
    assert cancelled.returncode == 0, cancelled
    assert cancelled.stdout.startswith("cancelled (200, applied): everything that ran for it was seen stopped\n")
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
    assert f"  cancelled (200, applied)  evaluation.cancel  evaluation/{name} running -> cancelled" in lines.stdout
    assert [row["after"] for row in rows(told) if row["subject_id"] == name] == ["cancelling", "cancelled"]
    assert f"evaluation/{name} workflow  cancelling -> cancelled  version 2  by observation\n" in changes.stdout
    assert story.stdout.startswith(f"evaluation/{name}: cancelled, version 2, ")
    assert re.search(r"evaluation\.cancel \S+ by cli: too", story.stdout)
    telling = r"as its creator wrote it: running\n.*intent recorded, deadline.*observed.*receipt    stopped"
    assert re.search(telling, story.stdout, re.DOTALL)
    chapters = rows(whole)[0]["story"]
    assert [chapter["what"] for chapter in chapters if chapter["audit_seq"]] == ["adopted", "command", "observed"]
    assert chapters[-1]["verdicts"][0]["code"] == "already_terminal"


def test_what_ignores_sigterm_is_told_to_have_been_killed(worker: Beside) -> None:
    name = worker("create", "evaluation", "--run", "sh -c 'trap \"\" TERM; while :; do sleep 1; done'").stdout.strip()
    told = worker("send", "evaluation.cancel", name, "--set", "mode=force", "--wait", str(SECONDS))
    assert re.search(r"^      killed    \S+Z, \S+/\d+/\d+$", told.stdout, re.MULTILINE), told.stdout


def test_a_verdict_names_what_was_asked_for_where_nothing_was_looked_up(worker: Beside) -> None:
    name = str(uuid4())
    told = worker("send", "evaluation.cancel", name, "--wait", str(SECONDS))
    assert told.stdout.startswith("not_found (404, rejected): ")
    assert f"\n  asked      evaluation/{name}\n" in told.stdout


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
        ("custom-harness.cancel", harness, "--team-id", "demo"): "cancelled",
        ("workflow.resume", harness, "--creation", "--set", "marker=m"): "unchanged",
        ("turn.update", session, *tenant, *turn): "updated",
        ("session.cancel", session.upper(), *tenant): "no_running_turn",
        ("session.resume", session, "--set", "marker=m"): "unchanged",
        ("session.update", session, *tenant, "--set", "status=closed", "--expected-version", "1"): "updated",
        ("evaluation.cancel", str(uuid4()), "--permission", "agent:read"): "permission_denied",
        ("evaluation.cancel", "x", "--raw"): "invalid_command",
    }
    assert {call: worker.send(*call)["code"] for call in calls} == calls
    custom, closed = worker.each(("show", "custom_harness", harness), ("show", "session", session))
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


def test_files_of_commands_are_sent_in_order_and_can_be_repeated(worker: Beside, tmp_path: Path) -> None:
    name = worker.create("workflow", workflow_id=str(uuid4()), team_id="team-atlas")
    data = CANCEL.payload | {"evaluation_id": name}
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
    pid = second.stderr.partition(": pid ")[2]
    assert re.fullmatch(r"another worker has .+: pid \d+\n", second.stderr)
    assert re.search(rf"^  worker +ok +pid {pid}", worker("check").stdout, re.MULTILINE)
