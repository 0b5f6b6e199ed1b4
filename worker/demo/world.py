"""The real things: the worker, the agent and the executor as processes; what they run; the documents about it.

Everything that is started carries the run's marker in its environment, so that nothing outlives the demo.  Knows
nothing of commands and verdicts.
"""

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import ClientSession, ClientTimeout

from schemas.documents import HarnessMetadata, Job, OrgState, SessionState, Task, Turn, WorkflowState
from schemas.harness import Harness, HarnessEntry
from schemas.status import Status
from worker import bootstrap
from worker.adapters.processes import launch
from worker.demo.cast import (
    AGENT,
    CREATIONS,
    EVALUATIONS,
    HARNESS_IDS,
    HARNESSES,
    ORG,
    SESSIONS,
    STRANGERS,
    TEAM,
    TENANT,
    ZONE,
    Creation,
    Evaluation,
    Session,
)
from worker.demo.census import RUN_MARKER, THING_MARKER, kill_all
from worker.errors import Misconfigured
from worker.ports import JobIdentity
from worker.settings import Settings

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 30.0
TIMEOUT = ClientTimeout(total=10)
WORKER = Path(sys.executable).with_name("worker")


class World:
    """One run of the demo: `start` it, act on it, `drain_worker`, and always `end` it."""

    def __init__(self, folder: Path) -> None:
        self.run = uuid4().hex
        self.folder = folder
        self.addresses: dict[str, dict[str, str]] = dict(STRANGERS)
        settings = Settings.model_construct(data_dir=folder)  # nothing of the caller's environment, as the worker below
        ports = bootstrap.ports(settings)
        self.store, self.stream = ports.store, ports.stream
        self.job_label = settings.decisions.job_label
        plain = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        self._environment = plain | {RUN_MARKER: self.run}
        self._worker: asyncio.subprocess.Process | None = None
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Start the remote sides, then what they and this machine run, with its documents; last the worker.

        Raises Misconfigured where a process cannot be started, or does not listen within 30 s.
        """
        await self.store.start()
        agent, executor = await self._serve("agent", "executor")
        async with ClientSession(timeout=TIMEOUT) as http:
            for name, creation in CREATIONS.items():
                await self._create_creation(name, creation, http, agent)
            for number, (name, session) in enumerate(SESSIONS.items()):
                await self._create_session(name, session, f"{number:026d}.{session.zone}", http, executor)
        for name, evaluation in EVALUATIONS.items():
            await self._create_evaluation(name, evaluation)
        await self._create_org()
        await self._start_worker({AGENT: {"url": agent}}, {ZONE: {"url": executor}})

    async def metrics(self) -> str:
        """What the worker's `/metrics` says now; where it listens stands in its log.  Raises Misconfigured."""
        for line in (self.folder / "worker.log").read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "worker.ready":
                url = f"http://127.0.0.1:{event['probes_port']}/metrics"
                async with ClientSession(timeout=TIMEOUT) as http, http.get(url) as response:
                    return await response.text()
        raise Misconfigured("the worker did not become ready")

    @property
    def worker_runs(self) -> bool:
        """Whether the worker has not ended by itself."""
        return self._worker is not None and self._worker.returncode is None

    async def drain_worker(self) -> int | None:
        """SIGTERM; -> exit code, None where it did not end within 30 s."""
        assert self._worker is not None, "started first"
        if self.worker_runs:
            self._worker.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._worker.wait(), STOP_TIMEOUT_SECONDS)
        except TimeoutError:
            return None

    async def end(self) -> None:
        """Leave no process behind, whatever happened before."""
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            await kill_all(self.run)
            await asyncio.gather(*(process.wait() for process in self._processes))
        await self.stream.stop()
        await self.store.stop()

    def start_job(self, name: str) -> JobIdentity:
        """Start an evaluation's process now: a Job, in a session of its own."""
        marked = ("env", f"{RUN_MARKER}={self.run}", f"{THING_MARKER}={name}")
        return launch(self.addresses[name]["evaluation_id"], [*marked, *EVALUATIONS[name].program])

    # ------------------------------------------------------------------------------ the processes

    async def _start_worker(self, agents: Mapping[str, Any], zones: Mapping[str, Any]) -> None:
        """`worker run`; the demo is its reconciler, and lets deadlines be short, so that nobody has to wait."""
        settings = {
            "WORKER_DATA_DIR": str(self.folder),
            "WORKER_AGENTS": json.dumps(agents),
            "WORKER_ZONES": json.dumps(zones),
            "WORKER_DECISIONS__DEADLINE_SECONDS_MIN": "1",
            "WORKER_LOG_FORMAT": "json",
            "WORKER_PROBES_PORT": "0",
            "WORKER_RECONCILE_INTERVAL_SECONDS": "3600",
        }
        self._worker = await self._spawn("worker", WORKER, "run", environment=settings, piped=False)

    async def _serve(self, *names: str) -> list[str]:
        """Start the remote sides side by side; -> their URLs, once they listen."""
        started = {
            name: await self._spawn(name, sys.executable, "-m", f"worker.demo.{name}", "--port", "0", piped=True)
            for name in names
        }
        return [await self._url(name, process) for name, process in started.items()]

    async def _url(self, name: str, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None, "it is piped"
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_SECONDS)
            return f"http://127.0.0.1:{int(line.removeprefix(b'listening on '))}"
        except (TimeoutError, ValueError) as error:
            raise Misconfigured(f"the {name} of the demo does not listen: see {self.folder}/{name}.log") from error

    async def _spawn(
        self, name: str, *command: str | Path, piped: bool, environment: dict[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        """A process with the run's marker; what it says, but for a piped standard output, stands in `{name}.log`."""
        with (self.folder / f"{name}.log").open("wb") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    env=self._environment | (environment or {}),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE if piped else log,
                    stderr=log,
                )
            except FileNotFoundError as error:
                raise Misconfigured(f"{command[0]} is not there: install verdict-worker for this Python") from error
        self._processes.append(process)
        return process

    # ------------------------------------------------------------------------------ what runs, and its documents

    async def _create_evaluation(self, name: str, evaluation: Evaluation) -> None:
        evaluation_id = str(uuid4())
        self.addresses[name] = {"evaluation_id": evaluation_id}
        running = evaluation.program and not evaluation.late
        job = self.start_job(name) if running else None
        state = WorkflowState(
            workflow_id=evaluation_id,
            team_id=TEAM,
            status=evaluation.status,
            jobs=(Job(namespace=job.namespace, name=job.name, uid=job.uid),) if job and evaluation.recorded else (),
        )
        await self._create(f"workflows/{evaluation_id}.json", state)
        folder = f"teams/{TEAM}/evaluations/{evaluation_id}"
        await self.store.put(f"{folder}/request.json", b"{}")
        for number in range(evaluation.partial_objects):
            await self.store.put(f"{folder}/partial/{number}", b"partial data")

    async def _create_creation(self, name: str, creation: Creation, http: ClientSession, agent: str) -> None:
        harness_id, workflow_id = str(uuid4()), str(uuid4())
        self.addresses[name] = {"harness_id": harness_id, "team_id": TEAM}
        task = await self._start_task(name, creation, http, agent) if creation.wish is not None else None
        state = WorkflowState(
            workflow_id=workflow_id,
            purpose="custom_harness",
            team_id=TEAM,
            harness_id=harness_id,
            status=Status.RUNNING,
            workflow_specific_fields=task,
        )
        await self._create(f"workflows/{workflow_id}.json", state)
        known = workflow_id if creation.has_workflow else None
        metadata = HarnessMetadata(harness_id=harness_id, team_id=TEAM, workflow_id=known)
        await self.store.create(f"custom-harnesses/{harness_id}/metadata.json", metadata.model_dump_json().encode())

    async def _start_task(self, name: str, creation: Creation, http: ClientSession, agent: str) -> Task:
        text = json.dumps({"thing": name, **(creation.wish or {})})
        message = {"messageId": uuid4().hex, "role": "ROLE_USER", "parts": [{"text": text}]}
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "SendMessage",
            "params": {"message": message, "configuration": {"returnImmediately": True}},
        }
        async with http.post(agent, json=body, headers={"A2A-Version": "1.0"}) as response:
            started = (await response.json())["result"]["task"]
        return Task(agent=creation.agent, task_id=started["id"], session_id=started["contextId"])

    async def _create_session(
        self, name: str, session: Session, session_id: str, http: ClientSession, executor: str
    ) -> None:
        self.addresses[name] = {"session_id": session_id}
        turn_id = f"turn-{name}"
        if session.wish is not None:
            body = {"turn_id": turn_id, "session_id": session_id, "environment": {THING_MARKER: name}, **session.wish}
            async with http.post(f"{executor}/v1/turns", json=body) as response:
                response.raise_for_status()
        turn = Turn(turn_id=turn_id, number=session.number, status=session.status) if session.status else None
        state = SessionState(session_id=session_id, tenant=TENANT, turn=turn)
        await self._create(f"sessions/{session_id}.json", state)

    async def _create_org(self) -> None:
        """One directory; each harness's body is a blob."""
        entries = {}
        for name, harness in HARNESSES.items():
            self.addresses[name] = {"org_id": ORG, "harness_id": HARNESS_IDS[name]}
            parent, now = HARNESS_IDS.get(harness.parent or ""), datetime.now(UTC)
            whole = Harness(id=HARNESS_IDS[name], name=name, parent_harness_id=parent, created_at=now, updated_at=now)
            body = whole.model_dump_json().encode()
            digest = hashlib.sha256(body).hexdigest()
            await self.store.put(f"blobs/{digest}", body)
            entries[HARNESS_IDS[name]] = HarnessEntry(name=name, parent=parent, body=digest)
        await self._create(f"orgs/{ORG}.json", OrgState(org_id=ORG, harnesses=entries))

    async def _create(self, key: str, state: WorkflowState | SessionState | OrgState) -> None:
        """As every creator of an aggregate does it: once, only if absent."""
        await self.store.create(key, b'{"state":' + state.model_dump_json().encode() + b"}")
