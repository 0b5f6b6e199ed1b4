"""What each answer of an S3 server means to the store, at the start and later: real HTTP, canned replies."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import pytest
from pydantic import SecretStr

from tests.contract.moto_server import create_bucket, moto_server
from tests.contract.suites.s3 import S3World
from tests.integration.proxy import Proxy, reply
from worker.adapters.s3 import S3Store
from worker.adapters.system import SystemClock, SystemIds
from worker.cli.opening import opened
from worker.errors import Conflict, Misconfigured, OutcomeUnknown, Unavailable
from worker.ports import Stored
from worker.settings import S3Settings


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
async def proxy(moto: str) -> AsyncIterator[Proxy]:
    async with Proxy(moto) as proxy:
        yield proxy


@pytest.fixture
def settings(moto: str, proxy: Proxy) -> S3Settings:
    settings = S3Settings(endpoint_url=proxy.url, bucket=f"b-{uuid4()}", access_key="any", secret_key=SecretStr("any"))
    create_bucket(moto, settings.bucket)
    return settings


@pytest.fixture
async def world(settings: S3Settings, proxy: Proxy) -> AsyncIterator[S3World]:
    world = S3World(settings)
    await world.store.start()
    proxy.requests.clear()
    yield world
    await world.store.stop()


def error(status: str, code: str, **headers: str) -> bytes:
    return reply(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>", **headers)


def always(answer: bytes) -> Callable[[str, str], bytes | None]:
    return lambda method, path: answer


# ------------------------------------------------------------------------------ while it runs


@pytest.mark.parametrize(
    ("answer", "of_a_write", "of_a_read"),
    [
        (error("412 Precondition Failed", "PreconditionFailed"), Conflict, None),
        (error("404 Not Found", "NoSuchKey"), Conflict, None),
        (error("503 Slow Down", "SlowDown"), Unavailable, Unavailable),
        (error("429 Too Many Requests", "TooManyRequests"), Unavailable, Unavailable),
        (error("500 Internal Server Error", "InternalError"), OutcomeUnknown, Unavailable),
        (reply("502 Bad Gateway", "<html>"), OutcomeUnknown, Unavailable),
        (error("504 Gateway Timeout", "GatewayTimeout"), OutcomeUnknown, Unavailable),
        (error("403 Forbidden", "AccessDenied"), Unavailable, Unavailable),
        (error("403 Forbidden", "SignatureDoesNotMatch"), Unavailable, Unavailable),
        (error("403 Forbidden", "RequestTimeTooSkewed"), Unavailable, Unavailable),
        (error("400 Bad Request", "ExpiredToken"), Unavailable, Unavailable),
        (error("400 Bad Request", "KMS.DisabledException"), Unavailable, Unavailable),
        (error("400 Bad Request", "KMS.ThrottlingException"), Unavailable, Unavailable),
        (error("408 Request Timeout", "Slow"), Unavailable, Unavailable),
        (error("404 Not Found", "NoSuchBucket"), Unavailable, Unavailable),
        (reply("404 Not Found"), Unavailable, Unavailable),
        (reply("200 OK", "<html>a proxy's page</html>"), OutcomeUnknown, Unavailable),
        (b"garbage\r\n\r\n", OutcomeUnknown, Unavailable),
    ],
)
async def test_an_answer_is_a_lost_race_an_unknown_outcome_or_an_outage_and_never_a_bug(
    world: S3World,
    proxy: Proxy,
    answer: bytes,
    of_a_write: type[Exception],
    of_a_read: type[Exception] | None,
) -> None:
    proxy.answers = always(answer)
    store = world.store
    for write in (store.create("key", b"x"), store.replace("key", b"x", '"1"'), store.put("key", b"")):
        with pytest.raises(of_a_write) as raised:
            await write
        assert type(raised.value) is of_a_write
    if of_a_read is not None:
        with pytest.raises(of_a_read):
            await world.store.load("key")
        with pytest.raises(of_a_read):
            await world.store.load_if_changed("key", '"1"')
        with pytest.raises(of_a_read):
            await world.store.list("")


async def test_a_write_whose_reply_is_lost_is_sent_once_and_its_outcome_is_unknown(
    world: S3World, proxy: Proxy
) -> None:
    """The integration tier has more of this, over a real server."""
    version = await world.store.create("key", b"before")
    proxy.requests.clear()
    proxy.loses = lambda method, path: method == "PUT"
    with pytest.raises(OutcomeUnknown):
        await world.store.replace("key", b"after", version)
    assert proxy.count("PUT") == len(proxy.lost) == 1


async def test_what_a_throttled_server_asks_for_is_handed_on(world: S3World, proxy: Proxy) -> None:
    proxy.answers = always(error("503 Slow Down", "SlowDown", Retry_After="7"))
    with pytest.raises(Unavailable) as raised:
        await world.store.put("key", b"x")
    assert raised.value.retry_after_seconds == 7
    assert len(proxy.requests) == 1, "the library does not repeat by itself"


async def test_a_key_is_missing_only_where_the_server_says_so(world: S3World, proxy: Proxy) -> None:
    """A load balancer's bare 404 must not lead to a verdict of "not found"."""
    proxy.answers = always(error("404 Not Found", "NoSuchKey"))
    assert await world.store.load("key") is None


