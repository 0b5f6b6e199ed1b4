"""What a real S3 server says at the start to a setting that is wrong; TLS under an authority of one's own."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from tests.integration.proxy import Proxy
from tests.integration.s3_world import world_of
from tests.services.container import free_port
from tests.services.object_store import ObjectStore
from worker.errors import Misconfigured, Unavailable


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"secret_key": SecretStr("wrong")}, "WORKER_S3__SECRET_KEY: the server refuses signatures made with it"),
        ({"access_key": "nobody"}, "WORKER_S3__ACCESS_KEY: the server does not know it"),
        ({"bucket": "no-such-bucket"}, "WORKER_S3__BUCKET: there is no such bucket"),
    ],
)
async def test_a_wrong_setting_is_one_line_that_names_it(
    s3: ObjectStore, bucket: str, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(Misconfigured) as raised:
        await world_of(s3, bucket, **changed).store.start()
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)
    assert s3.secret_key not in str(raised.value)


async def test_nobody_at_the_endpoint_is_an_outage_that_names_it(s3: ObjectStore, bucket: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"^WORKER_S3__ENDPOINT_URL: {url} is away"):
        await world_of(s3, bucket, endpoint_url=url).store.start()


async def test_tls_that_is_asked_of_a_port_without_it_is_told_by_the_url(s3: ObjectStore, bucket: str) -> None:
    url = s3.endpoint_url.replace("http:", "https:")
    with pytest.raises(Misconfigured, match=f"^WORKER_S3__ENDPOINT_URL: {url} speaks no TLS"):
        await world_of(s3, bucket, endpoint_url=url).store.start()


async def test_a_server_that_cannot_encrypt_is_refused_when_it_is_asked_to(s3: ObjectStore, bucket: str) -> None:
    """This server cannot; the contract tier has one that can."""
    with pytest.raises(Misconfigured, match=r"^WORKER_S3__ENCRYPTION: "):
        await world_of(s3, bucket, encryption="AES256").store.start()


async def test_over_tls_the_authority_that_the_setting_names_is_trusted_and_no_other(
    s3: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    tls, authority = certified(tmp_path)
    async with Proxy(s3.endpoint_url, tls) as proxy:
        store = world_of(s3, bucket, endpoint_url=proxy.url, ca_file=str(authority)).store
        await store.start()
        version = await store.create("key", b"over TLS")
        assert await store.replace("key", b"again", version) != version
        await store.stop()
        with pytest.raises(Misconfigured, match=r"^WORKER_S3__CA_FILE: none of these authorities vouches"):
            await world_of(s3, bucket, endpoint_url=proxy.url).store.start()


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """-> a server's side of TLS for 127.0.0.1, and the file of the authority that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    authority, private = folder / "authority.pem", folder / "key.pem"
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, private)
    return context, authority
