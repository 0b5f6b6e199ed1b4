"""Checkpoints: what an audit partition held when it was looked at, signed, each holding the hash of the one before.

A checkpoint covers a range of one partition of the audit topic, by the root of a Merkle tree (RFC 6962: a leaf is
SHA-256 of 0x00 and the record's bytes, a node SHA-256 of 0x01 and its two halves).  Its leaves are the records of the
range in offset order, identical repetitions within the range left out.  What is signed, and hashed by the next
checkpoint, are the bytes of `payload`.
"""

import base64
import hashlib
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.base import Model, Sha256, Time

Offset = Annotated[int, Field(ge=0)]
PublicKey = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9+/]{43}=$")]
Signature = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9+/]{86}==$")]


def key_id_of(public: bytes) -> str:
    """The id of a public key, of its 32 bytes."""
    return hashlib.sha256(public).hexdigest()


class Checkpoint(Model):
    """What `payload` says."""

    kind: Literal["audit.checkpoint"]
    """Keeps a signature from being taken for one on something else."""
    partition: Annotated[int, Field(ge=0)]
    """Partition of the audit topic."""
    sequence: Annotated[int, Field(ge=1)]
    """Place in the partition's line of checkpoints, from 1."""
    previous_sha256: Sha256 | None = None
    """SHA-256 of the payload of the one before; absent in the first one."""
    first_offset: Offset
    """Where the range begins: the end of the one before, 0 in the first one."""
    end_offset: Offset
    """Offset after the range: the log must reach so far."""
    records: Annotated[int, Field(ge=1)]
    """Leaves of the tree."""
    root_sha256: Sha256
    """Root of the tree."""
    at: Time
    """When it was made: what was committed before then is covered, by this one or an earlier one."""
    key_id: Sha256 | None = None
    """SHA-256 of the 32 bytes of the public key that signs it; absent: unsigned."""
    introduces: PublicKey | None = None
    """Public key, base64, that the signer hands over to: trusted from here on, if the signer is."""

    @property
    def trusted_key_id(self) -> str | None:
        """Whose signature is expected next."""
        return key_id_of(base64.b64decode(self.introduces)) if self.introduces else self.key_id


class SignedCheckpoint(Model):
    """A checkpoint as published."""

    payload: str
    """JSON of a checkpoint, as text, since its bytes count."""
    signature: Signature | None = None
    """Ed25519 over the bytes of `payload`, base64; absent: unsigned."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What it says.  Raises ValidationError."""
        return Checkpoint.model_validate_json(self.payload)

    @property
    def sha256(self) -> str:
        """What the next one calls it."""
        return hashlib.sha256(self.payload.encode()).hexdigest()
