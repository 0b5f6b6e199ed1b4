"""`worker audit verify`, `rebuild`, `show` and `state`: the audit log told, checked, and made into documents again."""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from schemas.base import time_text
from worker import bootstrap, settings
from worker.adapters.sqlite import SqliteStore
from worker.audit import history
from worker.audit.rebuild import Rebuild, Rebuilt
from worker.audit.source import Bundle, Log, Source
from worker.audit.verify import Report, Verify
from worker.cli.bundling import trusted
from worker.cli.exits import Exit, Wrong, complain
from worker.cli.opening import opened
from worker.cli.printing import columns, indented, say
from worker.cli.showing import chapter_lines
from worker.cli.story import story
from worker.client import aggregate
from worker.ports import DocumentStore
from worker.sealing import Sealer


async def verify(folder: Path | None, keys: Sequence[Path], resume: Path | None, *, cut: bool, as_json: bool) -> Exit:
    """Say what is wrong with the log.  Raises Misconfigured, Unavailable."""
    public = trusted(settings.load(), keys)
    async with _source(folder) as source:
        with _progress("verify") as tick:
            report = await Verify(source, public, bootstrap.build(), cut=cut).run(resume, tick)
    say([report.model_dump_json()] if as_json else _report_lines(report))
    return Exit.NO if report.wrong else Exit.DONE


async def rebuild(into: Path | None, *, only_missing: bool, as_json: bool) -> Exit:
    """Documents from the log.  Raises Wrong, Misconfigured, Unavailable."""
    if into is not None and only_missing:
        raise Wrong("--into, --only-missing: only one of them")
    async with opened(writes=only_missing) as (ports, _), AsyncExitStack() as stack:
        target = ports.store if only_missing else None
        if into is not None:
            target = await stack.enter_async_context(_empty(into))
        with _progress("rebuild") as tick:
            rebuilt = await Rebuild(ports.stream, ports.store, target, ports.ids).run(tick)
    say([rebuilt.model_dump_json()] if as_json else _rebuilt_lines(rebuilt))
    filled = only_missing and all(each.how == "missing" for each in rebuilt.unlike)
    return Exit.NO if rebuilt.wrong or (rebuilt.unlike and not filled) else Exit.DONE


async def show(kind: str, name: str, *, as_json: bool) -> Exit:
    """An aggregate's records.  Raises Invalid for a malformed id, Misconfigured, Unavailable."""
    wanted = aggregate(kind.replace("_", "-"), name)
    async with opened() as (ports, client):
        placed = [each async for each in history.history(Log(ports.stream, ports.store), wanted)]
        chapters = await story(client, Sealer(ports.store, ports.ids), wanted)
    if not placed and not chapters:
        complain(f"not_found: there is no record of {wanted.key}")
        return Exit.NO
    records = [_record(each) for each in placed]
    if as_json:
        told = [chapter.model_dump(mode="json", exclude_none=True) for chapter in chapters]
        say([json.dumps({"aggregate": wanted.key, "records": records, "story": told})])
    else:
        say(
            [
                f"{wanted.key}: {len(placed)} records",
                *indented(line for each in chapters for line in chapter_lines(each)),
            ]
        )
        say(["records", *indented(line for record in records for line in _record_lines(record))])
    return Exit.DONE


async def state(kind: str, name: str, at: str, *, as_json: bool) -> Exit:
    """The state then.  Raises Wrong, Invalid for a malformed id, Misconfigured, Unavailable."""
    wanted = aggregate(kind.replace("_", "-"), name)
    try:
        when = history.point(at)
    except ValueError as error:
        raise Wrong(f"--at: {error}") from None
    async with opened() as (ports, _):
        found = await history.state_at(Log(ports.stream, ports.store), wanted, when)
    if found is None:
        complain(f"not_found: there is no record of {wanted.key} by then")
        return Exit.NO
    if found.state is None:
        complain(f"{wanted.key}: its state cannot be told at {found.where}; `worker audit verify` says why")
        return Exit.NO
    fields = found.state.model_dump(mode="json")
    if as_json:
        say([json.dumps({**_record(found), "state": fields})])
    else:
        say([f"{wanted.key} after record {found.told.record.audit_seq} at {found.where}"])
        say(indented(columns((key, json.dumps(value, ensure_ascii=False)) for key, value in fields.items())))
    return Exit.DONE


