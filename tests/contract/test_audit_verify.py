"""`verify` over what the real engine wrote: clean as it is; whatever is changed is an error with its position."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.audit import AuditRecord
from schemas.base import Blob
from schemas.documents import WorkflowState, digest
from schemas.verdicts import Verdict
from tests.contract.stack import JOB, Stack
from tests.contract.test_musts_audit import H, put_creation, put_org
from tests.unit.chained import KEYS, SIGNED
from tests.unit.given import HARNESS
from worker.audit.bundle import Export, Scope
from worker.audit.replay import fold
from worker.audit.source import Bounds, Bundle, Log, Source
from worker.audit.verify import Progress, Report, Verify
from worker.audit.verify_bundle import Lines, Seals
from worker.domain.decision import verdict_sha256
from worker.errors import Misconfigured
from worker.ports import Record, Topic
from worker.runtime.checkpointer import Checkpointer
from worker.sealing import personal_key

BUILD = "test"
Change = Callable[[list[Record]], list[Record]]


class Changed:
    """A log as somebody left it who may write it: records by the offsets at which they now stand."""

    def __init__(
        self, whole: Log, records: Iterable[Record], checkpoints: Iterable[tuple[str, bytes]] = (), *, begins: int = 0
    ) -> None:
        self.payload, self.personal, self._begins = whole.payload, whole.personal, begins
        self._records = [replace(record, offset=number) for number, record in enumerate(records, begins)]
        self._checkpoints = list(checkpoints)

    async def bounds(self) -> Bounds:
        return {0: (self._begins, self._begins + len(self._records))}

    async def records(self, bounds: Bounds) -> AsyncIterator[Record]:
        for record in self._records:
            yield record

    async def seals(self, keys: Iterable[bytes], *, cut: bool) -> Seals | None:
        return Seals(Lines(self._checkpoints, keys), {0: self._begins * cut})


async def verify(source: Source, **more: Any) -> Report:
    return await Verify(source, (), BUILD, **more).run()


def errors(report: Report) -> list[tuple[str, str, int | None]]:
    return [(each.where, each.rule, each.audit_seq) for each in report.wrong]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with three aggregates of three kinds, and refusals; its engine is stopped."""
    folder = tmp_path_factory.mktemp("written")
    asyncio.run(tell(folder))
    return folder


async def tell(folder: Path) -> None:
    stack = Stack(folder)
    await stack.store.start()
    await stack.create(jobs=[JOB])
    await put_creation(stack)
    await put_org(stack)
    await stack.engine.start()
    boss = {"subject": "boss@test", "team_ids": ["team-1"], "org_id": "org-1", "permissions": ["harness:manage"]}
    story: list[tuple[str, dict[str, Any]]] = [
        ("workflow.update", {"phase": "scoring"}),
        ("workflow.update", {"phase": "never", "expected_version": 9}),
        ("workflow.update", {"phase": "later"}),
        ("evaluation.cancel", {"dry_run": True}),
        ("evaluation.cancel", {}),
        ("workflow.update", {"status": "succeeded"}),
        ("custom_harness.cancel", {"harness_id": HARNESS, "team_id": "team-1"}),
        ("harness.update", {"org_id": "org-1", "harness_id": H, "changes": {"name": "second"}, "actor": boss}),
        (
            "harness.update",
            {"org_id": "org-1", "harness_id": H, "changes": {"system_prompt": "x" * 90_000}, "actor": boss},
        ),
    ]
    for number, (kind, data) in enumerate(story):
        await stack.send(kind, f"x{number}", **data)
        await stack.results(number + 1)
    await stack.engine.stop()


@pytest.fixture
async def stack(written: Path, tmp_path: Path) -> Stack:
    """A copy of it, to be spoilt."""
    stack = Stack(Path(shutil.copytree(written, tmp_path / "data")))
    await stack.store.start()
    return stack


async def log_of(stack: Stack) -> list[Record]:
    """The log without repetitions, as an attacker would like it."""
    return list({record.value: record for record in await stack.all(Topic.AUDIT)}.values())


def said(record: Record) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(record.value or b"")
    return whole


