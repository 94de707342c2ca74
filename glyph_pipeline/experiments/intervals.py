"""Intervals: how far an error rate that was counted on a sample may be from the true one. Arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Two-sided 95 %: the 0.975 quantile of the normal distribution.
Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Count:
    """``errors`` among ``of`` trials: wrong characters among those drawn, wrong answers among the questions."""

    errors: int
    of: int

    @property
    def rate(self) -> float:
        """Errors for each trial; above 1 is possible for characters (insertions), 0 without any trial."""
        return self.errors / self.of if self.of else 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rate and its 95 % interval."""

    rate: float
    low: float
    high: float


def wilson(count: Count) -> Estimate:
    """The score interval of a share (Wilson, JASA 22, 1927); of no trials at all, 0 to 1.

    It takes the trials for independent. Characters of one line err together, so that for them it is rather too narrow.
    """
    if not count.of:
        return Estimate(0.0, 0.0, 1.0)
    n, p = count.of, min(1.0, count.rate)
    z2 = Z_95 * Z_95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # Where nothing or everything is wrong the bound is exact; rounding must not put it on the other side of the rate.
    low = 0.0 if count.errors == 0 else min(p, middle - half)
    high = 1.0 if p == 1 else max(p, middle + half)
    return Estimate(p, max(0.0, low), min(1.0, high))


def mean(counts: Sequence[Count]) -> Estimate:
    """The mean of several rates, each with the same weight however large its sample; its interval is put together from theirs.

    By the method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27, 2008).
    """
    parts = [wilson(count) for count in counts]
    rate = sum(part.rate for part in parts) / len(parts)
    below = math.sqrt(sum((part.rate - part.low) ** 2 for part in parts)) / len(parts)
    above = math.sqrt(sum((part.high - part.rate) ** 2 for part in parts)) / len(parts)
    return Estimate(rate, max(0.0, rate - below), min(1.0, rate + above))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b, of two samples that don't depend on each other (the same method; for two shares it is Newcombe's of 1998)."""
    rate = a.rate - b.rate
    below = math.sqrt((a.rate - a.low) ** 2 + (b.high - b.rate) ** 2)
    above = math.sqrt((a.high - a.rate) ** 2 + (b.rate - b.low) ** 2)
    return Estimate(rate, rate - below, rate + above)
