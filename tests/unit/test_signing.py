"""Keys of checkpoints: made once, kept to their owner, refused in one line where they cannot be used."""

from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.unit.chained import KEYS
from worker.errors import Misconfigured
from worker.signing import Signer, Signers, load, load_or_make, load_public, public_pem


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    closing = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, closing)


def test_a_key_is_made_once_and_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "audit.key"
    first, second = load_or_make(path, "X"), load_or_make(path, "X")
    assert first.now is not None
    assert second.now is not None
    assert first.now.key_id == second.now.key_id
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["audit.key"]


def test_the_first_key_of_a_file_signs_and_the_second_is_the_one_before(tmp_path: Path) -> None:
    new, old = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    (tmp_path / "keys.pem").write_bytes(b"rotated in spring\n" + pem(new) + pem(old))
    found = load(tmp_path / "keys.pem", "X")
    assert found.now is not None
    assert found.before is not None
    assert (found.now.public, found.before.public) == tuple(k.public_key().public_bytes_raw() for k in (new, old))


def test_the_old_key_hands_over_once_to_the_new_one() -> None:
    a, b = KEYS["a"], KEYS["b"]
    signers = Signers(b, a)
    assert signers.after(a.key_id) == (a, b.public_text)
    assert signers.after(b.key_id) == (b, None)
    assert signers.after(None) == (b, None)
    assert Signers().after(a.key_id) == (None, None)


def test_a_signature_is_checked_with_the_public_key_only(tmp_path: Path) -> None:
    signer = Signer(Ed25519PrivateKey.generate())
    signature = signer.sign(b"words")
    (tmp_path / "public.pem").write_bytes(public_pem(signer.public))
    assert load_public(tmp_path / "public.pem") == signer.public
    assert signer.sign(b"words") == signature != signer.sign(b"other words")
    Ed25519PublicKey.from_public_bytes(signer.public).verify(b64decode(signature), b"words")


BAD = {
    "no private key in PEM": b"",
    "no unencrypted private key": pem(Ed25519PrivateKey.generate(), b"secret"),
    "no Ed25519 key": pem(ec.generate_private_key(ec.SECP256R1())),
    "is no unencrypted": public_pem(KEYS["a"].public),
}


@pytest.mark.parametrize("why", BAD)
def test_what_is_no_key_is_refused_in_one_line_that_names_the_setting(tmp_path: Path, why: str) -> None:
    (tmp_path / "key.pem").write_bytes(BAD[why])
    with pytest.raises(Misconfigured, match=rf"^WORKER_AUDIT_KEY_FILE: .*{why}"):
        load(tmp_path / "key.pem", "WORKER_AUDIT_KEY_FILE")


def test_a_file_that_is_not_there_or_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"^X: .*cannot be read: No such file"):
        load(tmp_path / "none", "X")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Misconfigured, match=r"^X: .*cannot be made"):
        load_or_make(tmp_path / "file" / "audit.key", "X")
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_public(tmp_path / "none")
    (tmp_path / "private.pem").write_bytes(pem(Ed25519PrivateKey.generate()))
    with pytest.raises(Misconfigured, match="no public key in PEM"):
        load_public(tmp_path / "private.pem")
