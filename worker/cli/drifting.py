"""`worker audit drift` and `worker audit erase`: the log against what is there now, and a person out of the log.

Drift finds; with `--fix` the commands that may settle a finding are published as anybody would publish them, their
verdicts printed, and everything is looked at once more.  Writes no document.
"""

import json
from collections.abc import Iterator

from worker import settings
from worker.audit.drift import Drift, Report
from worker.audit.erase import count
from worker.audit.erase import erase as erase_key
from worker.audit.findings import Finding
from worker.cli.exits import Exit, complain
from worker.cli.opening import opened
from worker.cli.printing import indented, say, verdict_lines
from worker.client import Client, Result, prepare


async def drift(*, fix: bool, wait_seconds: float, bound_seconds: float, as_json: bool) -> Exit:
    """Say what is not as the log says; settle what may be.  Raises Misconfigured, Unavailable."""
    label = settings.load().decisions.job_label
    async with opened() as (ports, client):
        await ports.jobs.start()
        await ports.agents.start()
        try:
            first = await Drift(ports, label, bound_seconds).look()
            asked = await _settle(client, first, wait_seconds) if fix else []
            left = await Drift(ports, label, bound_seconds).look() if asked else first
        finally:
            await ports.agents.stop()
            await ports.jobs.stop()
    if as_json:
        told = {
            **first.model_dump(mode="json", exclude_none=True),
            "verdicts": [json.loads(result.body) for result in asked if result],
            "left": [finding.model_dump(mode="json", exclude_none=True) for finding in left.findings],
        }
        say([json.dumps(told)])
    else:
        say(_lines(first, asked, left))
    return _exit(asked, left)


async def erase(subject: str, *, counts: bool, as_json: bool) -> Exit:
    """Remove a person's key.  Raises Misconfigured, Unavailable."""
    async with opened(writes=True) as (ports, _):
        erased = await erase_key(ports.store, subject)
        if counts:
            erased = erased.model_copy(update={"records": await count(ports.stream, erased.subject_sha256)})
    if as_json:
        say([erased.model_dump_json(exclude_none=True)])
        return Exit.DONE
    records = "records were not counted" if erased.records is None else _count(erased.records, "record")
    done = "erased" if erased.had_key else "no key was there: erased before, or never seen"
    say([f"{done}; {records}, sealed for {erased.subject_sha256}"])
    say(["verdicts and command records that name the person go with their own retention: schemas/AUDIT.md"])
    return Exit.DONE


async def _settle(client: Client, report: Report, wait_seconds: float) -> list[Result | None]:
    """Publish what may settle the findings, each command once, and wait for the verdicts."""
    asks = {finding.ask.id: finding.ask for finding in report.findings if finding.ask}
    return await client.ask([prepare(ask.type, ask.data, id=ask.id) for ask in asks.values()], wait_seconds)


def _exit(asked: list[Result | None], left: Report) -> Exit:
    if None in asked:
        complain("no verdict in time on some commands; is a worker running? They are published, and answered later")
        return Exit.LATE
    if left.unreachable:
        complain(f"could not be asked: {'; '.join(left.unreachable)}")
    if left.findings:
        return Exit.NO
    return Exit.WRONG if left.unreachable else Exit.DONE


def _lines(first: Report, asked: list[Result | None], left: Report) -> Iterator[str]:
    yield f"{_count(first.records, 'record')}, {_count(first.documents, 'document')}, {_number(first.findings)}"
    for finding in first.findings:
        yield from indented(_finding_lines(finding))
    if first.unasked:
        yield f"{_count(first.unasked, 'cancelled turn')} not looked at: executors cannot be asked about one"
    for result in asked:
        if result:
            yield from verdict_lines(result.verdict)
    if asked:
        yield f"left: {_number(left.findings)}"
        for finding in left.findings:
            yield from indented(_finding_lines(finding))


def _number(findings: tuple[Finding, ...]) -> str:
    return _count(len(findings), "finding") if findings else "nothing drifted"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.kind}  {finding.aggregate or '-'}"
    yield f"  what        {finding.what}"
    yield f"  how         {finding.detail}"
    yield f"  settled by  {finding.settled_by}"
