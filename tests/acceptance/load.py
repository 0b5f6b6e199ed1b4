"""What the crash test sends: aggregates with real processes, and a seeded story of commands for each of them.

The story (which commands, in which order) follows from the seed; ids are fresh in every run, so that processes which an
aborted run left behind are nobody's.  Knows the published language and how a Job is marked, nothing of the runtime.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import uuid4

from schemas.base import time_text
from schemas.cloudevents import headers
from schemas.documents import Job, OrgState, SessionState, WorkflowState
from schemas.harness import Harness, HarnessEntry
from worker.adapters.processes import EVALUATION_MARKER, JOB_MARKER, boot_id, start_time
from worker.ledger import blob_of
from worker.ports import Outgoing, Topic

TEAM, TENANT = "team-1", "tenant-1"
PERMISSIONS = ("agent:write", "workflow:report", "session:write", "harness:manage")
JOB_LABEL = "verdict-worker/evaluation-id"
MALFORMED = ("chaos-malformed", b"1")
"""The header on what is malformed on purpose: the dead letters must be exactly these."""
CONTROLS = "chaos/controls"
"""The object that names the processes which nobody asked to stop: [[pid, start time], ...]."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command to publish, its kind for the table, and what has to be started right before it."""

    record: Outgoing
    kind: str
    before: Callable[[], object] | None = None


