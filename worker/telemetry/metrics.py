"""Metrics: the catalogue.  Prometheus names, base units in the name; every name here is served at `/metrics`.

Label values are bounded: a type is one of the contract's, a code one of the table's, a partition one that we own.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library types it so
REGISTRY = CollectorRegistry()
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)

ANSWERED = Counter(
    "worker_commands_answered", "Command records whose verdict is committed.", ("type", "code"), registry=REGISTRY
)
ANSWER_SECONDS = Histogram(
    "worker_command_seconds",
    "From a record's timestamp to its committed verdict.",
    ("type",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
UNFINISHED = Gauge(
    "worker_commands_unfinished", "Command records taken in and not answered.", ("partition",), registry=REGISTRY
)
PAUSED = Gauge(
    "worker_partition_paused",
    "1 where a partition waits at its bound of unfinished commands.",
    ("partition",),
    registry=REGISTRY,
)
POSITION = Gauge("worker_partition_position", "The committed position.", ("partition",), registry=REGISTRY)
STOPPED = Gauge(
    "worker_partitions_stopped",
    "Partitions that stand still: their position is outside of the log.",
    registry=REGISTRY,
)
MISROUTED = Counter(
    "worker_commands_misrouted", "Records in another partition than their key's: unordered.", registry=REGISTRY
)
DEAD_LETTERS = Counter("worker_dead_letters", "Records that became dead letters.", ("why",), registry=REGISTRY)
TRANSACTIONS = Counter(
    "worker_transactions", "Commits of a partition, by what became of them.", ("result",), registry=REGISTRY
)
TRANSACTION_SECONDS = Histogram(
    "worker_transaction_seconds", "Duration of a commit.", buckets=_SECONDS, registry=REGISTRY
)
TRANSACTION_RECORDS = Histogram(
    "worker_transaction_records", "Records published by a commit.", buckets=_RECORDS, registry=REGISTRY
)
ASSIGNMENTS = Counter("worker_assignments", "Partitions taken over or renewed.", registry=REGISTRY)
UNREADABLE = Counter("worker_positions_unreadable", "Positions whose metadata could not be read.", registry=REGISTRY)
CONFLICTS = Counter(
    "worker_document_conflicts",
    "Writes repeated on a fresh document, after a lost or unknown compare-and-set.",
    registry=REGISTRY,
)
OUTAGES = Counter("worker_outages", "Tries that met an unavailable dependency.", registry=REGISTRY)
EFFECTS = Counter(
    "worker_effects", "Effects that came to an observation.", ("effect", "observation"), registry=REGISTRY
)
EFFECT_SECONDS = Histogram(
    "worker_effect_seconds",
    "From the start of an effect to its observation.",
    ("effect",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
UNSETTLED = Gauge("worker_unsettled", "Markers of unsettled things, when they were last listed.", registry=REGISTRY)
RESUMES = Counter("worker_resumes", "Resume commands that the reconciler published.", registry=REGISTRY)
READY = Gauge("worker_ready", "1 while commands are consumed.", registry=REGISTRY)
BUILD = Gauge("worker_build_info", "The build that decides.", ("build",), registry=REGISTRY)
BUGS = Counter("worker_bugs", "Unclassified errors; each is logged with its traceback.", registry=REGISTRY)


def catalogue() -> dict[str, str]:
    """-> {name: what it says}, as the names are served."""
    return {family.name: family.documentation for family in REGISTRY.collect()}


def exposition() -> tuple[bytes, str]:
    """-> (body, content type) for `/metrics`."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