def edited(record: Record, **changes: Any) -> Record:
    return replace(record, value=json.dumps(said(record) | changes, separators=(",", ":"), ensure_ascii=False).encode())


def rechained(log: list[Record]) -> list[Record]:
    """All hashes of records made anew, as somebody does who knows the format."""
    heads: dict[bytes, Record] = {}
    made = []
    for record in log:
        if said(record)["kind"] != "refused":
            key = record.key or b""
            if key in heads:
                record = edited(record, previous_sha256=hashlib.sha256(heads[key].value or b"").hexdigest())
            heads[key] = record
        made.append(record)
    return made


def place(log: list[Record], kind: str, sequence: int) -> int:
    """Where the record of this number of the first aggregate of a kind stands."""
    return next(
        number
        for number, record in enumerate(log)
        if (said(record)["aggregate"]["type"], said(record)["audit_seq"]) == (kind, sequence)
    )


async def test_what_the_worker_wrote_is_verified_with_all_that_it_refused(stack: Stack) -> None:
    report = await verify(Log(stack.stream, stack.store))
    assert report.wrong == ()
    assert (report.aggregates, report.refused, report.adopted, report.undecided, report.redacted) == (3, 2, 3, 0, 0)
    assert report.builds == {BUILD: report.records - report.repeated}
    assert report.covered is not None
    assert [(each.end, each.after) for each in report.covered] == [(0, report.records)]


async def test_a_bundle_says_the_same_as_the_log_that_it_was_made_of(stack: Stack, tmp_path: Path) -> None:
    await Checkpointer(stack.stream, stack.clock, lambda: {0: 1}, SIGNED).once()
    keys, folder = [KEYS["a"].public], tmp_path / "bundle"
    made = await Export(stack.stream, stack.store, folder, Scope()).write(keys, [], build=BUILD, now=stack.clock.now())
    log, bundle = [
        await Verify(source, keys, BUILD).run() for source in (Log(stack.stream, stack.store), Bundle(folder))
    ]
    assert (log.wrong, log.redacted, log.records) == ((), 0, made.records)
    assert log.covered is not None
    assert [(each.end, each.after) for each in log.covered] == [(log.records, 0)]
    unlike = {"decided_seconds", "redacted"}
    assert bundle.model_dump(exclude=unlike) == log.model_dump(exclude=unlike)
    assert bundle.redacted > 0  # nobody's key was exported


async def test_the_bundle_of_one_aggregate_is_decided_again_without_checkpoints(stack: Stack, tmp_path: Path) -> None:
    scope = Scope(aggregate="org/org-1")
    folder = tmp_path / "bundle"
    await Export(stack.stream, stack.store, folder, scope).write([], [], build=BUILD, now=stack.clock.now())
    report = await verify(Bundle(folder))
    assert (report.wrong, report.aggregates, report.records, report.covered) == ((), 1, 3, None)


async def test_identical_repetitions_are_counted(stack: Stack) -> None:
    log = await log_of(stack)
    report = await verify(Changed(Log(stack.stream, stack.store), [*log, *log]))
    chained = [record for record in log if said(record)["kind"] != "refused"]
    assert (report.wrong, report.repeated) == ((), len(chained))


async def test_many_small_parts_find_what_one_finds(stack: Stack) -> None:
    whole, parts = [await verify(Log(stack.stream, stack.store), part_records=size) for size in (10_000, 3)]
    assert whole.model_copy(update={"decided_seconds": 0}) == parts.model_copy(update={"decided_seconds": 0})


def flip(log: list[Record]) -> list[Record]:
    at = place(log, "evaluation", 2)
    body = bytearray(log[at].value or b"")
    body[0] ^= 1
    return [*log[:at], replace(log[at], value=bytes(body)), *log[at + 1 :]]


def drop(log: list[Record]) -> list[Record]:
    at = place(log, "evaluation", 2)
    return log[:at] + log[at + 1 :]


def insert(log: list[Record]) -> list[Record]:
    at = place(log, "evaluation", 2)
    before = hashlib.sha256(log[at].value or b"").hexdigest()
    after = said(log[at])["state_after_sha256"]
    forged = edited(log[at], audit_seq=3, previous_sha256=before, state_before_sha256=after)
    return [*log[: at + 1], forged, *log[at + 1 :]]


