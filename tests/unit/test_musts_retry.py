"""Backoff: an outage is asked about less and less often, and not by all at the same time (must 7)."""

import pytest

from worker.adapters.system import SystemClock, SystemIds
from worker.errors import OutcomeUnknown, Unavailable
from worker.runtime.retry import FIRST_SECONDS, MAX_SECONDS, RETRY_AFTER_MAX_SECONDS, Backoff


def backoff(tries: int = 0) -> Backoff:
    fresh = Backoff(SystemClock(), SystemIds())
    fresh.tries = tries
    return fresh


@pytest.mark.parametrize(("tries", "step"), [(0, 1), (1, 2), (2, 4), (5, 32)])
def test_each_pause_is_about_twice_the_last_and_at_least_half_of_its_step(tries: int, step: int) -> None:
    drawn = [backoff(tries).seconds() for _ in range(100)]
    assert all(FIRST_SECONDS * step / 2 <= seconds <= FIRST_SECONDS * step for seconds in drawn)
    assert len(set(drawn)) > 90


@pytest.mark.parametrize("tries", [7, 100, 10_000])
def test_a_pause_is_bounded(tries: int) -> None:
    assert MAX_SECONDS / 2 <= backoff(tries).seconds() <= MAX_SECONDS


@pytest.mark.parametrize("asked", [9.0, RETRY_AFTER_MAX_SECONDS, 100_000.0])
def test_what_the_other_side_asks_for_is_kept_within_a_bound(asked: float) -> None:
    expected = min(asked, RETRY_AFTER_MAX_SECONDS)
    assert backoff().seconds(Unavailable("busy", retry_after_seconds=asked)) == expected
    assert backoff().seconds(OutcomeUnknown("reply lost")) <= FIRST_SECONDS


async def test_pauses_grow_until_a_success() -> None:
    waiting = Backoff(SystemClock(), SystemIds(), first_seconds=0.001)
    for _ in range(3):
        await waiting.pause()
    assert waiting.tries == 3
    waiting.reset()
    assert waiting.seconds() <= 0.001
