"""Signing checkpoints: Ed25519 keys in PEM files; a key's id is the SHA-256 of its public half.  Knows no topic."""

import base64
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.checkpoints import Checkpoint, SignedCheckpoint, key_id_of
from worker.errors import Misconfigured

PEM_BLOCK = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----.*?-----END [A-Z0-9 ]+-----", re.DOTALL)


class Signer:
    """A private key, and what its holder says of it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public)

    @property
    def public_text(self) -> str:
        """The public key, base64."""
        return base64.b64encode(self.public).decode()

    def sign(self, payload: bytes) -> str:
        """The signature, base64; the same bytes always get the same one."""
        return base64.b64encode(self._key.sign(payload)).decode()


@dataclass(frozen=True, slots=True)
class Signers:
    """Who signs now, and who did before and hands over; neither: checkpoints are unsigned."""

    now: Signer | None = None
    before: Signer | None = None

    def after(self, trusted_key_id: str | None) -> tuple[Signer | None, str | None]:
        """-> who signs the checkpoint after one that trusts this key, and the public key that it introduces."""
        if self.now and self.before and self.before.key_id == trusted_key_id:
            return self.before, self.now.public_text
        return self.now, None


UNSIGNED = Signers()


def signed(checkpoint: Checkpoint, signer: Signer | None) -> SignedCheckpoint:
    """As it is published; without a signer, unsigned."""
    assert checkpoint.key_id == (signer.key_id if signer else None)
    payload = checkpoint.model_dump_json(exclude_none=True)
    return SignedCheckpoint(payload=payload, signature=signer.sign(payload.encode()) if signer else None)


def load_or_make(path: Path, variable: str) -> Signers:
    """The keys in this file, which is made with a new one (mode 0600) where it is missing.  Raises Misconfigured."""
    if not path.exists():
        _make(path, variable)
    return load(path, variable)


def load(path: Path, variable: str) -> Signers:
    """The private keys in a PEM file: the first one signs, one below it is the one before.

    Raises Misconfigured, naming the variable.
    """
    try:
        blocks = PEM_BLOCK.findall(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"{variable}: {path} cannot be read: {error.strerror}") from error
    signers = [_signer(block, path, variable) for block in blocks[:2]]
    if not signers:
        raise Misconfigured(f"{variable}: {path} holds no private key in PEM")
    return Signers(*signers)


def _signer(pem: bytes, path: Path, variable: str) -> Signer:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Misconfigured(f"{variable}: {path} holds what is no unencrypted private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Misconfigured(f"{variable}: {path} holds no Ed25519 key (openssl genpkey -algorithm ed25519 makes one)")
    return Signer(key)


def load_public(path: Path) -> bytes:
    """The 32 bytes of the public key in a PEM file.  Raises Misconfigured."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Misconfigured(f"{path} is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Misconfigured(f"{path} is no Ed25519 key")
    return key.public_bytes_raw()


def public_pem(public: bytes) -> bytes:
    """A public key as a PEM file."""
    key = Ed25519PublicKey.from_public_bytes(public)
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _make(path: Path, variable: str) -> None:
    """Linked into place whole, so that a process that dies leaves no half a key."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draught = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draught.touch(mode=0o600)
        with draught.open("wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its key is ours
            path.hardlink_to(draught)
        draught.unlink()
    except OSError as error:
        raise Misconfigured(f"{variable}: {path} cannot be made: {error.strerror}") from error
