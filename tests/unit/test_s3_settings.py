"""The settings of S3 from the environment."""

import pytest

from worker import settings
from worker.errors import Misconfigured


def test_a_secret_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """In `worker check`, in a settings object, or in what is wrong with another setting."""
    monkeypatch.setenv("WORKER_S3__SECRET_KEY", "hush")
    monkeypatch.setenv("WORKER_S3__BUCKET", "documents")
    loaded = settings.load()
    assert loaded.s3.secret_key.get_secret_value() == "hush"
    assert "hush" not in str(settings.redacted(loaded)) + repr(loaded)
    assert settings.redacted(loaded)["WORKER_S3__BUCKET"] == "documents"


@pytest.mark.parametrize(
    "url", ["", "http://s3.test", "https://s3.test:9000/path", "http://127.0.0.1:1", "https://[::1]:9000"]
)
def test_an_endpoint_is_an_http_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WORKER_S3__ENDPOINT_URL", url)
    assert settings.load().s3.endpoint_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENDPOINT_URL", "s3.test"),
        ("ENDPOINT_URL", "ftp://s3.test"),
        ("ENDPOINT_URL", "http://me:hush@s3.test"),
        ("ENDPOINT_URL", "http://s3.test?hush"),
        ("ENDPOINT_URL", "http://["),
        ("BUCKET", "Upper"),
        ("PREFIX", "/verdicts/"),
        ("PREFIX", "verdicts"),
        ("PREFIX", "../"),
        ("ENCRYPTION", "aes"),
        ("CONNECTIONS_MAX", "0"),
        ("READ_TIMEOUT_SECONDS", "inf"),
    ],
)
def test_what_is_wrong_is_named_and_not_quoted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"WORKER_S3__{name}", value)
    with pytest.raises(Misconfigured, match=f"^WORKER_S3__{name}: ") as raised:
        settings.load()
    assert "hush" not in str(raised.value)
