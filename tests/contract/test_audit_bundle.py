"""Bundles of the real engine's log, whole and in part, verified by one file that knows nothing of us."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.contract.stack import Stack, evaluation_id
from tests.unit.chained import KEYS, SIGNED, Standing
from worker.adapters.sqlite import Database, SqliteStream
from worker.audit import bundle, verify_bundle
from worker.audit.bundle import Export, Scope
from worker.audit.checkpoints import seals
from worker.cli import bundling, showing
from worker.cli.exits import Exit, Wrong
from worker.errors import Misconfigured
from worker.ports import Topic
from worker.runtime.checkpointer import Checkpointer
from worker.sealing import personal_key
from worker.signing import load_or_make, public_pem

ADA = "ada@test"
NOW = datetime(2026, 2, 1, tzinfo=UTC)
Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of `story`."""
    folder = tmp_path_factory.mktemp("log")
    asyncio.run(story(Stack(folder)))
    return folder


async def story(stack: Stack) -> None:
    """Two evaluations of team-1 and one of team-2, updated and cancelled, sealed twice; a refusal, and a tail."""
    await stack.store.start()
    for n, team in ((1, "team-1"), (2, "team-1"), (3, "team-2")):
        await stack.create(n, team_id=team)
    maker = Checkpointer(stack.stream, Standing(), lambda: {0: 1}, SIGNED)
    await stack.engine.start()
    actor = {"subject": ADA, "team_ids": ["team-1", "team-2"], "permissions": ["agent:write", "workflow:report"]}
    for n in (1, 2, 3):
        await stack.send("workflow.update", f"u{n}", n, actor=actor, status="running", phase="second")
    await stack.results(3)
    await maker.once()
    for n in (1, 3, 9):
        await stack.send("evaluation.cancel", f"c{n}", n, actor=actor)
    await stack.results(6)
    await maker.once()
    await stack.send("workflow.update", "late", 2, actor=actor, status="running", phase="third")
    await stack.results(7)
    await stack.engine.stop()


@pytest.fixture
async def stack(log: Path) -> AsyncIterator[Stack]:
    stack = Stack(log)
    await stack.store.start()
    yield stack
    await stack.store.stop()


