"""What others do to objects of the bucket while workers use it, within what the contract lets them.

The platform's own services write a document as workers do: by compare-and-set, with a fresh write id and the next
revision; here they change nothing else.  Documents are never deleted.  Knows keys of the layout (design, section 4).
"""

from random import Random

from schemas.documents import Document

PLATFORM = "platform"
"""Who writes and deletes, in the history of a bucket."""
DOCUMENTS = ("workflows/", "sessions/", "orgs/")


def is_document(key: str) -> bool:
    """Whether it is an aggregate's."""
    return any(f"/{folder}" in f"/{key}" for folder in DOCUMENTS) and key.endswith(".json")


def may_vanish(key: str) -> bool:
    """Whether somebody else may remove it: partial data, and what a probe has left behind."""
    return "/partial/" in key or is_probe(key)


def is_probe(key: str) -> bool:
    """Whether a worker's start has made it, to learn how the server behaves."""
    return "/probe/" in f"/{key}"


def rewritten(body: bytes, chance: Random) -> bytes:
    """The same document, written again by somebody else."""
    document = Document.model_validate_json(body)
    changed = document.model_copy(
        update={"write_id": f"{chance.getrandbits(128):032x}", "revision": document.revision + 1}
    )
    return changed.model_dump_json().encode()
