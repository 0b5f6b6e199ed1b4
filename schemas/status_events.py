"""Status events: each change of status, in version order; (aggregate, version) identifies one, seen once or again."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Model, Time
from schemas.commands import Aggregate


class StatusEvent(Model):
    """`workflow.status_changed`, `session.status_changed` or `harness.status_changed`."""

    type: Literal["workflow.status_changed", "session.status_changed", "harness.status_changed"]
    """The event's type."""
    aggregate: Aggregate
    """Whose status changed (of a harness: its org, with `subject_id`)."""
    subject: Literal["workflow", "session", "turn", "harness"]
    """What of it changed."""
    subject_id: str
    """Id of the workflow, session, turn or harness."""
    before: str | None
    """Status before; none: it is new."""
    after: str
    """Status after."""
    version: Annotated[int, Field(ge=1)]
    """The version that this change made (of a harness: the harness's)."""
    at: Time
    """When it was decided."""
    cause: str
    """Id of the command, or `observation`."""
