"""Settings from the environment: what is accepted, what is refused by name, and what never shows."""

import os

import pytest
from pydantic import ValidationError

from worker.errors import Misconfigured
from worker.settings import load, redacted, settings_table


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)


def test_without_variables_everything_has_a_default() -> None:
    settings = load()
    assert (settings.stack, settings.partitions, settings.probes_port) == ("embedded", 4, 8081)
    assert settings.for_decisions().agents == ()


def test_variables_are_read_nested_by_two_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_PARTITIONS", "12")
    monkeypatch.setenv("WORKER_DECISIONS__NAMESPACES", '["a", "b"]')
    monkeypatch.setenv("WORKER_AGENTS", '{"scribe": {"url": "http://scribe.test"}}')
    monkeypatch.setenv("WORKER_ZONES__EU__URL", "http://eu.test")
    settings = load()
    assert settings.partitions == 12
    assert settings.decisions.namespaces == ("a", "b")
    assert (settings.agents["scribe"]["url"], settings.zones["eu"]["url"]) == ("http://scribe.test", "http://eu.test")
    assert (settings.for_decisions().agents, settings.for_decisions().zones) == (("scribe",), ("eu",))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WORKER_DATADIR", "x", "WORKER_DATADIR: no such setting; there is WORKER_DATA_DIR"),
        ("worker_data_dirs", "x", "WORKER_DATA_DIRS: no such setting; there is WORKER_DATA_DIR"),
        ("WORKER_", "x", "WORKER_: no such setting; unset it, and see `worker check`"),
        ("WORKER_DATABASE_URL", "x", "WORKER_DATABASE_URL: no such setting; unset it, and see `worker check`"),
        ("WORKER_PARTITIONS__MAX", "4", "WORKER_PARTITIONS__MAX: no such setting; there is WORKER_PARTITIONS"),
        ("WORKER_DECISIONS", "{}", "WORKER_DECISIONS: no such setting"),
        ("WORKER_DECISIONS__AGENTS", '["x"]', "WORKER_DECISIONS__AGENTS: no such setting"),
        ("WORKER_DECISIONS__SWEEP_SECONDS", "1", "WORKER_DECISIONS__SWEEP_SECONDS: no such setting"),
        ("WORKER_AGENTS__A__B__C", "x", "WORKER_AGENTS__A__B__C: no such setting"),
        ("WORKER_AGENTS__", "x", "WORKER_AGENTS__: no such setting"),
        ("WORKER_PARTITIONS", "0", "WORKER_PARTITIONS: must be at least 1"),
        ("WORKER_STACK", "cloud", "WORKER_STACK: must be 'embedded'"),
        ("WORKER_AGENTS", "{", "WORKER_AGENTS: must be JSON, such as '{...}', an object"),
        ("WORKER_AGENTS__A", "x", "WORKER_AGENTS__A: must be a JSON object"),
        (
            "WORKER_DECISIONS__NAMESPACES",
            "a",
            """WORKER_DECISIONS__NAMESPACES: must be JSON, such as '["a", "b"]', a list""",
        ),
        ("WORKER_DECISIONS__MEMORY_COMMANDS", "x", "WORKER_DECISIONS__MEMORY_COMMANDS: must be a whole number"),
        ("WORKER_DECISIONS__JOB_LABEL", "?", "WORKER_DECISIONS__JOB_LABEL: has a character, or a form, that"),
        ("WORKER_DRAIN_TIMEOUT_SECONDS", "x", "WORKER_DRAIN_TIMEOUT_SECONDS: must be a number"),
        ("WORKER_DRAIN_TIMEOUT_SECONDS", "3601", "WORKER_DRAIN_TIMEOUT_SECONDS: must be at most 3600"),
        ("WORKER_PROBES_ENABLED", "x", "WORKER_PROBES_ENABLED: must be true or false"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as caught:
        load()
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_credential_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_AGENTS__SCRIBE__CREDENTIAL", "open-sesame")
    monkeypatch.setenv("WORKER_ZONES", '{"eu": {"credential": "open-sesame"}}')
    settings = load()
    assert settings.agents["scribe"]["credential"].get_secret_value() == "open-sesame"
    shown = redacted(settings)
    assert "open-sesame" not in f"{settings!r} {settings} {shown} {settings.model_dump()}"
    assert "***" in shown["WORKER_AGENTS"]
    monkeypatch.setenv("WORKER_ZONES", '{"eu": "open-sesame"}')
    with pytest.raises(Misconfigured, match="WORKER_ZONES__EU: ") as caught:
        load()
    assert "open-sesame" not in str(caught.value)


def test_effective_settings_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_DECISIONS__SWEEP_DELAY_SECONDS", "7")
    shown = redacted(load())
    assert shown["WORKER_DECISIONS__SWEEP_DELAY_SECONDS"] == "7"
    assert (shown["WORKER_DATA_DIR"], shown["WORKER_PROBES_ENABLED"]) == (".worker", "true")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load().partitions = 5  # type: ignore[misc]


def test_the_table_has_a_row_for_every_setting_with_default_limits_and_unit() -> None:
    rows = [row for services in (False, True) for row in settings_table(services=services).splitlines()[2:]]
    assert sorted(row.split("`")[1] for row in rows) == sorted(redacted(load()))
    assert "| `WORKER_PROBES_PORT` | `8081` | at least 0, at most 65535 | Port of the probes; 0: any free" in rows[9]
    assert "| `WORKER_LOG_FORMAT` | `auto` | `auto`, `json`, `console` |" in rows[10]
    assert all(row.count("|") == 5 and "None" not in row for row in rows)
    durations = [row for row in rows if "_SECONDS" in row.split("`")[1] and "SWEEP" not in row]
    assert all("in seconds" in row for row in durations)