async def test_409_is_nobodys_win_and_is_sent_again(world: S3World, proxy: Proxy) -> None:
    left = [error("409 Conflict", "ConditionalRequestConflict")] * 2
    proxy.answers = lambda method, path: left.pop() if left else None
    version = await world.store.create("key", b"body")
    assert await world.store.load("key") == Stored(b"body", version)
    assert proxy.count("PUT", "/key") == 3


async def test_409_for_ever_is_an_unknown_outcome_after_a_bounded_number_of_tries(world: S3World, proxy: Proxy) -> None:
    proxy.answers = always(error("409 Conflict", "ConditionalRequestConflict"))
    with pytest.raises(OutcomeUnknown):
        await world.store.replace("key", b"body", '"1"')
    assert proxy.count("PUT") == 6


async def test_a_silent_server_is_an_outage_after_the_bound(settings: S3Settings, proxy: Proxy) -> None:
    store = S3World(settings.model_copy(update={"read_timeout_seconds": 1.0, "request_timeout_seconds": 3})).store
    await store.start()
    proxy.latency_seconds = 60
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await store.put("key", b"x")
    with pytest.raises(Unavailable):
        await store.load("key")
    assert time.monotonic() - began < 15
    await store.stop()


async def test_requests_above_the_limit_wait_for_a_connection_without_using_up_their_time(
    settings: S3Settings, proxy: Proxy
) -> None:
    """Ten at once over two connections take five rounds; each has its own bound, of less than two."""
    store = S3World(settings.model_copy(update={"connections_max": 2, "request_timeout_seconds": 1.5})).store
    await store.start()
    proxy.latency_seconds = 0.4
    await asyncio.gather(*(store.load(f"key-{i}") for i in range(10)))
    await store.stop()


async def test_one_key_that_a_batch_could_not_delete_is_an_outage(world: S3World, proxy: Proxy) -> None:
    refused = "<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    proxy.answers = always(reply("200 OK", refused))
    with pytest.raises(Unavailable, match="b: AccessDenied"):
        await world.store.delete(["a", "b"])
    proxy.answers = always(reply("200 OK", refused.replace("AccessDenied", "NoSuchKey")))
    await world.store.delete(["a", "b"])


async def test_a_key_that_a_server_may_fold_is_a_bug_before_anything_is_sent(world: S3World, proxy: Proxy) -> None:
    for key in ("", "/a", "a/", "a//b", "a/../b", "./a", "a\0", "a\n", "a/" + "x" * 256, "é" * 128, "a/" * 511 + "abc"):
        with pytest.raises(ValueError, match="no key of a document"):
            await world.store.create(key, b"x")
        with pytest.raises(ValueError, match="no key of a document"):
            await world.store.load(key)
    assert proxy.requests == []


async def test_ids_with_any_character_that_they_may_have_are_kept_apart(world: S3World) -> None:
    """Team, org and task ids: letters, digits and `._:-` (schemas, Token); nothing is folded or encoded twice."""
    keys = [f"orgs/{name}.json" for name in ("a:b", "a.b", "a_b", "a-b", "A:B", "a..b", "a" * 128)]
    for number, key in enumerate(keys):
        await world.store.create(key, str(number).encode())
    for number, key in enumerate(keys):
        stored = await world.store.load(key)
        assert stored is not None
        assert stored.body == str(number).encode()
    assert sorted(await world.store.list("orgs/")) == sorted(keys)


# ------------------------------------------------------------------------------ at the start


def without(header: bytes) -> Callable[[bytes], bytes]:
    """The server that ignores a condition: it never sees it."""
    return lambda request: re.sub(rb"(?im)^" + header + rb":[^\r]*\r\n", b"", request)


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
async def test_a_server_that_ignores_a_condition_is_refused(settings: S3Settings, proxy: Proxy, header: str) -> None:
    proxy.alters = without(header.encode())
    store = S3World(settings).store
    with pytest.raises(Misconfigured, match=rf"^WORKER_S3__ENDPOINT_URL: the server ignores {header} on PUT"):
        await store.start()
    proxy.alters = lambda request: request
    await store.start()
    assert await store.list("") == [], "what the probe wrote is gone"
    await store.stop()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error("403 Forbidden", "InvalidAccessKeyId"), "WORKER_S3__ACCESS_KEY: the server does not know it"),
        (error("403 Forbidden", "SignatureDoesNotMatch"), "WORKER_S3__SECRET_KEY: the server refuses signatures"),
        (error("403 Forbidden", "AccessDenied"), "WORKER_S3__BUCKET: the credential does not suffice"),
        (error("404 Not Found", "NoSuchBucket"), "WORKER_S3__BUCKET: there is no such bucket"),
        (error("400 Bad Request", "AuthorizationHeaderMalformed"), "WORKER_S3__REGION: the server has another region"),
        (error("400 Bad Request", "KMS.NotFoundException"), "WORKER_S3__ENCRYPTION_KEY_ID: there is no such key"),
        (error("404 Not Found", "kms:KeyNotFound"), "WORKER_S3__ENCRYPTION_KEY_ID: there is no such key"),
        (
            error("501 Not Implemented", "NotImplemented"),
            "WORKER_S3__ENDPOINT_URL: the server cannot do what is needed",
        ),
    ],
)
async def test_at_the_start_a_refusal_names_the_setting(
    settings: S3Settings, proxy: Proxy, answer: bytes, said: str
) -> None:
    proxy.answers = always(answer)
    with pytest.raises(Misconfigured) as raised:
        await S3World(settings).store.start()
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


