"""Settings: from the environment, prefix `WORKER_`, nested by `__`; frozen, units in names, secrets as SecretStr."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.audit import DecisionSettings
from worker.errors import Misconfigured


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="WORKER_", env_nested_delimiter="__", frozen=True, use_attribute_docstrings=True
    )

    stack: Literal["embedded"] = "embedded"
    """Where log, stream and store are: one SQLite file."""
    data_dir: Path = Path(".worker")
    """Folder of the embedded stack."""
    partitions: Annotated[int, Field(ge=1, le=1000)] = 4
    """Partitions of the embedded log; fixed once the file exists."""
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
    agents: dict[str, dict[str, Any]] = {}
    """A2A agents by name: {"url", "credential", "timeout_seconds"}."""
    zones: dict[str, dict[str, Any]] = {}
    """Executor zones by name: {"url", "credential"}."""
    decisions: DecisionSettings = DecisionSettings()
    """Limits and defaults that decisions look at; agents and zones are filled in from those above."""

    def for_decisions(self) -> DecisionSettings:
        """The settings as deciders see them."""
        names = {"agents": tuple(sorted(self.agents)), "zones": tuple(sorted(self.zones))}
        return self.decisions.model_copy(update=names)


def load() -> Settings:
    """Raises Misconfigured, naming the variable and the rule, never the value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = "WORKER_" + "__".join(str(part) for part in first["loc"]).upper()
        raise Misconfigured(f"{name}: {first['msg']}") from None
