"""Which partition a key belongs to: murmur2, as Kafka's Java client hashes.  Pure; knows no topic and no client.

Every adapter and every publisher has to agree on it, since the order of an aggregate's records depends on it
(contract, section 2).
"""

import struct
from functools import lru_cache

SEED = 0x9747B28C
MULTIPLIER = 0x5BD1E995
MASK = 0xFFFFFFFF
KEYS_REMEMBERED_MAX = 8192


def murmur2(data: bytes) -> int:
    """As org.apache.kafka.common.utils.Utils.murmur2; -> 0 to 2**32 - 1 (Java shows the same bits signed)."""
    h = (SEED ^ len(data)) & MASK
    whole, rest = divmod(len(data), 4)
    for word in struct.unpack_from(f"<{whole}I", data):
        k = word * MULTIPLIER & MASK
        k ^= k >> 24
        h = (h * MULTIPLIER & MASK) ^ (k * MULTIPLIER & MASK)
    if rest:
        h = (h ^ int.from_bytes(data[-rest:], "little")) * MULTIPLIER & MASK
    h = (h ^ h >> 13) * MULTIPLIER & MASK
    return h ^ h >> 15


@lru_cache(maxsize=KEYS_REMEMBERED_MAX)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: `toPositive(murmur2(key)) % partitions`; remembered, as keys come in threes and more."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
