"""Many simulations on all cores: each in a process of its own kind, nothing shared, results as they come."""

import gc
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice

from worker.settings import Settings
from worker.simulation.outcome import Case, Outcome

CASES_PER_COLLECTION = 50
WAITING_PER_JOB = 4
"""Cases handed out beyond those that run, so that no process waits for its next one."""


def outcomes(cases: Iterable[Case], settings: Settings, jobs: int) -> Iterator[Outcome]:
    """-> what came of each, in the order in which they end; at most `jobs` run at once."""
    if jobs == 1:
        _begin(settings)
        yield from map(_one, cases)
        return
    left = iter(cases)
    # Started afresh: a copy of this process would inherit its threads' locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(settings,)) as pool:
        try:
            running = {pool.submit(_one, case) for case in islice(left, jobs * WAITING_PER_JOB)}
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_one, case) for case in islice(left, len(ended))}
                yield from (each.result() for each in ended)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Run:
    """What a process knows while it runs cases."""

    settings: Settings
    cases = 0


def _begin(settings: Settings) -> None:
    _Run.settings = settings


def _one(case: Case) -> Outcome:
    from worker.simulation.simulation import simulate

    _Run.cases += 1
    if _Run.cases % CASES_PER_COLLECTION == 0:
        gc.collect()  # a case leaves a few megabytes in cycles; collecting takes as long as a quarter of a case
    return simulate(case, _Run.settings)
