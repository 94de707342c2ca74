"""A clock for what counts seconds: it goes only when it is told to."""

from __future__ import annotations


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now

    def tick(self) -> float:
        """For RetryPolicy.chance: each wait lasts a second."""
        self.now += 1
        return 0.0
