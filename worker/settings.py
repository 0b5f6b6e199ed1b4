"""Settings: from the environment, prefix `WORKER_`, nested by `__`; frozen, units in names, secrets as SecretStr.

A variable with the prefix that names no setting is an error, so that a typo never passes silently.  Knows nothing of
who uses a setting: agents and zones stay as given here, and are validated by the adapters that call them.
"""

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from json import dumps, loads
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from schemas.audit import DecisionSettings
from schemas.docstrings import field_texts
from schemas.wording import rule
from worker.errors import Misconfigured

PREFIX = "WORKER_"
SEPARATOR = "__"
FILLED_IN = frozenset({"agents", "zones"})
"""Settings of decisions that follow from others; no variable names them."""


def _hide_credential(fields: dict[str, Any]) -> dict[str, Any]:
    credential = fields.get("credential")
    return {**fields, "credential": SecretStr(credential)} if isinstance(credential, str) else fields


Remote = Annotated[dict[str, Any], AfterValidator(_hide_credential)]
"""What an adapter needs to reach somebody."""


HTTP_URL = r"^(https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^?#\s]*)?)?$"
"""http or https, without user, password, query and fragment; or empty."""


class S3Settings(BaseModel):
    """Where documents are, on S3 or a server that speaks it; used by the stack `services`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    endpoint_url: Annotated[str, Field(pattern=HTTP_URL)] = ""
    """URL of the server; empty: AWS, in the region."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = "us-east-1"
    """Region that requests are signed for."""
    bucket: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")] = ""
    """Bucket of the documents; it must exist."""
    prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63}/){0,3}$")] = ""
    """What all keys begin with, such as `verdicts/`; empty: nothing."""
    access_key: Annotated[str, Field(pattern=r"^[!-~]*$")] = ""
    """Access key; empty: the library's default chain finds a credential (environment, profile, instance role)."""
    secret_key: SecretStr = SecretStr("")
    """Secret of the access key."""
    path_style: bool = True
    """Whether the bucket stands in the path of a URL; false: in the host name."""
    ca_file: str = ""
    """File of authorities (PEM) that vouch for the server; empty: the public ones."""
    encryption: Literal["none", "AES256", "aws:kms"] = "none"
    """Encryption that is asked for with each object; none: whatever the bucket does by itself."""
    encryption_key_id: str = ""
    """Key for `aws:kms`; empty: the bucket's own."""
    connections_max: Annotated[int, Field(ge=1, le=10_000)] = 128
    """Connections, and so requests at once; more wait here."""
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 2
    """Bound of connecting, in seconds."""
    read_timeout_seconds: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 5
    """Bound of a silence of the server, in seconds."""
    request_timeout_seconds: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 30
    """Bound of a whole request, in seconds."""


class KafkaSettings(BaseModel):
    """Where the log is, on Kafka; used by the stack `services`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bootstrap_servers: Annotated[str, Field(pattern=r"^[^\s,]+(,[^\s,]+)*$")] = "localhost:9092"
    """Brokers to begin with, as `host:port`, separated by commas."""
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How brokers are talked to."""
    ca_file: str = ""
    """File of authorities (PEM) that vouch for the brokers; empty: the public ones."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "SCRAM-SHA-512"
    """How the worker proves who it is, with SASL."""
    sasl_username: str = ""
    """Name for PLAIN and SCRAM."""
    sasl_password: SecretStr = SecretStr("")
    """Password for PLAIN and SCRAM."""
    token_file: str = ""
    """File that holds the token for OAUTHBEARER; read for each connection."""
    token_command: str = ""
    """Command that prints the token for OAUTHBEARER; run for each connection, without a shell."""
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "verdict-worker"
    """Name in the brokers' logs and quotas."""
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "worker"
    """What the topics' names begin with, before a dot."""
    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "worker"
    """Consumer group; the ids of transactions begin with it."""
    group_instance_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,200}$")] = ""
    """Name that no other worker has (such as the pod's): a restart then moves no partitions; empty: none."""
    replication_factor: Annotated[int, Field(ge=1, le=15)] = 3
    """Copies of topics that `worker topics create` makes."""
    session_timeout_seconds: Annotated[float, Field(ge=1, le=300)] = 10
    """Silence after which a worker's partitions go to others, in seconds."""
    heartbeat_interval_seconds: Annotated[float, Field(ge=0.1, le=60)] = 1
    """How often a worker says that it lives, and hears that partitions move, in seconds."""
    request_timeout_seconds: Annotated[float, Field(ge=0.5, le=300)] = 10
    """Bound of one call, in seconds."""
    transaction_timeout_seconds: Annotated[float, Field(ge=1, le=900)] = 20
    """Bound of one commit, in seconds; what a dead worker left open holds readers up for so long."""
    stall_timeout_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    """How long a partition may get nothing although there is something before the worker ends itself, in seconds."""