def swap(log: list[Record]) -> list[Record]:
    one, two = place(log, "evaluation", 2), place(log, "evaluation", 3)
    log[one], log[two] = log[two], log[one]
    return log


def double(log: list[Record]) -> list[Record]:
    at = place(log, "evaluation", 2)
    return [*log, edited(log[at], personal=None)]


def retell(log: list[Record]) -> list[Record]:
    """A verdict's words changed, its hash made anew, and with it every hash after."""
    at = place(log, "custom-harness", 2)
    events = said(log[at])["events"]
    remembered = next(event for event in events if event["kind"] == "remembered")
    remembered["verdict"]["message"] = "nothing was done"
    verdict = Verdict.model_validate(remembered["verdict"])
    remembered["entry"]["verdict_sha256"] = verdict_sha256(verdict)
    changed = edited(log[at], events=events)
    adopted = said(log[place(log, "custom-harness", 1)])["found"]
    retold = AuditRecord.model_validate_json(changed.value or b"").events
    assert not isinstance(retold, Blob)
    log[at] = edited(changed, state_after_sha256=digest(fold(WorkflowState.model_validate(adopted), retold)))
    return rechained(log)


def refuse(log: list[Record]) -> list[Record]:
    """A refusal with another code than the rules give."""
    at = next(number for number, record in enumerate(log) if said(record)["kind"] == "refused")
    verdict = said(log[at])["verdict"] | {"message": "because we say so"}
    log[at] = edited(log[at], verdict=verdict)
    return log


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (flip, [("evaluation", 2, 0, "unreadable", None), ("evaluation", 3, 0, "gap", 3)]),
        (drop, [("evaluation", 3, -1, "gap", 3)]),
        (
            insert,
            [
                ("evaluation", 2, 1, "decision", 3),
                ("evaluation", 3, 1, "repetition", 3),
                ("evaluation", 4, 1, "chain", 4),
                ("evaluation", 4, 1, "state_before", 4),
            ],
        ),
        (swap, [("evaluation", 2, 0, "gap", 3), ("evaluation", 3, 0, "order", 2)]),
        (double, [("end", 0, 0, "repetition", 2)]),
        (retell, [("custom-harness", 2, 0, "events", 2)]),
        (refuse, [("refused", 0, 0, "verdict", 0)]),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
async def test_a_change_is_an_error_with_its_position(
    stack: Stack, change: Change, found: list[tuple[str, int, int, str, int | None]]
) -> None:
    log = await log_of(stack)
    places = {"end": len(log), "refused": next(n for n, record in enumerate(log) if said(record)["kind"] == "refused")}
    expected = []
    for kind, sequence, shift, rule, number in found:
        at = places[kind] if kind in places else place(log, kind, sequence)
        expected.append((f"0:{at + shift}", rule, number))
    report = await verify(Changed(Log(stack.stream, stack.store), change(list(log))))
    assert errors(report) == expected


@pytest.mark.parametrize("to", [0, -1], ids=["before its state", "after later states"])
async def test_a_refusal_is_decided_on_its_own_state_wherever_it_stands(stack: Stack, to: int) -> None:
    log = await log_of(stack)
    at = next(number for number, record in enumerate(log) if said(record)["kind"] == "refused")
    moved = log.pop(at)
    report = await verify(Changed(Log(stack.stream, stack.store), [moved, *log] if to == 0 else [*log, moved]))
    assert (report.wrong, report.refused, report.undecided) == ((), 2, 0)


async def test_a_refusal_on_a_state_that_nobody_recorded_is_an_error(stack: Stack) -> None:
    log = await log_of(stack)
    at = next(number for number, record in enumerate(log) if said(record)["kind"] == "refused")
    log[at] = edited(log[at], state_before_sha256="0" * 64)
    report = await verify(Changed(Log(stack.stream, stack.store), log))
    assert errors(report) == [(f"0:{at}", "refused_on", 0)]


