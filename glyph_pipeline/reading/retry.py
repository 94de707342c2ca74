"""Retry: whether and when a read that failed is tried again. Counts and computes; knows no HTTP client, no server and no sleep."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from glyph_pipeline.errors import ConfigError

# HTTP statuses after which the same request may succeed. 501 is a 5xx that stays: the server can't do what the request asks for.
PASSING_STATUS = frozenset({408, 409, 429, *range(500, 600)} - {501})

# Our own: a program that seeds Python's shared numbers must not have all its readers come back at once, nor its own sequence disturbed.
_CHANCE = random.Random()


def _chance() -> float:
    return _CHANCE.random()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a read is tried again, and how long it waits in between. All times are in seconds.

    ``budget`` runs from the first failure of a read, so that a read which stalled for half an hour still gets its second
    try; 0 means that nothing is tried twice. Before the n-th wait the bound is ``first`` * 2^(n-1), at most ``longest``,
    and the wait is drawn evenly from 0 to it ("full jitter", so that many readers don't come back all at once; Marc Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog 2015). ``jitter`` is the share of the bound that is left to
    chance: 1 is full jitter, 0 none. ``chance`` gives numbers in [0, 1), ``clock`` seconds that never jump; both are for tests.

    Raises ConfigError for a number that is negative or not finite, or a jitter above 1.
    """

    budget: float = 300.0
    first: float = 0.5
    longest: float = 30.0
    jitter: float = 1.0
    chance: Callable[[], float] = field(default=_chance, repr=False, compare=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in (("budget", self.budget), ("first", self.first), ("longest", self.longest), ("jitter", self.jitter)):
            if not (math.isfinite(value) and value >= 0) or (name == "jitter" and value > 1):
                bounds = "from 0 to 1" if name == "jitter" else "of seconds, 0 or more"
                raise ConfigError(f"RetryPolicy: {name} is {value!r}.", hint=f"Give a number {bounds}.")

    def backoff(self, waits: int) -> float:
        """Seconds of the next wait after ``waits`` earlier ones."""
        bound = min(self.longest, self.first * 2.0 ** min(waits, 60))
        return bound * (1 - self.jitter * self.chance())


class Retries:
    """What one read has been through: its failures, and how long ago the first of them was."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._waits = 0
        self._first_failure = 0.0
        self._elapsed = 0.0  # from the first failure to the last
        self._refused_wait = 0.0  # that would have ended beyond the budget

    def next_wait(self, least: float = 0.0, *, at_once: bool = False) -> float | None:
        """Note one more failure; seconds until the next try, or None if there is to be none.

        ``least`` is what the server asked for. ``at_once``: another server can be asked, so there is nothing to wait for.
        A wait that would end beyond the budget is not begun.
        """
        now = self._policy.clock()
        if not self._failures:
            self._first_failure = now
        self._failures += 1
        self._elapsed = now - self._first_failure
        wait = 0.0 if at_once else max(least, self._policy.backoff(self._waits))
        self._waits += not at_once
        if self._elapsed + wait >= self._policy.budget:
            self._refused_wait = wait if self._policy.budget else 0.0
            return None
        return wait

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """The time spent in this block does not count against the budget."""
        began = self._policy.clock()
        try:
            yield
        finally:
            self._first_failure += self._policy.clock() - began

    def account(self) -> str:
        """A sentence on how often and how long it was tried, for the error that is raised when that is over."""
        if self._failures == 1:
            tried = "Tried once"
        else:
            tried = f"Tried {self._failures} times, for {_seconds(self._elapsed)} s since the first failure"
        if self._elapsed >= self._policy.budget > 0:
            tried += f"; tries may take {self._policy.budget:g} s"
        elif self._refused_wait:
            tried += f"; the next try, {_seconds(self._refused_wait)} s later, would come after the {self._policy.budget:g} s that tries may take"
        return tried + "."


def retry_after(headers: Mapping[str, str], now: Callable[[], float] = time.time) -> float | None:
    """The seconds a response's Retry-After asks for (RFC 9110, 10.2.3), None without one or with one that makes no sense.

    ``headers`` must find names in any case, or in lower case. An HTTP-date is taken relative to the response's own Date, so
    that a wrong clock here does no harm; only without a Date it is relative to ``now`` (seconds since 1970).
    """
    value = headers.get("retry-after", "").strip()
    if value:
        try:
            seconds = float(value)
        except ValueError:
            wished = _timestamp(value)
            if wished is None:
                return None
            sent = _timestamp(headers.get("date", ""))
            seconds = wished - (now() if sent is None else sent)
            return max(0.0, seconds)
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None


def _timestamp(http_date: str) -> float | None:
    try:
        moment: datetime = parsedate_to_datetime(http_date)
    except (TypeError, ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
