"""What the scenario is made of: a command, what is promised, and a scene of commands that are published together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.receipts import Evidence
from worker.demo.cast import ADA


@dataclass(frozen=True, slots=True)
class Expected:
    """What the verdict must say; None: anything, or nothing."""

    http_status: int
    code: str
    evidence: Evidence | None = None
    """Weakest evidence of the receipt; None: there must be no receipt."""
    status_after: str | None = None
    """Status of the aggregate after the decision."""
    processes_min: int = 0
    """Processes that the receipt names, at least."""
    escalations_min: int = 0
    """SIGKILLs that the receipt names, at least."""
    objects_removed: int = 0
    would: bool = False
    """A dry run: effects are named, and none was had."""
    same_bytes: bool = False
    """The very bytes that the first record with this command id got."""
    harness: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the whole stored harness that the verdict must carry; empty: there must be none."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and what is expected of it."""

    type: str
    """Type of the command."""
    target: str
    """What it acts on, a name of cast.py."""
    story: str
    """What is special, for people; also the command's reason."""
    expected: Expected
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fields beside actor, reason and the target's id; `expires_at` and the like, too."""
    actor: Mapping[str, Any] = field(default_factory=lambda: ADA)
    id: str | None = None
    """Command id, where two records share one."""
    again: bool = False
    """The very record that was first published with this id, once more."""
    form: Literal["binary", "structured", "broken"] = "binary"
    """Mode of the CloudEvent; broken: without a readable envelope."""
    ahead_seconds: int = 0
    """How far ce_time lies in the future."""
    starts_job: bool = False
    """The target's process is started just before, and its Job reported."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Commands that are published together."""

    title: str
    steps: tuple[Step, ...]
