"""Harnesses: the whole stored harness as GET returns it, and its entry in the org's directory."""

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import Model, Sha256, Time
from schemas.status import HarnessStatus


class Capability(Model):
    """A capability that a harness enables."""

    ref: str
    """The capability's id; known to the org."""
    config: dict[str, Any] = {}
    """Configuration, as the capability defines it."""


class InitialFile(Model):
    """A starter file, copied into each new session."""

    path: str
    """Absolute path within the workspace; a `/workspace` prefix is accepted."""
    content: str
    """Text, or base64."""
    encoding: Literal["text", "base64"] = "text"
    """How the content is to be read."""
    is_readonly: bool = False
    """Whether sessions may not edit or delete it."""


class NetworkAccess(Model):
    """Which hosts sessions may reach.

    A pattern is `host` (exact, any port), `*.host` (the host and every subdomain), or a prefix of a URL with
    `http://` or `https://`.  A malformed pattern matches nothing.
    """

    allowed: tuple[str, ...] = ()
    """Only these patterns; empty: every host."""
    blocked: tuple[str, ...] = ()
    """Never these patterns; they win over `allowed`."""


class Harness(Model):
    """The whole stored harness, not merged with its parents."""

    id: str
    """`harness_` and 32 lowercase hex digits."""
    name: str
    """Addressable name, 1 to 64 characters of `[a-z0-9-]`, unique in its org."""
    display_name: str = ""
    """The name for people; up to 255 characters."""
    description: str | None = None
    """What it is for; up to 10,240 bytes."""
    system_prompt: str = ""
    """The prompt that its sessions begin with; up to 1 MiB."""
    parent_harness_id: str | None = None
    """The harness that it inherits from."""
    default_model_id: str | None = None
    """Model used where nothing else names one."""
    tags: tuple[str, ...] = ()
    """For organizing and filtering."""
    capabilities: tuple[Capability, ...] = ()
    """What it enables, in order; up to 250."""
    initial_files: tuple[InitialFile, ...] = ()
    """Starter files; up to 100, decoded up to 5 MiB in all."""
    network_access: NetworkAccess | None = None
    """Which hosts sessions may reach."""
    status: HarnessStatus = HarnessStatus.ACTIVE
    """Where it stands."""
    is_built_in: bool = False
    """Provisioned with the org, read-only."""
    created_at: Time
    """When it was created."""
    updated_at: Time
    """When it was last updated."""
    archived_at: Time | None = None
    """When it was archived."""
    deleted_at: Time | None = None
    """When it was deleted."""


class HarnessEntry(Model):
    """What an org's directory says of one harness."""

    name: str
    """Addressable name."""
    parent: str | None = None
    """Id of the parent."""
    status: HarnessStatus = HarnessStatus.ACTIVE
    """Where it stands."""
    built_in: bool = False
    """Read-only."""
    version: Annotated[int, Field(ge=0)] = 0
    """+1 per change of this harness."""
    body: Sha256
    """SHA-256 of its body, the blob that holds the whole harness."""
