"""A broker that is locked: TLS under an authority of its own, SASL, and just the rights that deploy/README.md names.

An administrator may do everything; `worker` and `api` may do what the table says of the worker and of the API tier.
"""

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from confluent_kafka import admin as untyped
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.services.broker import Broker
from tests.services.container import HOST

admin: Any = untyped  # its types leave out half of what it documents
PASSWORD = "correct horse"  # noqa: S105  # of brokers that live for these tests
MODULES = "org.apache.kafka.common.security"
WHO = {"worker": ("worker", "whoever publishes"), "api": ("API tier", "whoever publishes")}
USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "encipher_only",
    "decipher_only",
)
"""Of a key, beside what an authority does with it."""
RIGHTS = Path(__file__).parents[2] / "deploy" / "README.md"


class Guarded:
    """`broker`, and the settings with which it lets somebody in."""

    def __init__(self, broker: Broker, ca_file: Path) -> None:
        self.broker, self._ca_file = broker, ca_file
        self.administrator: Any = admin.AdminClient(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "security.protocol": "SASL_SSL",
                "ssl.ca.location": str(ca_file),
                "sasl.mechanism": "PLAIN",
                "sasl.username": "administrator",
                "sasl.password": PASSWORD,
            }
        )

    def settings(self, name: str, **changed: Any) -> dict[str, Any]:
        """Of KafkaSettings, for a user who comes by SCRAM, or `administrator`."""
        whole = {
            "security": "SASL_SSL",
            "ca_file": str(self._ca_file),
            "sasl_mechanism": "PLAIN" if name == "administrator" else "SCRAM-SHA-512",
            "sasl_username": name,
            "sasl_password": PASSWORD,
        }
        return whole | changed

    def set_password(self, name: str, password: str) -> None:
        """Makes the user where there is none."""
        info = admin.ScramCredentialInfo(admin.ScramMechanism.SCRAM_SHA_512, 4096)
        upsertion = admin.UserScramCredentialUpsertion(name, info, password.encode())
        _wait(self.administrator.alter_user_scram_credentials([upsertion]))

    def grant(self, name: str, prefix: str, group: str) -> None:
        """What the table gives to this user, for these topics and this group."""
        _wait(self.administrator.create_acls([_binding(name, *right) for right in rights(name, prefix, group)]))

    def take_away(self, name: str, prefix: str, group: str, kind: str) -> None:
        """All rights over `topic`, or over `group`, or ... ."""
        bindings = [_filter(name, *right) for right in rights(name, prefix, group) if right[0] == kind]
        _wait(self.administrator.delete_acls(bindings))

    def take_one(self, name: str, right: "Right") -> None:
        """This right, and no other."""
        _wait(self.administrator.delete_acls([_filter(name, *right)]))


@contextmanager
def guarded(folder: Path) -> Iterator[Guarded]:
    """Ready in 2 s."""
    authority = Authority("authority of these brokers")
    ca_file = folder / "ca.pem"
    ca_file.write_text(authority.certificate)
    certificate, key = authority.server(HOST)
    with Broker(_properties(certificate, key)) as broker:
        guard = Guarded(broker, ca_file)
        for name in WHO:
            guard.set_password(name, PASSWORD)
        yield guard
        del guard.administrator  # it would go on looking for the broker, and complain


def _properties(certificate: str, key: str) -> dict[str, str]:
    """The listener that is called PLAINTEXT is anything but; brokers among themselves are anonymous."""
    listener = "listener.name.plaintext"
    return {
        "listener.security.protocol.map": "PLAINTEXT:SASL_SSL,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        f"{listener}.ssl.keystore.type": "PEM",
        f"{listener}.ssl.keystore.certificate.chain": certificate.replace("\n", "\\n"),
        f"{listener}.ssl.keystore.key": key.replace("\n", "\\n"),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
        f"{listener}.plain.sasl.jaas.config": (
            f'{MODULES}.plain.PlainLoginModule required user_administrator="{PASSWORD}";'
        ),
        f"{listener}.scram-sha-512.sasl.jaas.config": f"{MODULES}.scram.ScramLoginModule required;",
        f"{listener}.oauthbearer.sasl.jaas.config": (
            f'{MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        ),
        # A connection ends with its token: whoever has no new one by then stays out.
        f"{listener}.oauthbearer.connections.max.reauth.ms": "3600000",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:administrator",
    }


def token(name: str, seconds: float) -> str:
    """A token that says who one is, for so long; unsigned, as this broker takes it: its third part is empty."""
    claims = {"sub": name, "iat": time.time() - 1, "exp": time.time() + seconds}
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])


# ------------------------------------------------------------------------------------ rights, as documented

Right = tuple[str, str, str, str]
"""Kind of resource, its name, how the name is meant (literal or prefixed), operation."""


def rights(name: str, prefix: str, group: str) -> set[Right]:
    """What the table of deploy/README.md gives to `worker` or `api`."""
    return set(_rights(name, prefix, group))


def _rights(name: str, prefix: str, group: str) -> Iterator[Right]:
    for line in RIGHTS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        kind = cells[0].split(" ")[0].removesuffix("s")
        if kind not in ("topic", "group", "transactional", "cluster"):
            continue
        resource, operations, who = cells
        if not any(tier in who for tier in WHO[name]):
            continue
        for pattern in re.findall(r"`([^`]+)`", resource) or ["kafka-cluster"]:
            whole = pattern if not pattern.startswith(".") else f"<prefix>{pattern}"
            named = whole.replace("<prefix>", prefix).replace("<group>", group)
            for operation in operations.split(", "):
                yield kind, named, "prefixed" if "(prefix)" in resource else "literal", operation


def _binding(name: str, kind: str, resource: str, meant: str, operation: str, *, made: Any = None) -> Any:
    kinds = {"topic": "TOPIC", "group": "GROUP", "transactional": "TRANSACTIONAL_ID", "cluster": "BROKER"}
    return (made or admin.AclBinding)(
        admin.ResourceType[kinds[kind]],
        resource,
        admin.ResourcePatternType[meant.upper()],
        f"User:{name}",
        "*",
        admin.AclOperation[operation.upper().replace(" ", "_")],
        admin.AclPermissionType.ALLOW,
    )


def _filter(name: str, *right: str) -> Any:
    return _binding(name, *right, made=admin.AclBindingFilter)


def _wait(futures: dict[Any, Any]) -> None:
    for future in futures.values():
        future.result(10)


# ------------------------------------------------------------------------------------ certificates


class Authority:
    """Vouches for servers, for a day; `certificate` is its own, as PEM."""

    def __init__(self, name: str) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        uses = dict.fromkeys(USES, False) | {"key_cert_sign": True, "crl_sign": True}
        is_one = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = self._signed(
            self._name, self._key.public_key(), (is_one, True), (x509.KeyUsage(**uses), True)
        )

    def server(self, address: str) -> tuple[str, str]:
        """-> certificate and key of a server at this IP address, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        where = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self._signed(name, key.public_key(), (where, False)), key.private_bytes(*form).decode()

    def _signed(self, name: x509.Name, key: ec.EllipticCurvePublicKey, *says: tuple[x509.ExtensionType, bool]) -> str:
        """`says`: extensions, each with whether it is critical."""
        now = datetime.now(UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension, critical in says:
            built = built.add_extension(extension, critical)
        return built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