async def test_behind_a_head_that_was_cut_chains_go_on_and_what_is_not_decided_again_is_counted(stack: Stack) -> None:
    log = await log_of(stack)
    cut = place(log, "evaluation", 3)
    report = await verify(Changed(Log(stack.stream, stack.store), log[cut:], begins=cut), cut=True)
    left = [record for record in log[cut:] if said(record)["aggregate"]["type"] == "evaluation"]
    assert errors(report) == [(f"0:{cut}", "head_cut", None)]  # no checkpoint ends there
    assert report.undecided == len(left)


async def test_a_log_emptied_up_to_a_checkpoint_is_right_only_for_whoever_says_that_it_was_cut(stack: Stack) -> None:
    await Checkpointer(stack.stream, stack.clock, lambda: {0: 1}, SIGNED).once()
    whole, length = Log(stack.stream, stack.store), len(await stack.all(Topic.AUDIT))
    checkpoints = [("checkpoints 0:0", record.value or b"") for record in await stack.all(Topic.CHECKPOINTS)]
    emptied, keys = Changed(whole, [], checkpoints, begins=length), [KEYS["a"].public]
    report = await Verify(emptied, keys, BUILD).run()
    assert errors(report) == [(f"0:0-{length - 1}", "checkpoint_root", None)]
    assert errors(await Verify(emptied, keys, BUILD, cut=True).run()) == []


async def test_an_aggregate_removed_whole_is_missed_by_the_checkpoint_alone(stack: Stack) -> None:
    await Checkpointer(stack.stream, stack.clock, lambda: {0: 1}, SIGNED).once()
    whole, log = Log(stack.stream, stack.store), await stack.all(Topic.AUDIT)
    checkpoints = [("checkpoints 0:0", record.value or b"") for record in await stack.all(Topic.CHECKPOINTS)]
    left = [record for record in log if record.key != f"custom-harness/{HARNESS}".encode()]
    report = await Verify(Changed(whole, left, checkpoints), [KEYS["a"].public], BUILD).run()
    assert {(each.rule) for each in report.wrong} <= {"checkpoint_root", "tail_cut"}
    assert [each.where for each in report.wrong] == [f"0:0-{len(log) - 1}"]


async def test_a_payload_that_is_gone_is_an_error_of_each_record_that_names_it(stack: Stack) -> None:
    [name] = {said(record)["context"]["settings_sha256"] for record in await stack.all(Topic.AUDIT)}
    await stack.store.delete([f"blobs/{name}"])
    report = await verify(Log(stack.stream, stack.store))
    assert {each.rule for each in report.wrong} == {"payload"}
    assert len(report.wrong) == report.records - report.adopted - report.repeated


async def test_an_erased_person_is_counted_and_nothing_else_changes(stack: Stack) -> None:
    await stack.store.delete([personal_key(hashlib.sha256(b"boss@test").hexdigest())])
    report = await verify(Log(stack.stream, stack.store))
    assert (report.wrong, report.redacted) == ((), 2)


async def test_whoever_was_interrupted_goes_on_with_the_next_part(stack: Stack, tmp_path: Path) -> None:
    file, source = tmp_path / "progress.json", Log(stack.stream, stack.store)
    whole = await Verify(source, (), BUILD, part_records=4).run(file)
    progress = Progress.model_validate_json(file.read_bytes())
    assert len(progress.parts) > 1
    file.write_text(progress.model_copy(update={"parts": progress.parts[:1]}).model_dump_json())
    again = await Verify(source, (), BUILD).run(file)
    done = progress.parts[0].counts.get("records", 0)
    assert again.decided_records == whole.records - done
    assert again.model_dump(exclude={"decided_seconds", "decided_records"}) == whole.model_dump(
        exclude={"decided_seconds", "decided_records"}
    )


async def test_progress_of_another_build_or_log_is_refused(stack: Stack, tmp_path: Path) -> None:
    file, source = tmp_path / "progress.json", Log(stack.stream, stack.store)
    await Verify(source, (), "another build").run(file)
    with pytest.raises(Misconfigured, match="was begun by another build"):
        await Verify(source, (), BUILD).run(file)
    with pytest.raises(Misconfigured, match="another log"):
        await Verify(Changed(source, []), (), "another build").run(file)
    file.write_text("{}")
    with pytest.raises(Misconfigured, match="does not hold the progress"):
        await Verify(source, (), BUILD).run(file)
