"""The invariants I1 to I15, over what a simulation leaves behind; they share no code with what they check.

evidence      what they look at, as plain values
reading       the published formats, read with the standard library
answers       I1 verdicts, I5 and I7 positions and writers, I11 lag
deadlines     I11 deadlines
documents     I2 counters, I3 terminal statuses, I4 verdicts as stored, and blobs, I15 directories
references    which blobs are named where
published     I6 order and fresh refusals, I10 chains, I14 the whole story
effects       I8 intents, I9 what still runs, I12 what is left behind
story         what happened to one aggregate, for people

I13 (same seed, same trace) takes two simulations, and is a test.
"""

from collections.abc import Callable, Iterator, Mapping

from worker.simulation.invariants.answers import i1_one_verdict, i5_positions, i7_one_writer, i11_no_lag
from worker.simulation.invariants.deadlines import i11_deadlines
from worker.simulation.invariants.documents import (
    i2_counters,
    i3_terminal,
    i4_blobs,
    i4_verdicts_published,
    i4_verdicts_stored,
    i15_directories,
)
from worker.simulation.invariants.effects import i8_intent_first, i9_evidence, i9_stopped, i12_nothing_left
from worker.simulation.invariants.evidence import (
    Evidence,
    Kind,
    Position,
    Published,
    Touch,
    Transaction,
    Violation,
    Write,
)
from worker.simulation.invariants.published import (
    i6_fresh_refusals,
    i6_log_order,
    i10_chains,
    i10_outbox_first,
    i14_rebuild,
)
from worker.simulation.invariants.reading import Reading
from worker.simulation.invariants.story import story

__all__ = [
    "INVARIANTS",
    "Evidence",
    "Kind",
    "Position",
    "Published",
    "Touch",
    "Transaction",
    "Violation",
    "Write",
    "check",
    "story",
]

Check = Callable[[Reading], Iterator[Violation]]
INVARIANTS: Mapping[str, tuple[Check, ...]] = {
    "I1": (i1_one_verdict,),
    "I2": (i2_counters,),
    "I3": (i3_terminal,),
    "I4": (i4_verdicts_stored, i4_verdicts_published),
    "I5": (i5_positions,),
    "I6": (i6_log_order, i6_fresh_refusals),
    "I7": (i7_one_writer,),
    "I8": (i8_intent_first,),
    "I9": (i9_stopped, i9_evidence),
    "I10": (i10_chains, i10_outbox_first),
    "I11": (i11_no_lag, i11_deadlines),
    "I12": (i12_nothing_left,),
    "I14": (i14_rebuild,),
    "I15": (i15_directories,),
}


def check(evidence: Evidence) -> list[Violation]:
    """Every invariant that does not hold, in their order; empty: all of them do.

    Where a blob is missing that something names, that is all: whatever it held cannot be read.
    """
    reading = Reading(evidence)
    if missing := list(i4_blobs(reading)):
        return missing
    return [violation for checks in INVARIANTS.values() for each in checks for violation in each(reading)]
