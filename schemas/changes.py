"""What the `changes` of a `harness.update` may hold: shapes and limits, for those who publish one.

Rules that need the org (names, parents, models, capabilities) and those that need more than one field are the
worker's; it answers a change that breaks any of them with a verdict.
"""

from typing import Annotated, Literal

from pydantic import Field, StrictStr, StringConstraints

from schemas.base import Model
from schemas.harness import Capability, InitialFile, NetworkAccess


class HarnessChanges(Model):
    """A field that is left out keeps its value; null keeps it as well, but for `parent_harness_id`."""

    name: Annotated[str, StringConstraints(strict=True, max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")] | None = (
        None
    )
    """Addressable name, 1 to 64 characters, not `default`; unique in its org among harnesses that are not deleted."""
    display_name: Annotated[str, StringConstraints(strict=True, max_length=255)] | None = None
    """The name for people; up to 255 characters."""
    description: Annotated[str, StringConstraints(strict=True, max_length=10_240)] | None = None
    """What it is for; up to 10,240 bytes of UTF-8; an empty text is a value."""
    system_prompt: Annotated[str, StringConstraints(strict=True, max_length=1024 * 1024)] | None = None
    """The prompt that its sessions begin with; up to 1 MiB of UTF-8; an empty text is a value."""
    parent_harness_id: Annotated[str, StringConstraints(strict=True, pattern=r"^harness_[0-9a-f]{32}$")] | None = None
    """The harness to inherit from: of the same org, active, and forming no cycle. Null detaches."""
    default_model_id: StrictStr | None = None
    """Model used where nothing else names one; known to the org."""
    tags: tuple[StrictStr, ...] | None = None
    """For organizing and filtering; replaces the whole list, an empty one clears."""
    capabilities: Annotated[tuple[Capability, ...], Field(max_length=250)] | None = None
    """What it enables, in order; up to 250, known to the org, no ref twice. Replaces the whole list."""
    initial_files: Annotated[tuple[InitialFile, ...], Field(max_length=100)] | None = None
    """Starter files; up to 100, decoded up to 5 MiB in all, no path twice. Replaces the whole list."""
    network_access: NetworkAccess | None = None
    """Which hosts sessions may reach; replaces the whole, an empty object clears."""
    status: Literal["active", "archived", "deleted"] | None = None
    """`archived` archives, for good; `active` on an active harness changes nothing; `deleted` is refused with 403."""
