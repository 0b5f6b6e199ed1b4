"""The faults, F1 to F40: the catalogue, a plan that says how often, and how often each has struck.

A fault is counted only where it could change something: drawn at an operation (`strikes`), or met by one (`met`).  Each
fault has a source of chance of its own, so that a plan without one of them leaves the others as they are.  A plan is a
TOML file:

    version = 1
    [rates]             # per operation, or per simulated minute, as the catalogue says; what is not named stays
    F3 = 0.02
    F6 = 0.0            # never

Knows nothing of what a fault does: that is with the model of whatever it happens to.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.wording import rule
from worker.errors import Misconfigured


class Fault(NamedTuple):
    """What it is, how often it comes by default, and of what that is a rate."""

    text: str
    rate: float
    per: Literal["operation", "minute"] = "operation"


CATALOGUE: Mapping[str, Fault] = {
    # Kafka
    "F1": Fault("a worker crashes before or after a call", 0.0004),
    "F2": Fault("a request to Kafka is lost", 0.004),
    "F3": Fault("a reply of Kafka is lost", 0.004),
    "F4": Fault("a request to Kafka is answered after its time-out, and applied late", 0.003),
    "F5": Fault("partitions move, at any step", 0.5, "minute"),
    "F6": Fault("a worker sleeps for 0 to 10 minutes, and wakes as a zombie", 0.25, "minute"),
    "F7": Fault("a producer is fenced", 0.001),
    "F8": Fault("the coordinator says for a while that it still ends the last transaction", 0.005),
    "F9": Fault("a send fails, and only its future tells", 0.001),
    "F10": Fault("the coordinator ends a transaction that took too long", 0.001),
    "F11": Fault("the broker is away, or the coordinator moves", 0.25, "minute"),
    "F12": Fault("a command is sent again, to another partition, or is poison", 0.1),
    "F13": Fault("a fetch is told that its offset is out of range", 0.003),
    "F14": Fault("a committed offset is read that is older than the last commit", 0.05),
    "F15": Fault("a client's stop hangs", 0.02),
    "F16": Fault("a consumer looks alive and gets nothing", 0.002),
    # S3
    "F17": Fault("an object is written, and the reply lost", 0.01),
    "F18": Fault("409: the server decides for none of several writers", 0.01),
    "F19": Fault("a burst of 503", 0.5, "minute"),
    "F20": Fault("a request to store, agent or executor hangs", 0.002),
    "F21": Fault("an object has the bytes, and the ETag, that it had before", 0.01),
    "F22": Fault("a server that ignores conditions", 0.05),
    "F23": Fault("a body is cut off, or belongs to another version than its ETag", 0.003),
    "F24": Fault("an object is gone that was listed or known", 0.02),
    "F25": Fault("somebody else writes a document", 0.008),
    # Kubernetes, agents, executors
    "F26": Fault("deleted or cancelled, and the reply lost", 0.02),
    "F27": Fault("the name belongs to another uid by now", 0.05),
    "F28": Fault("429, with Retry-After", 0.02),
    "F29": Fault("401: the token was rotated", 0.005),
    "F30": Fault("a finalizer holds what was deleted", 0.06),
    "F31": Fault("pods ignore SIGTERM", 0.1),
    "F32": Fault("the TTL controller removes a Job first", 0.05),
    "F33": Fault("the owner above a Job creates it again", 0.05),
    "F34": Fault("the API server is away for up to 5 minutes", 0.2, "minute"),
    "F35": Fault("a Job appears after its cancel was decided", 0.05),
    # the process
    "F36": Fault("SIGTERM in the middle of work", 0.3, "minute"),
    "F37": Fault("SIGKILL", 0.3, "minute"),
    "F38": Fault("the loop stands still for longer than the session time-out", 0.2, "minute"),
    "F39": Fault("the wall clock jumps by an hour", 0.1, "minute"),
    "F40": Fault("out of memory, at any step", 0.2, "minute"),
}

Rate = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class Plan(BaseModel):
    """How often each fault comes; what a plan does not name comes as often as the catalogue says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    rates: dict[str, Rate] = Field(default_factory=dict)

    def rate(self, fault: str) -> float:
        return self.rates.get(fault, CATALOGUE[fault].rate)

    def without(self, *faults: str) -> "Plan":
        return Plan(rates=self.rates | dict.fromkeys(faults, 0.0))

    def only(self, *faults: str) -> "Plan":
        """Those as they are here; all others never."""
        return self.without(*(fault for fault in CATALOGUE if fault not in faults))


NO_FAULTS = Plan(rates=dict.fromkeys(CATALOGUE, 0.0))


def read_plan(file: Path) -> Plan:
    """Raises Misconfigured, naming field and rule."""
    try:
        plan = Plan.model_validate(tomllib.loads(file.read_text()))
    except OSError as error:
        raise Misconfigured(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{file}: no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise Misconfigured(f"{file}: {'.'.join(map(str, first['loc']))}: {rule(first)}") from None
    if unknown := sorted(set(plan.rates) - set(CATALOGUE)):
        raise Misconfigured(f"{file}: rates.{unknown[0]}: no such fault; there are F1 to F{len(CATALOGUE)}")
    return plan


class Faults:
    """What strikes in one simulation, and what has; `off` ends all of it."""

    def __init__(self, plan: Plan, seed: str) -> None:
        self.plan = plan
        self.counts: Counter[str] = Counter()
        self._rates = {fault: plan.rate(fault) for fault in CATALOGUE}
        self._sources = {fault: Random(f"{seed}/{fault}") for fault in CATALOGUE}

    def strikes(self, fault: str) -> bool:
        """At an operation that it would change; counted where it does."""
        rate = self._rates[fault]
        if rate > 0 and self._sources[fault].random() < rate:
            self.counts[fault] += 1
            return True
        return False

    def met(self, fault: str) -> None:
        """An operation was in flight that a fault outside of it has changed."""
        self.counts[fault] += 1

    def rate(self, fault: str) -> float:
        """How often it comes now, per operation or minute."""
        return self._rates[fault]

    def source(self, fault: str) -> Random:
        """For the details of a fault: which, when, how long."""
        return self._sources[fault]

    def off(self) -> None:
        """Nothing strikes from now on."""
        self._rates = dict.fromkeys(self._rates, 0.0)