@pytest.fixture(scope="module")
def whole(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole log's bundle."""
    to = tmp_path_factory.mktemp("bundles") / "whole"

    async def write() -> None:
        stack = Stack(log)
        await stack.store.start()
        await export(stack, to)
        await stack.store.stop()

    asyncio.run(write())
    return to


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be tampered with."""
    return shutil.copytree(whole, tmp_path / "bundle")


async def export(stack: Stack, to: Path, scope: Scope | None = None, subjects: tuple[str, ...] = ()) -> bundle.Exported:
    made = Export(stack.stream, stack.store, to, scope or Scope())
    return await made.write([KEYS["a"].public], subjects, build="test", now=NOW)


def contents(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def verified(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """-> exit code, and `where  rule` of each failure."""
    code = verify_bundle.main([str(folder), *arguments])
    told = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    return code, [f"{parts[0]}  {parts[1]}" for parts in told if len(parts) == 3]


def test_a_bundle_is_verified_by_its_own_file_alone(whole: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(whole, tmp_path / "alone")
    command = [sys.executable, "-I", str(alone / "verify_bundle.py")]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "bundle of all" in done.stdout
    assert f"key {KEYS['a'].key_id}" in done.stdout
    assert "1 refusals" in done.stdout
    assert "1 records after that" in done.stdout


def test_a_bundle_holds_nothing_that_names_a_person(whole: Path) -> None:
    held = [path for path in whole.rglob("*") if path.is_file() and ADA.encode() in path.read_bytes()]
    assert held == []
    assert list((whole / "personal").iterdir()) == []


async def test_a_person_s_fields_can_be_read_where_the_key_is_asked_for(stack: Stack, tmp_path: Path) -> None:
    await export(stack, tmp_path / "b", subjects=(ADA,))
    subject = hashlib.sha256(ADA.encode()).hexdigest()
    stored = await stack.store.load(personal_key(subject))
    assert stored is not None
    assert [path.name for path in contents(tmp_path / "b/personal")] == [subject]
    assert contents(tmp_path / "b/personal")[0].read_bytes() == stored.body
    with pytest.raises(Misconfigured, match="there is no key of bob"):
        await export(stack, tmp_path / "c", subjects=("bob",))


async def test_a_folder_that_holds_something_is_left_alone(stack: Stack, whole: Path) -> None:
    before = contents(whole)
    with pytest.raises(Misconfigured, match="is not empty"):
        await export(stack, whole)
    assert contents(whole) == before


@pytest.mark.parametrize(
    ("scope", "aggregates", "unsealed"),
    [
        (Scope(team="team-1"), {1, 2}, 1),
        (Scope(team="team-2"), {3}, 0),
        (Scope(aggregate=f"evaluation/{evaluation_id(2)}"), {2}, 1),
        (Scope(team="nobody"), set(), 0),
    ],
)
async def test_a_part_is_proven_record_by_record(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str], scope: Scope, aggregates: set[int], unsealed: int
) -> None:
    done = await export(stack, tmp_path / "b", scope)
    entries = read(tmp_path / "b", "records")
    assert {entry["key"] for entry in entries} == {f"evaluation/{evaluation_id(n)}" for n in aggregates}
    assert (done.unsealed, done.records - done.unsealed) == (unsealed, len(read(tmp_path / "b", "proofs")))
    assert verified(tmp_path / "b", capsys) == (0, [])


async def test_an_imported_bundle_reads_as_the_log_it_came_from(stack: Stack, whole: Path, tmp_path: Path) -> None:
    database = Database(tmp_path / "worker.db", partitions=1)
    stream = SqliteStream(database)
    assert await stream.restore(bundle.records(whole, "records")) == len(read(whole, "records"))
    assert await stream.restore(bundle.records(whole, "checkpoints")) == 2
    log = [record async for record in stream.read(Topic.AUDIT, {0: 0}, follow=False)]
    original = await stack.all(Topic.AUDIT)
    assert log == original
    given = await seals(stream, [KEYS["a"].public])
    for record in log:
        given.take(record.partition, record.offset, record.value or b"")
    assert given.finish({0: len(log)}) == []
    database.close()


# ------------------------------------------------------------------------------ tampering


def read(folder: Path, name: str) -> Lines:
    return [json.loads(line) for line in (folder / f"{name}.ndjson").read_text("utf-8").splitlines()]


def write(folder: Path, name: str, entries: Lines) -> None:
    """And the manifest says so: whoever writes the one file can write the other."""
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / f"{name}.ndjson").write_text(text, "utf-8")
    said = json.loads((folder / "manifest.json").read_text())
    said["files"][f"{name}.ndjson"] = hashlib.sha256(text.encode()).hexdigest()
    if name == "records":
        said["partitions"]["0"]["ends"] = max(entry["offset"] for entry in entries) + 1
    (folder / "manifest.json").write_text(json.dumps(said))


def rechained(entries: Lines) -> Lines:
    """Numbers and hashes of every chain made anew."""
    heads: dict[str, tuple[int, str, Any]] = {}
    made: Lines = []
    for entry in entries:
        said = json.loads(entry["value"])
        if said["kind"] != "refused":
            sequence, name, state = heads.get(entry["key"], (0, None, None))
            said |= {"audit_seq": sequence + 1, "previous_sha256": name, "state_before_sha256": state}
        value = json.dumps(said)
        if said["kind"] != "refused":
            name = hashlib.sha256(value.encode()).hexdigest()
            heads[entry["key"]] = (said["audit_seq"], name, said["state_after_sha256"])
        made.append(entry | {"value": value})
    return made


def flipped(entries: Lines) -> Lines:
    return [entries[0], entries[1] | {"value": entries[1]["value"].replace("second", "zecond")}, *entries[2:]]


def without(number: int) -> Callable[[Lines], Lines]:
    return lambda entries: [*entries[:number], *entries[number + 1 :]]


def swapped(entries: Lines) -> Lines:
    """Two neighbours of one chain change their bytes."""
    first, second = entries[0], entries[1]
    return [first | {"value": second["value"]}, second | {"value": first["value"]}, *entries[2:]]


def doubled(entries: Lines) -> Lines:
    """Another word in a repetition behind the last record."""
    again = entries[1] | {"offset": entries[-1]["offset"] + 1}
    return [*entries, again | {"value": again["value"].replace("second", "zecond")}]


TAMPERED: dict[str, tuple[Callable[[Lines], Lines], list[str]]] = {
    "a byte flipped": (flipped, ["0:{following}  chain_hash", "0:0-5  checkpoint_root"]),
    "a record dropped": (without(1), ["0:{following}  chain_gap", "0:0-5  checkpoint_root"]),
    "a record dropped, later hashes made anew": (
        lambda entries: rechained(without(1)(entries)),
        ["0:0-5  checkpoint_root", "0:6-{sealed}  checkpoint_root"],
    ),
    "two records swapped": (swapped, ["0:0  chain_gap", "0:1  chain_doubled", "0:0-5  checkpoint_root"]),
    "a record doubled with a change": (doubled, ["0:{end}  chain_doubled"]),
    "an aggregate removed whole": (
        lambda entries: [entry for entry in entries if entry["key"] != f"evaluation/{evaluation_id(3)}"],
        ["0:0-5  checkpoint_root", "0:6-{sealed}  checkpoint_root"],
    ),
    "the sealed tail cut": (lambda entries: entries[:8], ["0:6-{sealed}  tail_cut"]),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_done_to_a_bundle_shows(folder: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    tamper, expected = TAMPERED[what]
    log, checkpoints = read(folder, "records"), read(folder, "checkpoints")
    places = {
        "following": [entry["offset"] for entry in log if entry["key"] == log[0]["key"]][2],
        "sealed": json.loads(json.loads(checkpoints[-1]["value"])["payload"])["end_offset"] - 1,
        "end": len(log),
    }
    write(folder, "records", tamper(log))
    assert verified(folder, capsys) == (1, [text.format(**places) for text in expected])


def test_a_change_in_a_part_shows_whatever_becomes_of_its_proof(
    log: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "part"

    async def write_part() -> None:
        stack = Stack(log)
        await stack.store.start()
        await export(stack, folder, Scope(team="team-2"))
        await stack.store.stop()

    asyncio.run(write_part())
    write(folder, "records", rechained(flipped(read(folder, "records"))))
    code, found = verified(folder, capsys)
    assert code == 1
    assert {text.split("  ")[1] for text in found} == {"proof"}
    write(folder, "proofs", [])
    assert verified(folder, capsys)[0] == 1


def test_payloads_keys_and_files_are_held_against_what_names_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blob = contents(folder / "blobs")[0]
    blob.write_bytes(b"{}")
    assert verified(folder, capsys) == (1, ["0:0  payload"])
    blob.unlink()
    assert verified(folder, capsys) == (1, ["0:0  payload"])
    (folder / "checkpoints.ndjson").write_bytes((folder / "checkpoints.ndjson").read_bytes() + b"\n")
    assert verified(folder, capsys)[0] == 2
    shutil.rmtree(folder)
    assert verified(folder, capsys)[0] == 2


def test_a_key_that_was_given_counts_and_not_the_bundle_s_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ax":
        (tmp_path / f"{name}.pem").write_bytes(public_pem(KEYS[name].public))
    assert verified(folder, capsys, "--key", str(tmp_path / "a.pem")) == (0, [])
    code, found = verified(folder, capsys, "--key", str(tmp_path / "x.pem"))
    assert (code, found) == (1, ["checkpoints 0:0  checkpoint_key", "checkpoints 0:1  checkpoint_key"])


def test_a_checkpoint_that_was_dropped_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "checkpoints", read(folder, "checkpoints")[1:])
    assert verified(folder, capsys) == (1, ["checkpoints 0:1  checkpoint_line"])


# ------------------------------------------------------------------------------ the command line


@pytest.fixture
def command_line(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Settings as if the story's worker had run here; -> the public key that its checkpoints are signed with."""
    monkeypatch.setenv("WORKER_DATA_DIR", str(log))
    monkeypatch.setenv("WORKER_PARTITIONS", "1")
    (tmp_path / "a.pem").write_bytes(public_pem(KEYS["a"].public))
    return [tmp_path / "a.pem"]


async def test_out_and_in_again_by_the_command_line(
    command_line: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled, into = tmp_path / "bundle", tmp_path / "into"
    assert await bundling.export(bundled, None, None, [ADA], command_line, as_json=True) == Exit.DONE
    told = json.loads(capsys.readouterr().out)
    assert (told["scope"], told["checkpoints"], told["missing"], told["unknown"]) == ("all", 2, [], [])
    assert await bundling.import_(bundled, into, as_json=True) == Exit.DONE
    assert json.loads(capsys.readouterr().out)["records"] == told["records"]
    monkeypatch.setenv("WORKER_DATA_DIR", str(into))
    assert await showing.show("evaluation", evaluation_id(1), as_json=True) == Exit.DONE
    story = json.loads(capsys.readouterr().out)["story"]
    assert [chapter["audit_seq"] for chapter in story][:3] == [1, 2, 3]
    assert {chapter["command"]["subject"] for chapter in story if "command" in chapter} == {ADA}
    with pytest.raises(Wrong, match="exists; a bundle is imported into a new folder"):
        await bundling.import_(bundled, into, as_json=True)


async def test_how_far_the_log_is_sealed_is_told_by_the_command_line(
    command_line: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await bundling.checkpoints(command_line, as_json=True) == Exit.DONE
    [told] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (told["sequence"], told["key_id"], told["log_end"] - told["sealed_to"]) == (2, KEYS["a"].key_id, 1)
    assert await bundling.checkpoints([], as_json=True) == Exit.NO
    assert "checkpoint_key" in capsys.readouterr().err
    assert await bundling.retention("2027-01-01T00:00:00Z", command_line, as_json=True) == Exit.DONE
    cut = json.loads(capsys.readouterr().out)
    assert (cut["offset"], cut["going_on"]) == (told["sealed_to"], 1)


async def test_what_cannot_be_exported_is_refused_in_one_line(command_line: list[Path], tmp_path: Path) -> None:
    to = tmp_path / "bundle"
    with pytest.raises(Wrong, match="only one of them"):
        await bundling.export(to, "team-1", "session/x", [], command_line, as_json=False)
    with pytest.raises(Wrong, match="is not KIND/ID"):
        await bundling.export(to, None, evaluation_id(1), [], command_line, as_json=False)
    with pytest.raises(Wrong, match="--before: soon must be an RFC 3339 time"):
        await bundling.retention("soon", command_line, as_json=False)
    with pytest.raises(Misconfigured, match="is no bundle"):
        await bundling.import_(to, tmp_path / "into", as_json=False)


async def test_keys_are_printed_where_there_are_any(
    command_line: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await bundling.print_keys(as_json=True) == Exit.NO
    assert "not_found" in capsys.readouterr().err
    made = load_or_make(tmp_path / "audit.key", "X").now
    assert made is not None
    monkeypatch.setenv("WORKER_AUDIT_KEY_FILE", str(tmp_path / "audit.key"))
    assert await bundling.print_keys(as_json=False) == Exit.DONE
    assert capsys.readouterr().out == f"{made.key_id}\n{public_pem(made.public).decode()}"
