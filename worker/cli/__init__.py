"""The command line: what each command is called and takes; what it does is loaded only when it runs.

Exit codes are those of exits.py.  Every command but `run` has `--json`.  Nothing here may import more than typer and
the standard library, so that `worker --help` is there at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.auditing import audit_app
from worker.cli.exits import run as leave_with

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
dead_letters_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
harness_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
topics_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(audit_app, name="audit", help="What the audit log says, and whether it is true.")
app.add_typer(dead_letters_app, name="dead-letters", help="Records that nobody could act on.")
app.add_typer(harness_app, name="harness", help="Harnesses of an org.")
app.add_typer(topics_app, name="topics", help="Kafka's topics, of the stack `services`.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Follow = Annotated[bool, typer.Option("--follow", help="Wait for more, until interrupted.")]


@app.callback()
def about() -> None:
    """A worker that makes cancel and update trustworthy: commands in, evidence out.

    Exit codes: 0 done, 1 the answer is no, 2 wrong usage, setting or input, or a service that cannot be reached,
    3 no verdict in time. Settings come from the environment: see `worker check`.
    """


@app.command()
def run() -> None:
    """Consume commands until SIGTERM.

    It drains; a second SIGTERM stops at once; nothing is lost either way.
    """
    from worker.cli.serving import serve

    leave_with(serve())


@app.command()
def demo(as_json: Json = False) -> None:
    """Cancel real things, and check what was promised.

    Starts a worker of its own, child processes, an A2A agent and an executor; ends what it started.
    """
    from worker.cli.serving import play

    leave_with(play(as_json=as_json))


@app.command()
def create(
    what: Annotated[
        str, typer.Argument(metavar="FILE|evaluation", help="A JSON file (-: stdin), or `evaluation` with --run.")
    ],
    command: Annotated[
        str | None,
        typer.Option("--run", help="With `evaluation`: its Job, a command, started in its own group."),
    ] = None,
    team: Annotated[str | None, typer.Option(help="With --run: the team that owns it. Default: demo.")] = None,
    as_json: Json = False,
) -> None:
    """Write a new aggregate's document and print its id.

    What exists stays as it is. FILE is a JSON object with `kind` (workflow, session, org or custom_harness) and the
    fields of the published document's state; a workflow may have its `request` beside it, an org has whole harnesses.
    """
    from worker.cli import creating

    leave_with(creating.create(what, command, team, as_json=as_json))


@app.command()
def send(
    context: typer.Context,
    what: Annotated[str, typer.Argument(metavar="TYPE|FILE", help="A command type with an ID; or a file (-: stdin).")],
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Evaluation, custom harness, session or harness.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    subject: Annotated[str, typer.Option(help="Who asks.")] = "cli",
    team: Annotated[list[str] | None, typer.Option(help="The actor's team; may be repeated. Default: demo.")] = None,
    permission: Annotated[
        list[str] | None, typer.Option(help="The actor's permission; may be repeated. Default: what the type needs.")
    ] = None,
    org: Annotated[str | None, typer.Option(help="The actor's org, and whose harness it is.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The actor's tenant.")] = None,
    team_id: Annotated[str | None, typer.Option(help="The team that owns the custom harness.")] = None,
    creation: Annotated[
        bool, typer.Option("--creation", help="ID is a custom harness, whose creation is meant (workflow.*).")
    ] = False,
    expected_version: Annotated[int | None, typer.Option(help="Refuse unless it has this version.")] = None,
    expires_at: Annotated[str | None, typer.Option(help="Refuse after this time (RFC 3339).")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Carried into the verdict.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")] = False,
    data: Annotated[str, typer.Option(help="Further fields, as a JSON object; of harness.update: the changes.")] = "{}",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One such field: name=text, or name:=JSON; may be repeated.")
    ] = None,
    command_id: Annotated[
        str | None, typer.Option("--id", help="The command's id; to repeat a command, give its id and time.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="The command's ce_time (RFC 3339).")] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the verdict and print it; 0: print the command's id.")
    ] = 0,
    raw: Annotated[bool, typer.Option("--raw", help="Publish without a check against the schema.")] = False,
    as_json: Json = False,
) -> None:
    """Publish commands; with --wait print the verdict on each.

    FILE holds commands: structured CloudEvents {specversion, id, type, source, time, data}, or records {key, headers,
    value}; one object, an array, or one a line.
    """
    from worker.cli.commands import Flags
    from worker.cli.sending import publish

    common = {"expires_at": expires_at, "expected_version": expected_version, "correlation_id": correlation_id}
    flags = Flags(
        given=_given(context, but=("what", "name", "wait", "raw", "as_json")),
        subject=subject,
        reason=reason,
        teams=tuple(team or ("demo",)),
        permissions=tuple(permission or ()),
        org=org,
        tenant=tenant,
        team_id=team_id,
        creation=creation,
        common=common | ({"dry_run": True} if dry_run else {}),
        data=data,
        settings=tuple(settings or ()),
        command_id=command_id,
        time=time,
    )
    leave_with(publish(what, name, flags, raw=raw, wait_seconds=wait, as_json=as_json))


def _given(context: typer.Context, *, but: tuple[str, ...]) -> tuple[str, ...]:
    """The flags that stand on the command line."""
    parameters = [each for each in context.command.params if each.name and each.name not in but]
    sources = {each.opts[0]: context.get_parameter_source(str(each.name)) for each in parameters}
    return tuple(flag for flag, source in sources.items() if source and source.name == "COMMANDLINE")


@app.command()
def results(follow: Follow = False, as_json: Json = False) -> None:
    """Print verdicts, a line each.

    With --json, exactly as published.
    """
    from worker.cli.reading import print_results

    leave_with(print_results(follow=follow, as_json=as_json))


@app.command()
def status(follow: Follow = False, as_json: Json = False) -> None:
    """Print changes of status, a line each."""
    from worker.cli.reading import print_status

    leave_with(print_status(follow=follow, as_json=as_json))


@app.command()
def show(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="evaluation, custom-harness, session or org.")],
    name: Annotated[str, typer.Argument(metavar="ID")],
    as_json: Json = False,
) -> None:
    """Print an aggregate's document and its story.

    Who, why, when, what was decided, and the evidence.
    """
    from worker.cli import showing

    leave_with(showing.show(kind, name, as_json=as_json))


@harness_app.callback()
def about_harnesses() -> None:
    """Harnesses of an org."""


@harness_app.command("get")
def harness_get(
    name: Annotated[str, typer.Argument(metavar="ID|NAME", help="A harness's id or name, or `default`.")],
    org: Annotated[str, typer.Option(help="The actor's org.")],
    permission: Annotated[
        list[str] | None, typer.Option(help="The actor's permission; may be repeated. Default: harness:view.")
    ] = None,
    effective: Annotated[bool, typer.Option("--effective", help="Merged with its parents.")] = False,
    as_json: Json = False,
) -> None:
    """Print a harness as it is stored, or merged with its parents."""
    from worker.cli import showing

    permissions = tuple(permission or ("harness:view",))
    leave_with(showing.get_harness(name, org, permissions, resolved=effective, as_json=as_json))


@dead_letters_app.command("list")
def dead_letters_list(as_json: Json = False) -> None:
    """Print dead letters, a line each.

    The command record's partition:offset, time and reason.
    """
    from worker.cli.reading import list_dead_letters

    leave_with(list_dead_letters(as_json=as_json))


@dead_letters_app.command("show")
def dead_letters_show(
    at: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="Where the command record stood.")],
    as_json: Json = False,
) -> None:
    """Print a dead letter whole: reason, headers, bytes."""
    from worker.cli.reading import show_dead_letter

    leave_with(show_dead_letter(at, as_json=as_json))


@topics_app.command("create")
def topics_create(as_json: Json = False) -> None:
    """Make the topics that are missing, with WORKER_PARTITIONS partitions; leave those that are there."""
    from worker.cli import topics

    leave_with(topics.create(as_json=as_json))


@topics_app.command("check")
def topics_check(as_json: Json = False) -> None:
    """Check partitions, retention and sizes of the topics, and how long positions are kept."""
    from worker.cli import topics

    leave_with(topics.check(as_json=as_json))


@app.command()
def check(as_json: Json = False) -> None:
    """Print the settings and probe each dependency.

    Settings as they are in effect, secrets as stars.
    """
    from worker.cli import checking

    leave_with(checking.check(as_json=as_json))


@app.command()
def reconcile(as_json: Json = False) -> None:
    """Go on now with what is unsettled and due.

    Publishes resume commands, and prints how many.
    """
    from worker.cli import serving

    leave_with(serving.reconcile(as_json=as_json))


@app.command()
def simulate(
    seeds: Annotated[int, typer.Option(min=1, help="How many simulations.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The first one's seed; the others follow.")] = 0,
    workers: Annotated[int, typer.Option(min=1, max=20, help="Workers in each.")] = 3,
    commands: Annotated[int, typer.Option(min=1, help="Commands in each.")] = 100,
    faults: Annotated[
        Path | None, typer.Option(dir_okay=False, help="A TOML file: how often each fault comes. Default: all of them.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a core.")] = None,
    as_json: Json = False,
) -> None:
    """Run the worker through bad days: crashes, zombies, outages.

    The same code on virtual time, against models of Kafka, S3, Kubernetes, agents and executors, with your settings.
    A seed that breaks a promise is made smaller, and told as a story; seeds that ever failed run first.
    """
    from worker.cli import simulating

    asked = simulating.Asked(seeds, seed, workers, commands, faults, jobs)
    leave_with(simulating.simulate(asked, as_json=as_json))


@app.command()
def diagram(
    name: Annotated[str | None, typer.Argument(help="workflow, turn, session or harness; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Print the lifecycles as Mermaid state diagrams.

    They are drawn from the tables that decide.
    """
    from worker.cli import serving

    leave_with(serving.draw(name, as_json=as_json))


def main() -> None:
    """Entry point of the command `worker`."""
    app()
