"""Intervals against published numbers."""

from __future__ import annotations

import pytest

from glyph_pipeline.experiments.intervals import Count, difference, mean, wilson


@pytest.mark.parametrize(
    ("errors", "of", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson(errors: int, of: int, low: float, high: float) -> None:
    found = wilson(Count(errors, of))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.rate == errors / of


def test_of_nothing_and_of_more_errors_than_characters() -> None:
    nothing = wilson(Count(0, 0))
    assert (nothing.low, nothing.high) == (0, 1)
    all_wrong = wilson(Count(130, 100))
    assert (all_wrong.rate, all_wrong.high) == (1, 1)
    assert Count(130, 100).rate == 1.3


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, method 10.
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 20), 0.6791, 1.0)],
)
def test_differences(a: tuple[int, int], b: tuple[int, int], low: float, high: float) -> None:
    found = difference(wilson(Count(*a)), wilson(Count(*b)))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_a_mean_weighs_both_alike_and_is_surer_than_its_parts() -> None:
    large, small = Count(10, 10_000), Count(20, 1_000)
    both = mean([large, small])
    assert both.rate == pytest.approx((0.001 + 0.02) / 2)
    assert both.low < both.rate < both.high
    assert both.high - both.low < wilson(small).high - wilson(small).low
    assert mean([large]) == wilson(large)
