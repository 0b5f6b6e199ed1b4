"""The command line.  Exit codes: 0 done, 1 the answer is no, 2 wrong usage or settings, 3 no verdict in time."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

if TYPE_CHECKING:
    from worker.ports import Outgoing

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
create_app = typer.Typer(no_args_is_help=True)
app.add_typer(create_app, name="create", help="Create an aggregate, and start what it is about.")
PERMISSIONS = ["agent:write", "session:write", "harness:manage", "workflow:report"]


@app.callback()
def about() -> None:
    """A worker that makes cancel and update trustworthy: commands in, evidence out."""


def _run(work: Coroutine[Any, Any, int]) -> None:
    from worker.errors import Misconfigured, Unavailable

    try:
        code = asyncio.run(work)
    except (Misconfigured, Unavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)


@app.command()
def run() -> None:
    """Consume commands until SIGTERM (drains) or a second one (stops at once; nothing is lost either way)."""
    _run(_worker())


async def _worker() -> int:
    from worker import bootstrap, settings

    return await bootstrap.service(settings.load()).run()


@create_app.command("evaluation")
def create_evaluation(
    command: Annotated[str, typer.Option("--run", help="Command that is the evaluation; it runs in its own session.")],
    team: Annotated[str, typer.Option(help="Team that owns it.")] = "demo",
) -> None:
    """Start a command, record it as a running evaluation, and print its id."""
    _run(_create_evaluation(command, team))


async def _create_evaluation(command: str, team: str) -> int:
    import shlex

    from schemas.documents import WorkflowState
    from worker import bootstrap, settings
    from worker.adapters.processes import launch

    name = str(uuid4())
    job = launch(name, shlex.split(command))
    now = datetime.now(UTC)
    whole = {"workflow_id": name, "team_id": team, "status": "running", "created_at": now, "started_at": now}
    state = WorkflowState.model_validate(
        {**whole, "jobs": [{"namespace": job.namespace, "name": job.name, "uid": job.uid}]}
    )
    ports = bootstrap.ports(settings.load())
    await ports.store.start()
    body = {"state": state.model_dump(mode="json")}
    await ports.store.create(f"workflows/{name}.json", json.dumps(body).encode())
    request = json.dumps({"command": command}).encode()
    await ports.store.put(f"teams/{team}/evaluations/{name}/request.json", request)
    await ports.store.stop()
    typer.echo(name)
    return 0


@app.command()
def send(
    type_or_file: Annotated[
        str, typer.Argument(help="A command's type with an ID, or a file of its data (- is stdin).")
    ],
    aggregate_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="What it acts on.")] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    team: Annotated[str, typer.Option(help="The actor's team.")] = "demo",
    subject: Annotated[str, typer.Option(help="The actor.")] = "cli",
    kind: Annotated[str, typer.Option("--type", help="The type, where a file is sent.")] = "evaluation.cancel",
    data: Annotated[str, typer.Option(help="Further fields, as a JSON object.")] = "{}",
    wait: Annotated[float, typer.Option(help="Seconds to wait for the verdict; 0: do not.")] = 0,
) -> None:
    """Publish a command; with --wait print its verdict."""
    if aggregate_id is None:
        text = sys.stdin.read() if type_or_file == "-" else Path(type_or_file).read_text()
        body, command_type = json.loads(text), kind
    else:
        command_type = type_or_file
        actor = {"subject": subject, "team_ids": [team], "permissions": PERMISSIONS}
        body = {"actor": actor, "reason": reason, _id_field(command_type): aggregate_id, **json.loads(data)}
    _run(_send(command_type, body, wait))


def _id_field(command_type: str) -> str:
    if command_type.startswith(("session.", "turn.")):
        return "session_id"
    return "harness_id" if command_type.startswith(("custom_harness.", "harness.")) else "evaluation_id"


async def _send(command_type: str, body: dict[str, Any], wait: float) -> int:
    from worker import bootstrap, settings
    from worker.ports import Topic

    stream = bootstrap.ports(settings.load()).stream
    command_id = str(uuid4())
    try:
        before = {partition: end for partition, (_, end) in (await stream.bounds(Topic.RESULTS)).items()}
        await stream.publish([_message(command_type, command_id, body)])
        if not wait:
            typer.echo(command_id)
            return 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                async for record in stream.read(Topic.RESULTS, before, follow=True):
                    verdict = json.loads(record.value or b"{}")
                    if verdict.get("command", {}).get("id") == command_id:
                        typer.echo(json.dumps(verdict, indent=2))
                        return 0 if verdict["http_status"] < 400 else 1
        typer.echo(f"no verdict within {wait:g} s; the command {command_id} is published", err=True)
        return 3
    finally:
        await stream.stop()


def _message(command_type: str, command_id: str, body: dict[str, Any]) -> "Outgoing":
    from schemas.cloudevents import headers
    from worker.ports import Outgoing, Topic

    fields = {"evaluation_id": "evaluation", "session_id": "session", "org_id": "org", "harness_id": "custom-harness"}
    key = next((f"{kind}/{str(body[name]).lower()}" for name, kind in fields.items() if name in body), "unknown")
    ce = headers(id=command_id, type=command_type, time=datetime.now(UTC), subject=key, source="worker-cli")
    return Outgoing(Topic.COMMANDS, key.encode(), json.dumps(body).encode(), ce)


@app.command()
def results(
    follow: Annotated[bool, typer.Option(help="Wait for more.")] = False,
) -> None:
    """Print verdicts, a JSON object a line."""
    _run(_print("results", follow))


@app.command()
def status(
    follow: Annotated[bool, typer.Option(help="Wait for more.")] = False,
) -> None:
    """Print status events, a JSON object a line."""
    _run(_print("status", follow))


async def _print(topic: str, follow: bool) -> int:
    from worker import bootstrap, settings
    from worker.ports import Topic

    stream = bootstrap.ports(settings.load()).stream
    try:
        start = {partition: first for partition, (first, _) in (await stream.bounds(Topic(topic))).items()}
        async for record in stream.read(Topic(topic), start, follow=follow):
            typer.echo((record.value or b"").decode())
    finally:
        await stream.stop()
    return 0


def main() -> None:
    """Entry point of the command `worker`."""
    app()
