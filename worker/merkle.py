"""Merkle trees as RFC 6962 has them, over the records of a range.  Pure; knows no topic, no key and no signature.

A leaf is SHA-256 of 0x00 and the bytes, a node SHA-256 of 0x01 and its halves, so that neither passes for the other.
"""

import hashlib
from collections.abc import Sequence

LEAF, NODE = b"\x00", b"\x01"


def leaf(body: bytes) -> bytes:
    """A record's leaf, 32 bytes."""
    return hashlib.sha256(LEAF + body).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(NODE + left + right).digest()


class Distinct:
    """The leaves of a range, in the order in which they came; an identical repetition is none.

    It knows nothing of earlier ranges, so whoever reads one range computes what its author did: a repetition of a
    record of an earlier range is a leaf again.
    """

    def __init__(self) -> None:
        self._leaves: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._leaves)

    def add(self, body: bytes) -> bool:
        """Whether it was a new one."""
        hashed, before = leaf(body), len(self._leaves)
        return self._leaves.setdefault(hashed, before) == before

    def place(self, body: bytes) -> int:
        """Its number among the leaves.  Raises KeyError for what is not among them."""
        return self._leaves[leaf(body)]

    @property
    def leaves(self) -> list[bytes]:
        return list(self._leaves)

    def root(self) -> bytes:
        """32 bytes."""
        return root(self.leaves)


def root(leaves: Sequence[bytes]) -> bytes:
    """The root of at least one leaf, 32 bytes."""
    assert leaves, "a range without a record has no checkpoint"
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def path(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """The siblings from a leaf up to the root, lowest first: with the leaf, its place and the count, they prove it."""
    assert 0 <= place < len(leaves)
    level, siblings = list(leaves), []
    while len(level) > 1:
        beside = place ^ 1
        if beside < len(level):
            siblings.append(level[beside])
        level, place = _above(level), place // 2
    return siblings


def _above(level: list[bytes]) -> list[bytes]:
    """The next level; what has no right sibling rises as it is, which gives the trees of RFC 6962."""
    pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[-1:] if len(level) % 2 else pairs
