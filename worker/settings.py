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
from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from schemas.audit import DecisionSettings
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


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=SEPARATOR,
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
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
    agents: dict[str, Remote] = {}
    """A2A agents by name, as JSON, or a field a variable: `{"url", "credential", "timeout_seconds"}`."""
    zones: dict[str, Remote] = {}
    """Executor zones by name, as JSON, or a field a variable: `{"url", "credential"}`."""
    decisions: DecisionSettings = DecisionSettings()
    """Limits and defaults that decisions look at; agents and zones are filled in from those above."""

    def for_decisions(self) -> DecisionSettings:
        """The settings as deciders see them."""
        names = {"agents": tuple(sorted(self.agents)), "zones": tuple(sorted(self.zones))}
        return self.decisions.model_copy(update=names)


def load() -> Settings:
    """Raises Misconfigured, naming the variable and the rule, never the value."""
    if unknown := next(_unknown(os.environ), None):
        raise Misconfigured(f"{unknown.upper()}: no such setting; {_hint(unknown)}")
    try:
        return Settings()
    except ValidationError as error:
        raise misconfigured(error) from None
    except SettingsError:
        raise Misconfigured(f"{_not_json(os.environ)}: must be JSON") from None


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


def settings_table() -> str:
    """A Markdown table of all settings: variable, default, limits, and what it is, with its unit."""
    defaults = Settings.model_construct().model_dump()
    lines = ["| variable | default | limits | what |", "|---|---|---|---|"]
    for name, path, field in _variables():
        default = _text(_at(defaults, path))
        lines.append(f"| `{name}` | `{default}` | {_limits(field)} | {field.description} |")
    return "\n".join(lines)


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
    """The first variable, in the order of the settings, that is no JSON and has to be."""
    given = {name.upper(): name for name in environment}
    for name, _, field in _variables():
        if name in given and not isinstance(field.default, str | int | float | Path):
            try:
                loads(environment[given[name]])
            except ValueError:
                return given[name]
    return f"{PREFIX}*"


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