# ------------------------------------------------------------------------------ where from, where to


@asynccontextmanager
async def _source(folder: Path | None) -> AsyncIterator[Source]:
    if folder is not None:
        yield Bundle(folder)
        return
    async with opened() as (ports, _):
        yield Log(ports.stream, ports.store)


@asynccontextmanager
async def _empty(folder: Path) -> AsyncIterator[DocumentStore]:
    """The store of a new data folder.  Raises Wrong, Misconfigured, Unavailable."""
    database = bootstrap.database(settings.load().model_copy(update={"data_dir": folder}))
    if database.path.exists():
        raise Wrong(f"--into: {database.path} exists; documents are rebuilt into a new folder")
    store = SqliteStore(database)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns_shown = (
        SpinnerColumn(),
        TextColumn(what),
        MofNCompleteColumn(),
        TextColumn("records"),
        TimeElapsedColumn(),
    )
    with Progress(*columns_shown, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done: bar.advance(task, done)


# ------------------------------------------------------------------------------ lines


def _report_lines(report: Report) -> Iterator[str]:
    yield f"{report.records} records of {report.aggregates} aggregates, {_number(len(report.wrong))}"
    notes = ("repeated", "refused", "adopted", "undecided", "redacted")
    yield from indented(columns([(name, str(getattr(report, name))) for name in notes]))
    for build, number in sorted(report.builds.items()):
        yield f"  decided by {build}: {number}"
    for each in report.covered or ():
        until = f"up to {each.partition}:{each.end}, made {each.at}" if each.at else "by no checkpoint"
        yield f"  partition {each.partition} covered {until}; {each.after} records behind that"
    if report.covered is None:
        yield "  checkpoints: this is the bundle of a part; its verify_bundle.py checks their proofs"
    rate = report.decided_records / report.decided_seconds if report.decided_seconds else 0
    yield f"  {report.decided_records} records in {report.decided_seconds:.1f} s, {rate:.0f} a second"
    for wrong in report.wrong:
        sequence = f" number {wrong.audit_seq}" if wrong.audit_seq is not None else ""
        yield f"{wrong.where}  {wrong.rule}  {wrong.aggregate or '-'}{sequence}: {wrong.text}"


def _rebuilt_lines(rebuilt: Rebuilt) -> Iterator[str]:
    yield f"{rebuilt.records} records, {rebuilt.documents} documents, {_number(len(rebuilt.wrong))}"
    yield from indented(columns([(name, str(getattr(rebuilt, name))) for name in ("equal", "written", "kept")]))
    for unlike in rebuilt.unlike:
        yield f"{unlike.how}  {unlike.key}, number {unlike.audit_seq}"
    for wrong in rebuilt.wrong:
        yield f"{wrong.where}  {wrong.rule}  {wrong.aggregate or '-'}: {wrong.text}"


def _number(errors: int) -> str:
    return f"{errors} error{'s' * (errors != 1)}" if errors else "no error"


def _record(placed: history.Placed) -> dict[str, object]:
    record = placed.told.record
    return {
        "at": placed.where,
        "audit_seq": record.audit_seq,
        "kind": record.kind,
        "decided_at": time_text(record.context.now),
        "build": record.context.build,
        "sha256": placed.told.sha256,
        "previous_sha256": record.previous_sha256,
        "state_before_sha256": record.state_before_sha256,
        "state_after_sha256": record.state_after_sha256,
    }


def _record_lines(record: dict[str, object]) -> Iterator[str]:
    yield f"{record['at']}  {record['kind']} {record['audit_seq']}  {record['decided_at']}  {record['build']}"
    for name in ("sha256", "previous_sha256", "state_before_sha256", "state_after_sha256"):
        if record[name]:
            yield f"       {name:20}  {record[name]}"
