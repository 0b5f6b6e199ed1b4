"""Who is on stage, as data: evaluations, creations at an agent, sessions, harnesses, and ids that lead nowhere.

Names are what the scenario and the process table call them.  Knows nothing of how they are started.
"""

from dataclasses import dataclass
from typing import Any

from schemas.status import Status

TEAM, TENANT, ORG, ZONE, AGENT = "atlas", "acme", "acme", "here", "scribe"

ADA = {
    "subject": "ada@acme.test",
    "team_ids": [TEAM],
    "tenant": TENANT,
    "org_id": ORG,
    "permissions": ["agent:write", "session:write", "harness:manage", "workflow:report"],
}
"""Owns everything here, and may do everything but resume."""
EVE = ADA | {"subject": "eve@other.test", "team_ids": ["other"], "tenant": "other", "org_id": "other"}
"""May as much, elsewhere."""
BOB = ADA | {"subject": "bob@acme.test", "permissions": ["harness:view"]}
"""One of Ada's team, who may only look."""
RECONCILER = {"subject": "system:reconciler", "permissions": ["workflow:resume"]}

SLEEP = ("sleep", "3600")
DEAF = ("sh", "-c", "trap '' TERM; exec sleep 3600")
FAMILY = ("sh", "-c", "(sleep 3600 & setsid sleep 3600 & wait) & wait")
SLOW = ("sh", "-c", "trap 'sleep 1.5; exit' TERM; sleep 3600 & wait")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A workflow whose Job is a process of this machine."""

    program: tuple[str, ...] = ()
    """What runs; empty: nothing does."""
    status: Status = Status.RUNNING
    recorded: bool = True
    """Whether the document names the Job; else it is found by its marker."""
    late: bool = False
    """Started only when its Job is reported."""
    partial_objects: int = 0
    """Objects of partial data."""


@dataclass(frozen=True, slots=True)
class Creation:
    """A custom harness, and the workflow of its creation."""

    wish: dict[str, Any] | None = None
    """How its task at the agent behaves (see agent.py); None: there is no task."""
    agent: str = AGENT
    has_workflow: bool = True


@dataclass(frozen=True, slots=True)
class Session:
    """A session and its last turn."""

    wish: dict[str, Any] | None = None
    """How its turn at the executor behaves (see executor.py); None: nothing runs there."""
    status: Status | None = Status.RUNNING
    """Status of the last turn; None: there was none."""
    number: int = 1
    zone: str = ZONE


@dataclass(frozen=True, slots=True)
class OrgHarness:
    """A harness of the org, under its name."""

    parent: str | None = None


EVALUATIONS = {
    "obedient": Evaluation(SLEEP, partial_objects=3),
    "deaf": Evaluation(DEAF),
    "family": Evaluation(FAMILY),
    "unrecorded": Evaluation(SLEEP, status=Status.STARTING, recorded=False),
    "slow": Evaluation(SLOW),
    "forced": Evaluation(DEAF),
    "late": Evaluation(SLEEP, status=Status.CREATED, late=True),
    "bystander": Evaluation(SLEEP),
    "abandoned": Evaluation(SLEEP),
    "reported": Evaluation(),
    "finished": Evaluation(status=Status.SUCCEEDED),
}
CREATIONS = {
    "at-the-agent": Creation({}),
    "already-done": Creation({"finishes": True}),
    "reluctant": Creation({"not_cancelable_seconds": 4}),
    "endless": Creation({"not_cancelable_seconds": 3600}),
    "without-task": Creation(),
    "elsewhere": Creation({}, agent="nobody"),
    "draft": Creation(has_workflow=False),
}
SESSIONS = {
    "talk": Session({}, number=3),
    "over": Session({"finishes_after_seconds": 0}),
    "silent": Session({"silent": True}),
    "unhurried": Session({"ignores_cancel_seconds": 4}),
    "idle": Session(status=Status.SUCCEEDED, number=2),
    "closed": Session(status=None),
}
HARNESSES = {"base": OrgHarness(), "writer": OrgHarness(parent="base"), "reviewer": OrgHarness()}
HARNESS_IDS = {name: f"harness_{number:032x}" for number, name in enumerate(HARNESSES)}

STRANGERS: dict[str, dict[str, str]] = {
    "unknown": {"evaluation_id": "00000000-0000-4000-8000-000000000000"},
    "malformed": {"evaluation_id": "evaluation-7"},
    "malformed session": {"session_id": "talk"},
    "other zone": {"session_id": f"{'0' * 26}.elsewhere"},
    "31 digits": {"org_id": ORG, "harness_id": f"harness_{'0' * 31}"},
}
"""Ids that lead nowhere."""

SURVIVORS = frozenset({"bystander", "endless", "elsewhere", "silent"})
"""What no command stops: it must run in the end as it did in the beginning."""
ENDED = frozenset({"already-done", "over"})
"""What ends by itself before anybody cancels it."""
RUNNING = (
    frozenset(name for name, evaluation in EVALUATIONS.items() if evaluation.program and not evaluation.late)
    | frozenset(name for name, remote in (CREATIONS | SESSIONS).items() if remote.wish is not None)
) - ENDED
"""What has processes in the beginning."""