class KubernetesSettings(BaseModel):
    """How the cluster is reached that Jobs run in; used by the stack `services`.

    Which Jobs it may touch is said by `decisions`: their namespaces, and the label that holds the evaluation's id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kubeconfig: str = ""
    """Kubeconfig file; empty: the service account of the pod that the worker runs in."""
    context: str = ""
    """Context of the kubeconfig; empty: its current one."""
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 2
    """Bound of connecting, in seconds."""
    request_timeout_seconds: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 5
    """Bound of a whole request, in seconds; a watch is not one."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=SEPARATOR,
        frozen=True,
        hide_input_in_errors=True,
    )

    stack: Literal["embedded", "services"] = "embedded"
    """Where everything is: one SQLite file and this machine's processes, or Kafka, S3 and Kubernetes."""
    data_dir: Path = Path(".worker")
    """Folder of the embedded stack."""
    partitions: Annotated[int, Field(ge=1, le=1000)] = 4
    """Partitions of the embedded log, and of topics that are created; fixed from then on."""
    command_bytes_max: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    """Largest command record, in bytes."""
    drain_timeout_seconds: Annotated[float, Field(ge=0, le=3600)] = 20
    """How long a stop waits for decisions to be committed, in seconds."""
    fetch_records_max: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Records taken from the log at once."""
    reconcile_interval_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """How often the reconciler looks for what is unsettled, in seconds."""
    probes_enabled: bool = True
    """Whether `/livez`, `/readyz` and `/metrics` are served."""
    probes_host: str = "127.0.0.1"
    """Address on which the probes listen."""
    probes_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Port of the probes; 0: any free one, told in the log event `worker.ready`."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """Lines of JSON, or for people; auto: for people on a terminal."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    audit_key_file: str = ""
    """File of the private key (Ed25519, PEM) that signs checkpoints of the audit log; empty: in the data folder."""
    checkpoint_interval_seconds: Annotated[float, Field(gt=0, le=3600)] = 60
    """How often the audit log is sealed, in seconds: what is cut off its end since then does not show."""
    agents: dict[str, Remote] = {}
    """A2A agents by name, as JSON, or a field a variable: `{"url", "credential", "timeout_seconds"}`."""
    zones: dict[str, Remote] = {}
    """Executor zones by name, as JSON, or a field a variable: `{"url", "credential"}`."""
    kafka: KafkaSettings = KafkaSettings()
    """The log of the stack `services`."""
    decisions: DecisionSettings = DecisionSettings()
    """Limits and defaults that decisions look at; agents and zones are filled in from those above."""
    s3: S3Settings = S3Settings()
    """Where documents are, in the stack `services`."""
    kubernetes: KubernetesSettings = KubernetesSettings()
    """Where Jobs are, in the stack `services`."""

    def for_decisions(self) -> DecisionSettings:
        """The settings as deciders see them."""
        names = {"agents": tuple(sorted(self.agents)), "zones": tuple(sorted(self.zones))}
        return self.decisions.model_copy(update=names)

    def job_namespaces(self) -> tuple[str, ...]:
        """Those that were named, and none by default: `local` is where the embedded stack's processes are."""
        return self.decisions.namespaces if "namespaces" in self.decisions.model_fields_set else ()


def load() -> Settings:
    """Raises Misconfigured, naming the variable and the rule, never the value."""
    if unknown := next(_unknown(os.environ), None):
        raise Misconfigured(f"{unknown.upper()}: no such setting; {_hint(unknown)}")
    try:
        return Settings()
    except ValidationError as error:
        raise misconfigured(error) from None
    except SettingsError:
        raise Misconfigured(_not_json(os.environ)) from None


