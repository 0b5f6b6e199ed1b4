"""The one composition root: from settings to an engine over real ports.

The runtime is loaded where it is used: what works beside a worker needs the ports only.
"""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from worker import signing
from worker.adapters.a2a import A2AClient, Agent
from worker.adapters.executor import HttpExecutor, Zone
from worker.adapters.processes import ProcessController
from worker.adapters.sqlite import Database, SqliteLog, SqliteStore, SqliteStream
from worker.adapters.system import SystemClock, SystemIds
from worker.ports import CommandLog, DocumentStore, EventStream, JobController, Ports
from worker.settings import Settings, misconfigured
from worker.signing import Signers

if TYPE_CHECKING:
    from worker.runtime.engine import Engine
    from worker.runtime.service import Service

M = TypeVar("M", bound=BaseModel)


def build() -> str:
    """The build that decides, as audit records name it."""
    return f"verdict-worker {metadata.version('verdict-worker')}"


def database(settings: Settings) -> Database:
    return Database(settings.data_dir / "worker.db", partitions=settings.partitions)


def ports(settings: Settings, *, writes: bool = True) -> Ports:
    """`writes` False: nothing is written to the store, not even to try whether it could.  Raises Misconfigured."""
    file = database(settings)  # one for all that is embedded; nothing is opened before it is used
    log, stream = _log_and_stream(settings, file)
    return Ports(
        log=log,
        stream=stream,
        store=_store(settings, file, writes=writes),
        jobs=_jobs(settings),
        agents=A2AClient(_named("AGENTS", Agent, settings.agents)),
        executors=HttpExecutor(_named("ZONES", Zone, settings.zones)),
        clock=SystemClock(),
        ids=SystemIds(),
    )


def _log_and_stream(settings: Settings, file: Database) -> tuple[CommandLog, EventStream]:
    if settings.stack == "embedded":
        return SqliteLog(file), SqliteStream(file)
    from worker.adapters.kafka import Connection, KafkaLog, KafkaStream

    connection = Connection(settings.kafka, settings.command_bytes_max)
    return KafkaLog(connection), KafkaStream(connection)


def _store(settings: Settings, file: Database, *, writes: bool) -> DocumentStore:
    if settings.stack == "embedded":
        return SqliteStore(file)
    from worker.adapters.s3 import S3Store

    return S3Store(settings.s3, SystemClock(), SystemIds(), writes=writes)


def _jobs(settings: Settings) -> JobController:
    if settings.stack == "embedded":
        return ProcessController()
    from worker.adapters.kubernetes import KubernetesController

    namespaces, label = settings.job_namespaces(), settings.decisions.job_label
    return KubernetesController(settings.kubernetes, namespaces=namespaces, label=label)


def engine(settings: Settings, over: Ports) -> "Engine":
    """The engine of any stack."""
    from worker.runtime.engine import Engine, EngineSettings

    chosen = EngineSettings(
        decisions=settings.for_decisions(),
        build=build(),
        command_bytes_max=settings.command_bytes_max,
        fetch_records_max=settings.fetch_records_max,
        reconcile_interval_seconds=settings.reconcile_interval_seconds,
        checkpoint_interval_seconds=settings.checkpoint_interval_seconds,
        signers=signers(settings),
    )
    return Engine(over, chosen)


def signers(settings: Settings, *, makes: bool = True) -> Signers:
    """Who signs checkpoints: the key that was set; the embedded stack has one of its own, made where it is missing.

    `makes` False: that is left to the worker.  Raises Misconfigured.
    """
    if settings.audit_key_file:
        return signing.load(Path(settings.audit_key_file), "WORKER_AUDIT_KEY_FILE")
    own = settings.data_dir / "audit.key"
    if settings.stack == "services" or not (makes or own.exists()):
        return signing.UNSIGNED
    return signing.load_or_make(own, "WORKER_DATA_DIR")


def service(settings: Settings) -> "Service":
    """The process that `worker run` is.  Raises Misconfigured."""
    from worker.runtime.probes import Probes
    from worker.runtime.service import Service
    from worker.telemetry import logs, metrics

    logs.configure(settings.log_format, settings.log_level)
    metrics.BUILD.labels(build()).set(1)
    whole = engine(settings, ports(settings))
    probes = Probes(settings.probes_host, settings.probes_port, whole.unready) if settings.probes_enabled else None
    about = {"build": build(), "runs_on": settings.stack, "data_dir": str(settings.data_dir)}
    return Service(whole, probes, about, settings.drain_timeout_seconds)


def _named(what: str, model: type[M], given: dict[str, dict[str, object]]) -> dict[str, M]:
    found: dict[str, M] = {}
    for name, fields in given.items():
        try:
            found[name] = model.model_validate(fields)
        except ValidationError as error:
            raise misconfigured(error, what, name) from None
    return found
