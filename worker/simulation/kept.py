"""Seeds that have failed once, each with its story in a line: they run first, for ever (`kept.toml`)."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from worker.simulation.faults import Plan
from worker.simulation.outcome import Case, Scale

FILE = Path(__file__).with_name("kept.toml")


class Kept(BaseModel):
    """A seed that has failed, as it was when it did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: str
    story: str
    workers: Annotated[int, Field(ge=1)] = 3
    commands: Annotated[int, Field(ge=1)] = 100
    rates: dict[str, float] = {}

    @property
    def case(self) -> Case:
        return Case(self.seed, Plan(rates=self.rates), Scale(self.workers, self.commands))


def kept() -> list[Kept]:
    """In the order in which they were found."""
    return [Kept.model_validate(each) for each in tomllib.loads(FILE.read_text())["failed"]]
