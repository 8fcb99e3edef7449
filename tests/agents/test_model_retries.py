"""When a run that its model failed in is tried again, and when it is not any more: the pure rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramure.agents.models.errors import classify
from ramure.agents.models.retries import BACKOFF, Decision, Retries
from ramure.supervisors import Backoff

SLOW = classify("429 slow down")
STEADY = Backoff(first=4, factor=2, limit=60, jitter=0)


def failed(retries: Retries, *times: float) -> None:
    for now in times:
        retries.on_failed(now)


def test_a_transient_error_is_tried_again_after_a_growing_pause() -> None:
    retries = Retries(900, STEADY)
    delays = []
    for now in (0, 10, 30, 60, 100, 200):
        failed(retries, now)
        delays.append(retries.decide(SLOW, now, 0.5).delay)
    assert delays == [4, 8, 16, 32, 60, 60]


def test_a_permanent_error_ends_it_at_once() -> None:
    retries = Retries(900)
    failed(retries, 0)
    assert retries.decide(classify("401 no"), 0, 0.5) == Decision("end")


def test_an_abort_is_nobody_s_failure() -> None:
    assert Retries(900).decide(classify("Request was aborted"), 0, 0.5) == Decision("ignore")


def test_the_last_try_is_when_the_time_is_up() -> None:
    retries = Retries(100, STEADY)
    failed(retries, 0, 10, 30, 60, 95)
    assert retries.decide(SLOW, 95, 0.5) == Decision("retry", 5)
    failed(retries, 100)
    assert retries.decide(SLOW, 100, 0.5) == Decision("end")


def test_the_time_counts_from_the_first_error_that_pi_saw() -> None:
    retries = Retries(20, STEADY)
    retries.on_error(0)
    retries.on_error(7)
    failed(retries, 15)
    assert retries.elapsed(15) == 15
    assert retries.attempt == 1
    assert retries.decide(SLOW, 15, 0.5) == Decision("retry", 4)
    failed(retries, 20)
    assert retries.attempt == 2
    assert retries.decide(SLOW, 20, 0.5) == Decision("end")


def test_progress_begins_it_anew() -> None:
    retries = Retries(20, STEADY)
    failed(retries, 0, 10, 19)
    retries.reset()
    assert (retries.attempt, retries.elapsed(30)) == (0, 0)
    failed(retries, 30)
    assert retries.decide(SLOW, 30, 0.5) == Decision("retry", 4)


def test_no_time_is_no_second_try() -> None:
    retries = Retries(0)
    failed(retries, 0)
    assert retries.decide(SLOW, 0, 0.5) == Decision("end")


def test_what_the_provider_asks_to_wait_is_waited() -> None:
    retries = Retries(900, STEADY)
    failed(retries, 0)
    assert retries.decide(replace(SLOW, retry_after=30.0), 0, 0.25) == Decision("retry", 30.25)
    assert retries.decide(replace(SLOW, retry_after=1.0), 0, 0.25) == Decision("retry", 4)


def test_a_wait_beyond_the_time_is_not_begun() -> None:
    retries = Retries(900, STEADY)
    failed(retries, 0)
    assert retries.decide(replace(SLOW, retry_after=901.0), 0, 0.5) == Decision("end")
    assert retries.decide(replace(SLOW, retry_after=900.0), 0, 0.5) == Decision("retry", 900)


def test_a_clock_that_goes_back_does_no_harm() -> None:
    retries = Retries(900)
    failed(retries, 100, 50)
    assert retries.elapsed(50) == 0


@given(
    st.floats(0, 2000),
    st.lists(st.tuples(st.floats(0, 300), st.floats(0, 1), st.none() | st.floats(0, 1000)), max_size=40),
)
def test_the_tries_end_and_none_is_early(retry_for: float, failures: list[tuple[float, float, float | None]]) -> None:
    """Whatever the provider says, and however long each try takes: the next is never before it is due, the wait never
    longer than what is left, and after ``retry_for`` seconds none begins."""
    retries, now, began = Retries(retry_for), 0.0, None
    for took, luck, wait in failures:
        now += took
        began = now if began is None else began
        retries.on_failed(now)
        decision = retries.decide(replace(SLOW, retry_after=wait), now, luck)
        left = retry_for - (now - began)
        if decision.answer == "end":
            assert left <= 0 or (wait or 0) > left
            return
        assert left > 0
        assert decision.delay <= left
        assert decision.delay >= min(left, wait or 0)
        now += decision.delay


@pytest.mark.parametrize("attempt", range(1, 12))
def test_agents_that_failed_together_do_not_come_back_together(attempt: int) -> None:
    retries = Retries(10_000)
    failed(retries, *range(attempt))
    delays = sorted(retries.decide(SLOW, attempt, luck / 20).delay for luck in range(20))
    assert len(set(delays)) == 20
    assert delays[-1] - delays[0] > delays[-1] * 0.3
    assert delays[-1] <= BACKOFF.limit