def misconfigured(error: ValidationError, *above: str) -> Misconfigured:
    """The first rule that is broken, and the variable that breaks it; `above`: what its path begins with."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = SEPARATOR.join(str(part) for part in (*above, *first["loc"]))
    return Misconfigured(f"{PREFIX}{path.upper()}: {rule(first)}")


def redacted(settings: Settings) -> dict[str, str]:
    """The effective settings -> {variable: value}, secrets as stars."""
    values = settings.model_dump()
    values["decisions"] = settings.for_decisions().model_dump()
    return {name: _text(_at(values, path)) for name, path, _ in _variables()}


SERVICES = frozenset({"kafka", "s3", "kubernetes"})
"""Groups of settings that only the stack `services` looks at."""


def settings_table(*, services: bool = False) -> str:
    """A Markdown table of settings (those of the services, or the others): variable, default, limits, what, unit."""
    defaults = Settings.model_construct().model_dump()
    lines = ["| variable | default | limits | what |", "|---|---|---|---|"]
    for name, path, field in _variables():
        if (path[0] in SERVICES) != services:
            continue
        default = _text(_at(defaults, path))
        lines.append(f"| `{name}` | `{default}` | {_limits(field)} | {_what(path)} |")
    return "\n".join(lines)


def _what(path: tuple[str, ...]) -> str:
    """The text below a setting."""
    group = _group(Settings.model_fields[path[0]])
    return field_texts(group or Settings)[path[-1]]


def _variables() -> Iterator[tuple[str, tuple[str, ...], FieldInfo]]:
    """Name, path and field of every variable; a group has one for each of its fields."""
    for name, field in Settings.model_fields.items():
        group = _group(field)
        if group is None:
            yield PREFIX + name.upper(), (name,), field
            continue
        for inner, inner_field in group.model_fields.items():
            if inner not in FILLED_IN:
                yield PREFIX + f"{name}{SEPARATOR}{inner}".upper(), (name, inner), inner_field


def _group(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _unknown(environment: Mapping[str, str]) -> Iterator[str]:
    """Variables with our prefix that name no setting, in alphabetical order."""
    known = {path for _, path, _ in _variables()}
    for variable in sorted(environment):
        if not variable.upper().startswith(PREFIX):
            continue
        path = tuple(variable[len(PREFIX) :].lower().split(SEPARATOR))
        remote = path[0] in ("agents", "zones") and len(path) in (2, 3) and all(path)
        if path not in known and not remote:
            yield variable


def _hint(unknown: str) -> str:
    """The setting that was meant, if one is close; the prefix is all the same."""
    names = [name.removeprefix(PREFIX) for name, _, _ in _variables()]
    near = get_close_matches(unknown[len(PREFIX) :].upper(), names, n=1, cutoff=0.75)
    return f"there is {PREFIX}{near[0]}" if near else "unset it, and see `worker check`"


def _not_json(environment: Mapping[str, str]) -> str:
    """The first variable, in the order of the settings, that is no JSON and has to be, and how it is written."""
    given = {name.upper(): name for name in environment}
    for name, _, field in _variables():
        if name in given and not isinstance(field.default, str | int | float | Path):
            try:
                loads(environment[given[name]])
            except ValueError:
                form = """'["a", "b"]', a list""" if isinstance(field.default, tuple) else "'{...}', an object"
                return f"{given[name]}: must be JSON, such as {form}"
    return f"{PREFIX}*: must be JSON"


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = values
    for part in path:
        found = found[part]
    return found


def _text(value: Any) -> str:
    """As it would stand in a variable; a secret shows itself as stars."""
    return str(value) if isinstance(value, str | Path) else dumps(value, default=str)


def _limits(field: FieldInfo) -> str:
    """The bounds or the choices of a field, for people; empty: none."""
    if choices := get_args(field.annotation) if str(field.annotation).startswith("typing.Literal") else ():
        return ", ".join(f"`{choice}`" for choice in choices)
    texts = []
    for limit in field.metadata:
        match limit:
            case Ge():
                texts.append(f"at least {limit.ge}")
            case Gt():
                texts.append(f"above {limit.gt}")
            case Le():
                texts.append(f"at most {limit.le}")
            case Lt():
                texts.append(f"below {limit.lt}")
            case _:
                continue
    return ", ".join(texts)
