"""Endpoints: which of several servers takes the next request. Counts requests and failures; knows no HTTP and opens no connection."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from glyph_pipeline.errors import ConfigError

_FIRST_ASIDE_S = 1.0
_LONGEST_ASIDE_S = 60.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One request: to which URL, and the how-manieth it is of all."""

    url: str
    number: int


@dataclass(slots=True)
class _State:
    """What is known of one URL. ``aside_until`` and ``asked_until`` are times of the clock."""

    in_flight: int = 0
    last_turn: int = 0
    failures: int = 0  # in a row
    failed_before: int = 0  # turns with a lower number were given before the last failure was known
    aside_until: float = -math.inf
    asked_until: float = -math.inf  # by Retry-After


class Endpoints:
    """The servers that one reader may ask, alike in model and settings. Safe to use from several threads and event loops.

    A request goes to the URL with the fewest requests in flight, among equals to the one used longest ago. A URL that
    failed is set aside for a second, after each further failure in a row for twice as long, up to a minute; longer if the
    server asked for it. A success clears that. If all are set aside, the one whose time is up first is asked.

    ``clock`` gives seconds that never jump. Raises ConfigError without any URL.
    """

    def __init__(self, urls: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.urls: tuple[str, ...] = tuple(dict.fromkeys(urls))
        if not self.urls:
            raise ConfigError("No server's URL was given.", hint="Give at least one, such as http://127.0.0.1:8000/v1")
        self._clock = clock
        self._turns = 0
        self._states = {url: _State() for url in self.urls}
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """The next request's turn; it is in flight until the block ends."""
        with self._lock:
            url = self._next()
            state = self._states[url]
            self._turns += 1
            state.in_flight += 1
            state.last_turn = self._turns
            turn = Turn(url, self._turns)
        try:
            yield turn
        finally:
            with self._lock:
                state.in_flight -= 1

    def succeeded(self, turn: Turn) -> None:
        """The request of ``turn`` was answered in full: its URL is as good as new."""
        with self._lock:
            state = self._states[turn.url]
            state.failures = 0
            state.aside_until = state.asked_until = -math.inf

    def failed(self, turn: Turn, retry_after: float | None = None) -> None:
        """The request of ``turn`` failed: its URL is set aside, for ``retry_after`` seconds at least."""
        with self._lock:
            state = self._states[turn.url]
            now = self._clock()
            # A server that dies takes all its requests along. That is one failure, not as many in a row.
            if turn.number > state.failed_before or state.aside_until <= now:
                state.failures += 1
                state.failed_before = self._turns
                aside = min(_LONGEST_ASIDE_S, _FIRST_ASIDE_S * 2.0 ** min(state.failures - 1, 60))
                state.aside_until = max(state.aside_until, now + aside)
            if retry_after is not None:
                state.asked_until = max(state.asked_until, now + retry_after)
                state.aside_until = max(state.aside_until, state.asked_until)

    def any_ready(self) -> bool:
        """Whether there is a URL that is not set aside."""
        with self._lock:
            now = self._clock()
            return any(state.aside_until <= now for state in self._states.values())

    def asked_wait(self) -> float:
        """Seconds until the URL that is next wishes to be asked again (its Retry-After); 0 if it said nothing of the kind."""
        with self._lock:
            return max(0.0, self._states[self._next()].asked_until - self._clock())

    def _next(self) -> str:
        now = self._clock()
        ready = [url for url in self.urls if self._states[url].aside_until <= now]
        if ready:
            return min(ready, key=lambda url: (self._states[url].in_flight, self._states[url].last_turn))
        return min(self.urls, key=lambda url: (self._states[url].aside_until, self._states[url].in_flight, self._states[url].last_turn))
