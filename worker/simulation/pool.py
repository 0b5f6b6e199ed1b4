"""Many simulations on all cores: each in a process of its own kind, nothing shared, results as they come."""

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice

from worker.settings import Settings
from worker.simulation.outcome import Case, Outcome

WAITING_PER_JOB = 4
"""Cases handed out beyond those that run, so that no process waits for its next one."""


def outcomes(cases: Iterable[Case], settings: Settings, jobs: int) -> Iterator[Outcome]:
    """-> what came of each, in the order in which they end; at most `jobs` run at once."""
    if jobs == 1:
        from worker.simulation.simulation import simulate

        yield from (simulate(case, settings) for case in cases)
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


_settings: Settings | None = None


def _begin(settings: Settings) -> None:
    global _settings  # set once, before the first case of this process
    _settings = settings


def _one(case: Case) -> Outcome:
    from worker.simulation.simulation import simulate

    assert _settings is not None
    return simulate(case, _settings)
