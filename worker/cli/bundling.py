"""`worker audit export`, `import`, `checkpoints`, `keys` and `retention`: bundles out and in, and what seals the log.

An export reads only.  An import makes a data folder out of a bundle, in which every command that reads an audit log
finds it (WORKER_DATA_DIR); it never touches one that is there.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from schemas.base import Time
from worker import bootstrap, settings
from worker.adapters.sqlite import Database, SqliteStore, SqliteStream
from worker.audit import bundle
from worker.audit.bundle import Export, Exported, Scope
from worker.audit.checkpoints import lines
from worker.audit.retention import cuts
from worker.cli.exits import Exit, Wrong, complain
from worker.cli.opening import opened
from worker.cli.printing import say
from worker.client import aggregate
from worker.ports import Topic
from worker.settings import Settings
from worker.signing import load_public, public_pem


def trusted(given: Settings, files: Sequence[Path]) -> list[bytes]:
    """Public keys, 32 bytes each: those in the files, or else of the key that this worker signs with.

    Raises Misconfigured.
    """
    if files:
        return [load_public(file) for file in files]
    signers = bootstrap.signers(given, makes=False)
    return [signer.public for signer in (signers.now, signers.before) if signer]


async def export(
    to: Path, team: str | None, of: str | None, personal: Sequence[str], keys: Sequence[Path], *, as_json: bool
) -> Exit:
    """Write a bundle.  Raises Wrong, Misconfigured, Unavailable, Refused."""
    if team is not None and of is not None:
        raise Wrong("--team, --aggregate: only one of them")
    scope = Scope(team, _aggregate(of) if of is not None else None)
    public = trusted(settings.load(), keys)
    async with opened() as (ports, _):
        export = Export(ports.stream, ports.store, to, scope)
        done = await export.write(public, personal, build=bootstrap.build(), now=ports.clock.now())
    say([json.dumps(_told(done))] if as_json else [f"{to}: {done.records} records of {done.scope}"])
    for what, found in (("of payloads that the store lacks", done.missing), ("of unknown teams", done.unknown)):
        if found:
            complain(f"{len(found)} {what}, such as {min(found)}")
    return Exit.NO if done.missing else Exit.DONE


def _told(done: Exported) -> dict[str, object]:
    counts = {"scope": done.scope, "records": done.records, "checkpoints": done.checkpoints, "unsealed": done.unsealed}
    return counts | {"unknown": sorted(done.unknown), "missing": done.missing}


def _aggregate(name: str) -> str:
    """KIND/ID, as it is the key of the aggregate's records.  Raises Wrong, Invalid."""
    kind, slash, own = name.partition("/")
    if not slash:
        raise Wrong(f"--aggregate: {name} is not KIND/ID, such as evaluation/{name}")
    return aggregate(kind.replace("_", "-"), own).key


async def import_(folder: Path, into: Path, *, as_json: bool) -> Exit:
    """A new data folder that holds a bundle's records, checkpoints and payloads.  Raises Misconfigured."""
    manifest = bundle.manifest(folder)
    database = Database(into / "worker.db", partitions=len(manifest["partitions"]))
    if database.path.exists():
        raise Wrong(f"{database.path} exists; a bundle is imported into a new folder")
    stream, store = SqliteStream(database), SqliteStore(database)
    await store.start()
    try:
        counts = {}
        for name in ("records", "checkpoints"):
            counts[name] = await stream.restore(bundle.records(folder, name))
        for kept in ("blobs", "personal"):
            for path in sorted((folder / kept).glob("*")):
                await store.put(f"{kept}/{path.name}", path.read_bytes())
    finally:
        await store.stop()
    summary = f"{into}: {counts['records']} records, {counts['checkpoints']} checkpoints"
    partitions = f"WORKER_DATA_DIR={into} WORKER_PARTITIONS={database.partitions}"
    told = {"data_dir": str(into), "partitions": database.partitions, **counts}
    say([json.dumps(told)] if as_json else [summary, f"read it with {partitions} worker audit verify | show | rebuild"])
    return Exit.DONE


async def checkpoints(keys: Sequence[Path], *, as_json: bool) -> Exit:
    """Where each partition's line ends; exit code 1 where one does not stand.  Raises Misconfigured, Unavailable."""
    public = trusted(settings.load(), keys)
    async with opened() as (ports, _):
        judged = await lines(ports.stream, public)
        bounds = await ports.stream.bounds(Topic.AUDIT)
    last = {number: line[-1] for number, line in sorted(bundle.trunks(judged).items())}
    for number, (_, end) in sorted(bounds.items()):
        made = last.get(number)
        fields = {
            "partition": number,
            "log_end": end,
            "sealed_to": made.end if made else 0,
            "at": made.at if made else None,
            "sequence": made.sequence if made else 0,
            "sha256": made.name if made else None,
            "key_id": made.key_id if made else None,
        }
        text = f"partition {number}: {end} records, sealed to {fields['sealed_to']}"
        more = f", {made.at}, checkpoint {made.sequence} {made.name}, key {made.key_id or 'none'}" if made else ""
        say([json.dumps(fields) if as_json else text + more])
    for problem in judged.problems:
        complain(f"{problem.where} {problem.rule} {problem.text}")
    return Exit.NO if judged.problems else Exit.DONE


async def retention(before: str, keys: Sequence[Path], *, as_json: bool) -> Exit:
    """How far each partition's head may be cut; cuts nothing.  Raises Wrong, Misconfigured, Unavailable, Refused."""
    try:
        time: datetime = TypeAdapter(Time).validate_python(before)
    except ValidationError:
        raise Wrong(f"--before: {before} must be an RFC 3339 time, such as 2026-01-31T12:00:00Z") from None
    public = trusted(settings.load(), keys)
    async with opened() as (ports, _):
        found = await cuts(ports.stream, await lines(ports.stream, public), time)
    for cut in found:
        counts = {"records": cut.records, "ended": len(cut.ended), "going_on": len(cut.going_on)}
        fields = {"partition": cut.partition, "offset": cut.offset, "at": cut.at, **counts}
        text = f"partition {cut.partition}: below {cut.offset}; {cut.records} records of {len(cut.ended)} aggregates"
        more = f", and the beginnings of {len(cut.going_on)} that go on" if cut.going_on else ""
        say([json.dumps(fields) if as_json else text + more])
    return Exit.DONE


async def print_keys(*, as_json: bool) -> Exit:
    """The public keys of this worker's own, as PEM.  Raises Misconfigured."""
    signers = bootstrap.signers(settings.load(), makes=False)
    found = [signer for signer in (signers.now, signers.before) if signer]
    for signer in found:
        pem = public_pem(signer.public).decode()
        fields = {"key_id": signer.key_id, "public_key": pem}
        say([json.dumps(fields)] if as_json else [signer.key_id, *pem.splitlines()])
    if not found:
        complain("not_found: checkpoints are not signed here: WORKER_AUDIT_KEY_FILE is not set")
    return Exit.DONE if found else Exit.NO