@dataclass(slots=True)
class Load:
    """Objects to create first, processes that run, commands to publish in this order."""

    objects: dict[str, bytes] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def launch(self, script: str, **markers: str) -> int:
        """A shell script in a session of its own, found by the markers in its environment; -> pid."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", script],
            env={"PATH": os.environ["PATH"], **markers},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process.pid

    def end(self) -> None:
        """End what still runs.  Nobody has reaped the leaders yet, so their group numbers are still their own."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def build(random: Random, *, commands: int, aggregates: int) -> Load:
    """So many commands over so many aggregates, a quarter of them cancels of real processes."""
    load = Load()
    orgs, sessions = max(1, aggregates // 20), max(1, aggregates // 10)
    evaluations = [Evaluation(load, random) for _ in range(aggregates - orgs - sessions)]
    kept, doomed = evaluations[: len(evaluations) // 6], evaluations[len(evaluations) // 6 :]
    cancels = [1] * len(doomed)
    for _ in range(commands // 4 - len(doomed)):
        cancels[random.randrange(len(doomed))] += 1
    stories = [each.kept() for each in kept]
    stories += [each.cancelled(count) for each, count in zip(doomed, cancels, strict=True)]
    stories += [session(load, random) for _ in range(sessions)] + [org(load, random) for _ in range(orgs)]
    load.steps = _woven(random, stories, commands, evaluations)
    controls = [load.launch("exec sleep 9999"), load.launch("exec sleep 9999", **_markers(str(uuid4()), fresh_uid()))]
    controls += [pid for each in kept for pid in each.pids]
    load.objects[CONTROLS] = json.dumps([[pid, start_time(pid)] for pid in controls]).encode()
    return load


def _woven(
    random: Random, stories: Sequence[list[Step]], commands: int, evaluations: "Sequence[Evaluation]"
) -> list[Step]:
    """All stories at once, each in its own order, filled up with updates to the number that was asked for."""
    missing = commands - sum(len(story) for story in stories)
    assert missing >= 0, "the stories are longer than what was asked for"
    for _ in range(missing):
        i = random.randrange(len(evaluations))
        stories[i].insert(random.randint(0, len(stories[i])), evaluations[i].phase())
    queues = [story[::-1] for story in stories]
    turns = [i for i, queue in enumerate(queues) for _ in queue]
    random.shuffle(turns)
    return [queues[i].pop() for i in turns]


class Evaluation:
    """One evaluation, its processes, and the makings of its story."""

    def __init__(self, load: Load, random: Random) -> None:
        self._load, self._random = load, random
        self.name = str(uuid4())
        self.pids: list[int] = []
        jobs = [self._start() for _ in range(random.choice((1, 1, 2)))]
        recorded = jobs if random.random() < 0.9 else jobs[1:]  # what is not recorded is found by its marker
        state = WorkflowState(
            workflow_id=self.name,
            team_id=TEAM,
            status="running",  # type: ignore[arg-type]  # pydantic makes it one
            jobs=tuple(Job(namespace="local", name="process", uid=uid) for uid in recorded),
        )
        load.objects[f"workflows/{self.name}.json"] = _document(state)
        for i in range(random.choice((0, 0, 3))):
            load.objects[f"teams/{TEAM}/evaluations/{self.name}/partial/{i}"] = b"x"

    def _start(self, uid: str | None = None) -> str:
        """A Job of this evaluation; a late one (with a uid that is known already) always heeds SIGTERM.

        A late Job is torn down with the default grace of 30 s, for which no run should wait.
        """
        script = self._script(stubborn=uid is None and self._random.random() < 0.125)
        uid = uid or fresh_uid()
        self.pids.append(self._load.launch(script, **_markers(self.name, uid)))
        return uid

    def _script(self, *, stubborn: bool) -> str:
        """Ends 0 to 2 s after the first SIGTERM, whatever follows; a stubborn one has to be killed."""
        if stubborn:
            return "trap '' TERM; exec sleep 9999"
        seconds = self._random.choice((0, 0, self._random.uniform(0, 2), self._random.uniform(0, 2)))
        return f"trap 'trap \"\" TERM; sleep {seconds:.2f}; exit 0' TERM; while :; do sleep 9999 & wait; done"

    def kept(self) -> list[Step]:
        """Never cancelled: by reports and refusals only; one in three ends by itself, and is cancelled in vain."""
        story = [self._random.choice((self.phase, self._refused, self._malformed))() for _ in range(6)]
        if self._random.random() < 0.33:
            story += [self._report("succeeded"), self._cancel("cancel, too late"), self.phase()]
        return story

    def cancelled(self, cancels: int) -> list[Step]:
        """Cancelled once or more: joined, repeated, raised, reported on after it."""
        story = [self._random.choice((self.phase, self._refused))() for _ in range(self._random.randint(0, 2))]
        first = self._cancel("cancel")
        again = [self._random.choice((first, self._cancel("cancel"))) for _ in range(cancels - 1)]
        others = (self.phase, self._refused, self._late_success, self._malformed)
        rest = [Step(step.record, "cancel, same id again") if step is first else step for step in again]
        rest += [self._random.choice(others)() for _ in range(self._random.randint(0, 3))]
        if self._random.random() < 0.2:
            rest.append(self._other_body(first))
        if self._random.random() < 0.2:
            rest.append(self._late_job())
        self._random.shuffle(rest)
        return [*story, first, *rest]

    # ------------------------------------------------------------------------------ commands

    def _command(self, kind: str, type: str, **data: Any) -> Step:
        record = message(type, f"evaluation/{self.name}", {"evaluation_id": self.name, **data}, self._random)
        return Step(record, kind)

    def phase(self) -> Step:
        return self._command("update", "workflow.update", phase=f"phase {self._random.randrange(1000)}")

    def _report(self, status: str) -> Step:
        return self._command("update", "workflow.update", status=status)

    def _late_success(self) -> Step:
        return self._command("update, outcome", "workflow.update", status="completed", phase="done")

    def _late_job(self) -> Step:
        """A Job that starts and is reported after the cancel was asked for: it must be torn down as well."""
        uid = fresh_uid()
        job = {"namespace": "local", "name": "late", "uid": uid, "labels": {JOB_LABEL: self.name}}
        return replace(self._command("update, late Job", "workflow.update", job=job), before=partial(self._start, uid))

    def _cancel(self, kind: str) -> Step:
        mode, grace_seconds = self._random.choice((("graceful", 1), ("graceful", 3), ("force", 30)))
        options = {"mode": mode, "grace_period_seconds": grace_seconds, "cleanup": self._random.random() < 0.8}
        options["deadline_seconds"] = 900  # longer than any run: no failure is justified, however often it is killed
        return self._command(kind, "evaluation.cancel", **options)

    def _other_body(self, first: Step) -> Step:
        other = self._cancel("reused id")
        command_id = dict(first.record.headers)["ce_id"]
        renamed = tuple((name, command_id if name == "ce_id" else text) for name, text in other.record.headers)
        changed = json.dumps({**json.loads(other.record.value), "reason": "another one"}).encode()
        return Step(Outgoing(Topic.COMMANDS, other.record.key, changed, renamed), other.kind)

    def _refused(self) -> Step:
        """Refused before any intent, each for its own reason."""
        past = time_text(datetime.now(UTC) - timedelta(hours=1))
        kind, data = self._random.choice(
            (
                ("expired", {"expires_at": past}),
                ("version conflict", {"expected_version": 9999}),
                ("another team's", {"actor": _actor(team_ids=["team-2"])}),
                ("no permission", {"actor": _actor(permissions=[])}),
                ("dry run", {"dry_run": True}),
                ("wrong field", {"grace_period_seconds": "soon"}),
            )
        )
        return self._command(kind, "evaluation.cancel", **data)

    def _malformed(self) -> Step:
        """No readable envelope or no common fields: dead letters."""
        good = self._cancel("malformed").record
        no_id = tuple(pair for pair in good.headers if pair[0] != "ce_id")
        headers, value = self._random.choice(
            (
                (good.headers, b"\x00\xff"),
                (no_id, good.value),
                (good.headers, b'{"reason": "nobody asks"}'),
                ((*good.headers, ("ce_dataschema", b"https://schemas.test/evaluation.cancel/v9")), good.value),
            )
        )
        return Step(Outgoing(Topic.COMMANDS, good.key, value, (*headers, MALFORMED)), "malformed")


def session(load: Load, random: Random) -> list[Step]:
    """A session whose turns are reported: in order, again, late, out of order."""
    name = "01" + "".join(random.choices("0123456789abcdefghjkmnpqrstvwxyz", k=24)) + ".zone-1"
    state = SessionState(session_id=name, tenant=TENANT)
    load.objects[f"sessions/{name}.json"] = _document(state)
    steps = []
    for _ in range(6):
        number = random.randint(1, 3)
        status = random.choice(("running", "done", "failed"))
        data = {"session_id": name, "turn_id": f"turn-{number}", "turn_number": number, "status": status}
        steps.append(Step(message("turn.update", f"session/{name}", data, random), "turn.update"))
    closed = {"session_id": name, "status": "closed"}
    steps.append(Step(message("session.update", f"session/{name}", closed, random), "session.update"))
    return [*steps, Step(steps[0].record, "turn.update, same id again")]


def org(load: Load, random: Random) -> list[Step]:
    """An org whose two harnesses fight for names and are archived."""
    name, now = f"org-{secrets.token_hex(6)}", datetime.now(UTC)
    harnesses: dict[str, HarnessEntry] = {}
    for title in ("one", "two"):
        harness = Harness(id=f"harness_{secrets.token_hex(16)}", name=title, created_at=now, updated_at=now)
        body = harness.model_dump_json().encode()
        blob = blob_of(body)
        load.objects[blob.key] = body
        harnesses[harness.id] = HarnessEntry(name=title, body=blob.sha256)
    load.objects[f"orgs/{name}.json"] = _document(OrgState(org_id=name, harnesses=harnesses))
    steps = []
    for i in range(10):
        changes: dict[str, Any] = random.choice(
            ({"name": random.choice(("one", "two", "three"))}, {"tags": [str(i)]}, {"description": "x" * 2000}, {})
        )
        whose = {"org_id": name, "actor": _actor(org_id=name)}
        data = {**whose, "harness_id": random.choice(list(harnesses)), "changes": changes}
        steps.append(Step(message("harness.update", f"org/{name}", data, random), "harness.update"))
    return [*steps, Step(steps[0].record, "harness.update, same id again")]


def message(type: str, key: str, data: dict[str, Any], random: Random) -> Outgoing:
    """A command as an API tier publishes it; one in twenty in structured mode."""
    value = {"actor": _actor(), "reason": "the crash test", **data}
    ce = headers(id=str(uuid4()), type=type, time=datetime.now(UTC), subject=key, source="chaos")
    if random.random() < 0.05 and type != "evaluation.cancel":
        event = {name.removeprefix("ce_"): text.decode() for name, text in ce if name.startswith("ce_")}
        whole = json.dumps({**event, "data": value}).encode()
        return Outgoing(Topic.COMMANDS, key.encode(), whole, (("content-type", b"application/cloudevents+json"),))
    return Outgoing(Topic.COMMANDS, key.encode(), json.dumps(value).encode(), ce)


def _actor(**other: Any) -> dict[str, Any]:
    return {"subject": "ada@test", "team_ids": [TEAM], "permissions": PERMISSIONS, "tenant": TENANT, **other}


def _document(state: WorkflowState | SessionState | OrgState) -> bytes:
    return json.dumps({"state": state.model_dump(mode="json")}).encode()


def fresh_uid() -> str:
    return f"{boot_id()}.{secrets.token_hex(8)}"


def _markers(evaluation: str, uid: str) -> dict[str, str]:
    return {EVALUATION_MARKER: evaluation, JOB_MARKER: uid}
