"""RetryPolicy, Retries and Retry-After: how long to wait, and when to stop. No sockets, no sleep."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest

from glyph_pipeline.errors import ConfigError
from glyph_pipeline.reading.retry import Retries, RetryPolicy, retry_after


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


def test_the_bound_doubles_up_to_the_longest_and_chance_draws_below_it() -> None:
    bound = RetryPolicy(first=0.5, longest=30, jitter=0)
    assert [bound.backoff(waits) for waits in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert bound.backoff(10_000) == 30
    for chance, share in ((0.0, 1.0), (0.25, 0.75), (0.999, 0.001)):
        drawn = RetryPolicy(first=0.5, longest=30, chance=lambda chance=chance: chance)  # type: ignore[misc]
        assert [drawn.backoff(waits) for waits in (0, 3, 9)] == pytest.approx([0.5 * share, 4 * share, 30 * share])


def test_full_jitter_spreads_evenly_from_nothing_to_the_bound() -> None:
    drawn = [RetryPolicy(first=1).backoff(2) for _ in range(2000)]
    assert 0 <= min(drawn) < 0.1
    assert 3.9 < max(drawn) <= 4
    assert sum(drawn) / len(drawn) == pytest.approx(2, abs=0.15)


def test_each_wait_is_longer_but_asking_another_server_costs_none() -> None:
    retries = Retries(RetryPolicy(first=1, jitter=0, clock=Clock()))
    assert [retries.next_wait(at_once=at_once) for at_once in (False, True, True, False, False)] == [1, 0, 0, 2, 4]


def test_what_the_server_asks_for_is_the_least() -> None:
    retries = Retries(RetryPolicy(first=1, jitter=0, clock=Clock()))
    assert [retries.next_wait(7), retries.next_wait(0.5), retries.next_wait(0)] == [7, 2, 4]


def test_the_budget_runs_from_the_first_failure() -> None:
    clock = Clock()
    clock.now += 1800  # half an hour until the first failure
    retries = Retries(RetryPolicy(budget=10, first=1, jitter=0, clock=clock))
    assert retries.next_wait() == 1
    clock.now += 7.9
    assert retries.next_wait() == 2  # 7.9 + 2 < 10
    clock.now += 2
    assert retries.next_wait() is None
    assert "Tried 3 times, for 9.9 s" in retries.account()
    assert "the 10 s that tries may take" in retries.account()


def test_a_wait_beyond_the_budget_is_not_begun() -> None:
    retries = Retries(RetryPolicy(budget=300, clock=Clock()))
    assert retries.next_wait(least=900) is None
    assert retries.account() == "Tried once; the next try, 900 s later, would come after the 300 s that tries may take."


def test_no_budget_no_second_try_not_even_elsewhere() -> None:
    for at_once in (False, True):
        retries = Retries(RetryPolicy(budget=0, clock=Clock()))
        assert retries.next_wait(at_once=at_once) is None
        assert retries.account() == "Tried once."


def test_time_that_does_not_count() -> None:
    clock = Clock()
    retries = Retries(RetryPolicy(budget=10, first=1, jitter=0, clock=clock))
    assert retries.next_wait() == 1
    with retries.uncounted():
        clock.now += 600
    assert retries.next_wait() == 2
    with suppress(KeyError), retries.uncounted():
        clock.now += 600
        raise KeyError
    assert retries.next_wait() == 4
    clock.now += 10
    assert retries.next_wait() is None


@pytest.mark.parametrize(
    "bad", [{"budget": -1}, {"first": float("nan")}, {"longest": float("inf")}, {"jitter": 1.5}, {"jitter": -0.1}, {"budget": float("inf")}]
)
def test_numbers_that_make_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"RetryPolicy: {next(iter(bad))} is"):
        RetryPolicy(**bad)


NOON = "Sun, 06 Nov 1994 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0),
        ({"retry-after": " 120 "}, 120),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "5, 10"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 12:00:30 GMT", "date": NOON}, 30),
        ({"retry-after": "Sunday, 06-Nov-94 12:00:30 GMT", "date": NOON}, 30),
        ({"retry-after": "Sun Nov  6 12:00:30 1994", "date": NOON}, 30),
        ({"retry-after": NOON, "date": "Sun, 06 Nov 1994 12:00:30 GMT"}, 0),  # it is over
        # The clock here says 12:00:10 and matters only without a Date.
        ({"retry-after": "Sun, 06 Nov 1994 12:00:30 GMT"}, 20),
        ({"retry-after": "Sun, 06 Nov 1994 12:00:30 GMT", "date": "no date"}, 20),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=lambda: 784123210.0) == seconds


def test_chance_is_our_own() -> None:
    """Readers of programs that seed alike must not come back all at once; and a program's own numbers are not used up."""
    drawn = []
    for _ in range(2):
        random.seed(8)
        drawn.append([RetryPolicy().backoff(9) for _ in range(4)])
        assert random.random() == random.Random(8).random()
    assert drawn[0] != drawn[1]
