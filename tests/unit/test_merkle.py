"""Merkle trees: as RFC 6962 has them, by its own words; and the bundle's verifier, which shares no line with ours."""

import hashlib

import pytest

from worker.audit.verify_bundle import Tree, root_of
from worker.merkle import Distinct, leaf, path, root

COUNTS = [*range(1, 18), 31, 32, 33, 100]


def bodies(count: int) -> list[bytes]:
    return [f"record {number}".encode() for number in range(count)]


def by_the_rfc(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over leaves that are hashed already: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + by_the_rfc(leaves[:split]) + by_the_rfc(leaves[split:])).digest()


def test_the_root_of_the_rfc_s_known_leaves() -> None:
    """The test vectors of certificate-transparency's own Merkle tree: 8 leaves."""
    vectors = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [leaf(bytes.fromhex(text)) for text in vectors]
    assert root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert root(leaves[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"


@pytest.mark.parametrize("count", COUNTS)
def test_roots_are_those_of_the_rfc_and_the_verifier_computes_the_same(count: int) -> None:
    made, verified = Distinct(), Tree()
    for body in bodies(count):
        assert made.add(body)
        verified.add(body)
    assert made.root() == by_the_rfc([leaf(body) for body in bodies(count)]) == verified.root()


@pytest.mark.parametrize("count", COUNTS)
def test_a_path_proves_its_own_record_and_place_only(count: int) -> None:
    leaves = [leaf(body) for body in bodies(count)]
    for place, body in enumerate(bodies(count)):
        siblings = path(leaves, place)
        assert root_of(body, place, count, siblings) == root(leaves)
        assert root_of(body + b"!", place, count, siblings) != root(leaves)
        assert root_of(body, place, count, [*siblings, b"\x00" * 32]) is None
        assert not siblings or root_of(body, place, count, siblings[:-1]) is None
        assert root_of(body, count, count, siblings) is None


def test_an_identical_repetition_is_no_leaf_and_keeps_its_first_place() -> None:
    found = Distinct()
    assert [found.add(body) for body in (b"a", b"b", b"a", b"c")] == [True, True, False, True]
    assert len(found) == 3
    assert (found.place(b"a"), found.place(b"c")) == (0, 2)
    assert found.root() == root([leaf(b"a"), leaf(b"b"), leaf(b"c")])


def test_a_node_does_not_pass_for_a_record() -> None:
    leaves = [leaf(b"a"), leaf(b"b")]
    assert leaf(leaves[0] + leaves[1]) != root(leaves)
