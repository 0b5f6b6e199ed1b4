"""Keys of the layout (design, section 4), and what S3 servers make of other ones (facts, S6).

A key is sent as it is: every id in it was validated against a set of characters that no server folds.  Where that
was missed, another document would be read or written, so it is a bug and is noticed here, before a request.
"""

KEY_BYTES_MAX = 1024
SEGMENT_BYTES_MAX = 255  # some servers keep a segment as the name of a file
FOLDED_SEGMENTS = ("", ".", "..")
NOT_IN_XML = str.maketrans("", "", "".join(map(chr, [*range(0x20), 0x7F, 0xFFFE, 0xFFFF])))


def checked(key: str) -> str:
    """The key itself.  Raises ValueError for what a server may fold onto another key, or refuse."""
    if len(key.encode()) > KEY_BYTES_MAX or not is_plain(key):
        raise ValueError(f"no key of a document: {key[:80]!r}")
    for segment in key.split("/"):
        if segment in FOLDED_SEGMENTS or len(segment.encode()) > SEGMENT_BYTES_MAX:
            raise ValueError(f"no key of a document: {key[:80]!r}")
    return key


def is_plain(key: str) -> bool:
    """Whether XML can carry it: others name their partial data as they like, and a batch delete is XML."""
    return key.translate(NOT_IN_XML) == key
