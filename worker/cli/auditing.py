"""`worker audit ...`: what each command is called and takes; what it does is loaded only when it runs.

As light as the rest of the command line: nothing here may import more than typer and the standard library.
"""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.exits import run as leave_with

audit_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Kind = Annotated[str, typer.Argument(metavar="KIND", help="evaluation, custom-harness, session or org.")]
Name = Annotated[str, typer.Argument(metavar="ID")]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", help="A public key in PEM that is trusted; may be repeated. Default: this worker's."),
]


@audit_app.command()
def verify(
    bundle: Annotated[Path | None, typer.Option(help="A folder that `audit export` wrote. Default: the stack.")] = None,
    key: Keys = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keeps progress; goes on where that ended.")
    ] = None,
    cut: Annotated[
        bool, typer.Option("--cut", help="The log's head was cut on purpose, where a checkpoint ends.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Decide everything again, and check chains and checkpoints.

    Every error is named with its position; exit code 1 where there is one.
    """
    from worker.cli import replaying

    leave_with(replaying.verify(bundle, key or [], resume, cut=cut, as_json=as_json))


@audit_app.command()
def rebuild(
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new data folder (WORKER_DATA_DIR) to write into.")
    ] = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Write the documents that the live store lacks.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make all documents anew from the log.

    They are compared with the live ones, byte by byte of state; without a place to write to, that is all.
    """
    from worker.cli import replaying

    leave_with(replaying.rebuild(into, only_missing=only_missing, as_json=as_json))


@audit_app.command()
def show(kind: Kind, name: Name, as_json: Json = False) -> None:
    """Print an aggregate's records: story, coordinates, hashes."""
    from worker.cli import replaying

    leave_with(replaying.show(kind, name, as_json=as_json))


@audit_app.command()
def state(
    kind: Kind,
    name: Name,
    at: Annotated[
        str,
        typer.Option(
            metavar="TIME|PARTITION:OFFSET|VERSION",
            help="RFC 3339; a record of the audit topic; or the last record of a version.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Print the state that an aggregate had then."""
    from worker.cli import replaying

    leave_with(replaying.state(kind, name, at, as_json=as_json))


# ------------------------------------------------------------------------------ bundles, and what seals the log


@audit_app.command()
def export(
    to: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    team: Annotated[str | None, typer.Option(help="Only the part of this team.")] = None,
    aggregate: Annotated[
        str | None, typer.Option(metavar="KIND/ID", help="Only the part of this aggregate, such as session/ID.")
    ] = None,
    with_personal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SUBJECT", help="Add the key to this person's fields; may be repeated. Default: nobody's."
        ),
    ] = None,
    key: Keys = None,
    as_json: Json = False,
) -> None:
    """Write the log, or a part, as a bundle for anybody to verify.

    Its verify_bundle.py needs Python and `cryptography` only, and says what it proves. Exit code 1: a payload is gone.
    """
    from worker.cli import bundling

    leave_with(bundling.export(to, team, aggregate, with_personal or [], key or [], as_json=as_json))


@audit_app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A bundle.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="A new data folder, of the embedded stack.")],
    as_json: Json = False,
) -> None:
    """Make a data folder out of a bundle.

    Every command that reads a log works on it then.
    """
    from worker.cli import bundling

    leave_with(bundling.import_(folder, into, as_json=as_json))


@audit_app.command()
def checkpoints(key: Keys = None, as_json: Json = False) -> None:
    """Print how far each partition of the log is sealed.

    A line each. Keep the hashes elsewhere, and nobody can cut the log behind them. Exit code 1: one does not stand.
    """
    from worker.cli import bundling

    leave_with(bundling.checkpoints(key or [], as_json=as_json))


@audit_app.command()
def keys(as_json: Json = False) -> None:
    """Print the public keys that this worker signs with."""
    from worker.cli import bundling

    leave_with(bundling.print_keys(as_json=as_json))


@audit_app.command()
def retention(
    before: Annotated[str, typer.Option(metavar="TIME", help="RFC 3339.")], key: Keys = None, as_json: Json = False
) -> None:
    """Print how far the head of the log may be cut; cut nothing.

    A head may be cut where a checkpoint ends. Export it first: chains that go on behind it cannot be rebuilt any more.
    """
    from worker.cli import bundling

    leave_with(bundling.retention(before, key or [], as_json=as_json))


@audit_app.command()
def drift(
    fix: Annotated[bool, typer.Option("--fix", help="Publish the commands that may settle it, and wait.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="With --fix: seconds to wait for the verdicts.")] = 180,
    cancelling: Annotated[
        float, typer.Option("--cancelling-seconds", min=0, help="How long a cancel may take before it is drift.")
    ] = 3600,
    as_json: Json = False,
) -> None:
    """Compare the log with documents, cluster and agents.

    What is cancelled and still runs, documents changed or deleted behind the worker's back, partial data after the
    receipt, cancels that take too long. Exit code 1 where anything drifts; after --fix, where anything is left.
    """
    from worker.cli import drifting

    leave_with(drifting.drift(fix=fix, wait_seconds=wait, bound_seconds=cancelling, as_json=as_json))


@audit_app.command()
def erase(
    subject: Annotated[str, typer.Argument(help="The person, as commands name their actor.")],
    counts: Annotated[bool, typer.Option("--count/--no-count", help="Count the records; reads the whole log.")] = True,
    as_json: Json = False,
) -> None:
    """Make a person's fields in audit records unreadable, for ever.

    Removes their key; the chain stays whole. Can be repeated.
    """
    from worker.cli import drifting

    leave_with(drifting.erase(subject, counts=counts, as_json=as_json))