async def test_at_the_start_an_outage_is_one(settings: S3Settings, proxy: Proxy) -> None:
    proxy.answers = always(error("503 Slow Down", "SlowDown"))
    with pytest.raises(Unavailable, match=r"^WORKER_S3__ENDPOINT_URL: http://127.0.0.1:\d+ is away"):
        await S3World(settings).store.start()


async def test_who_only_reads_probes_no_write_and_hears_of_a_wrong_setting_all_the_same(
    settings: S3Settings, proxy: Proxy
) -> None:
    store = S3Store(settings, SystemClock(), SystemIds(), writes=False)
    await store.start()
    assert await store.load("key") is None
    await store.stop()
    assert [method for method, _ in proxy.requests] == ["GET", "GET"]
    proxy.answers = always(error("403 Forbidden", "AccessDenied"))
    with pytest.raises(Misconfigured, match=r"^WORKER_S3__BUCKET: the credential does not suffice"):
        await store.start()


@pytest.mark.parametrize(("command", "methods"), [("reads", {"GET"}), ("writes", {"GET", "PUT", "POST"})])
async def test_a_command_beside_the_worker_writes_to_the_store_only_where_it_says_so(
    settings: S3Settings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, command: str, methods: set[str]
) -> None:
    monkeypatch.setenv("WORKER_STACK", "services")
    for name in ("endpoint_url", "bucket", "access_key"):
        monkeypatch.setenv(f"WORKER_S3__{name.upper()}", getattr(settings, name))
    monkeypatch.setenv("WORKER_S3__SECRET_KEY", settings.secret_key.get_secret_value())
    async with opened(writes=command == "writes") as (ports, _):
        assert await ports.store.list("") == []
    assert {method for method, _ in proxy.requests} == methods


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bucket": ""}, "WORKER_S3__BUCKET: must be set"),
        ({"secret_key": SecretStr("")}, "WORKER_S3__SECRET_KEY: must be set, as WORKER_S3__ACCESS_KEY is"),
        ({"access_key": ""}, "WORKER_S3__ACCESS_KEY: must be set, as WORKER_S3__SECRET_KEY is"),
        ({"encryption_key_id": "k"}, "WORKER_S3__ENCRYPTION_KEY_ID: only goes with WORKER_S3__ENCRYPTION=aws:kms"),
        ({"ca_file": "/nowhere.pem"}, "WORKER_S3__CA_FILE: there is no file /nowhere.pem"),
    ],
)
async def test_settings_that_do_not_go_together_are_named(
    settings: S3Settings, proxy: Proxy, changed: dict[str, object], said: str
) -> None:
    with pytest.raises(Misconfigured) as raised:
        await S3World(settings.model_copy(update=changed)).store.start()
    assert str(raised.value) == said
    assert proxy.requests == []


# ------------------------------------------------------------------------------ encryption


@pytest.mark.parametrize(("encryption", "key_id"), [("AES256", ""), ("aws:kms", "alias/ours")])
async def test_objects_are_encrypted_as_the_setting_says(
    settings: S3Settings, proxy: Proxy, encryption: str, key_id: str
) -> None:
    asked = list[bytes]()

    def keep(request: bytes) -> bytes:
        asked.append(request)
        return request

    proxy.alters = keep
    store = S3World(settings.model_copy(update={"encryption": encryption, "encryption_key_id": key_id})).store
    await store.start()
    await store.create("key", b"x")
    await store.stop()
    puts = [request.lower() for request in asked if request.startswith(b"PUT")]
    assert all(f"x-amz-server-side-encryption: {encryption}".lower().encode() in request for request in puts)
    assert all((b"aws-kms-key-id: alias/ours" in request) == bool(key_id) for request in puts)


async def test_a_server_that_does_not_encrypt_as_it_is_asked_to_is_refused(settings: S3Settings, proxy: Proxy) -> None:
    proxy.alters = without(b"x-amz-server-side-encryption")
    with pytest.raises(Misconfigured, match=r"^WORKER_S3__ENCRYPTION: the server does not encrypt"):
        await S3World(settings.model_copy(update={"encryption": "AES256"})).store.start()
