"""Personal fields of audit records: AES-GCM under one key per subject; erasing the key erases the person (must 10)."""

import asyncio
import base64
import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.audit import Sealed
from schemas.commands import Personal
from worker.errors import Conflict, OutcomeUnknown
from worker.ports import DocumentStore, Ids

SUBJECTS_CACHED_MAX = 10_000


def personal_key(subject_sha256: str) -> str:
    """Where a subject's key is kept."""
    return f"personal/{subject_sha256}"


class Sealer:
    """Seals with the subject's key, made once (create if absent) and cached.

    A worker that has a key in its cache when the key is erased goes on sealing with it: what it seals is erased, too.
    """

    def __init__(self, store: DocumentStore, ids: Ids) -> None:
        self._store, self._ids = store, ids
        self._keys: dict[str, AESGCM] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def seal(self, personal: Personal) -> Sealed:
        """Raises Unavailable."""
        subject = hashlib.sha256(personal.subject.encode()).hexdigest()
        key = self._keys.get(subject) or await self._key(subject)
        nonce = self._ids.nonce()
        ciphertext = key.encrypt(nonce, personal.model_dump_json().encode(), subject.encode())
        return Sealed(
            subject_sha256=subject,
            nonce=base64.b64encode(nonce).decode(),
            ciphertext=base64.b64encode(ciphertext).decode(),
        )

    async def unseal(self, sealed: Sealed) -> Personal | None:
        """None where the person was erased (a key made since then does not open what was sealed before)."""
        stored = await self._store.load(personal_key(sealed.subject_sha256))
        if stored is None:
            return None
        nonce, ciphertext = base64.b64decode(sealed.nonce), base64.b64decode(sealed.ciphertext)
        try:
            plain = AESGCM(stored.body).decrypt(nonce, ciphertext, sealed.subject_sha256.encode())
        except InvalidTag:
            return None
        return Personal.model_validate_json(plain)

    async def _key(self, subject: str) -> AESGCM:
        """Loaded or made once, however many lanes ask for it at the same time."""
        lock = self._locks.setdefault(subject, asyncio.Lock())
        try:
            async with lock:
                return self._keys.get(subject) or await self._load_or_make(subject)
        finally:
            if not lock.locked():
                self._locks.pop(subject, None)

    async def _load_or_make(self, subject: str) -> AESGCM:
        name = personal_key(subject)
        while (stored := await self._store.load(name)) is None:
            try:
                await self._store.create(name, bytes.fromhex(self._ids.fresh() + self._ids.fresh()))
            except (Conflict, OutcomeUnknown):
                continue  # somebody else made it, or it may exist now: what is stored decides
        if len(self._keys) >= SUBJECTS_CACHED_MAX:
            self._keys.pop(next(iter(self._keys)))
        return self._keys.setdefault(subject, AESGCM(stored.body))
