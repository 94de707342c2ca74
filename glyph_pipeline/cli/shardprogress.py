"""Progress of drawing into shards on standard error: how many are done, at what rate, which documents failed. Does nothing itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from glyph_pipeline.cli.progress import bar_on
from glyph_pipeline.shards.summary import NAMED, ShardSummary


class ShardProgress:
    """A bar where standard error is a terminal, and failed documents; nothing at all if ``quiet``."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._bar = bar_on(self._console, quiet)
        self._task = self._bar.add_task("Dividing the input", total=None, rate="")
        self._started = time.monotonic()
        self._named = self._pages = 0

    def __enter__(self) -> ShardProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._bar.disable:  # older releases of rich end a bar that never began with an empty line
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the first shard was begun."""
        return time.monotonic() - self._started

    def begin(self, shards: int, done: Sequence[ShardSummary]) -> None:
        """There are so many shards, of which these are done."""
        self._started = time.monotonic()
        missing = shards - len(done)
        if done:
            self._notice(f"{len(done):,} of {shards:,} shards are done already." + ("" if missing else " Nothing is missing."))
        for summary in sorted(done, key=lambda each: each.number):
            self._tell(summary)
        self._bar.update(self._task, total=missing, description="Drawing shards")

    def add(self, summary: ShardSummary) -> None:
        """One more is done."""
        self._tell(summary)
        self._pages += summary.counts.pages
        self._bar.update(self._task, advance=1, rate=f"{self._pages / max(self.seconds, 1e-9):,.0f} pages/s")

    def _tell(self, summary: ShardSummary) -> None:
        for failure in summary.failures:
            if self._named < NAMED:
                self._named += 1
                more = " Further failures are only beside the shards." if self._named == NAMED else ""
                self._notice(f"{failure.id}: {failure}{more}")

    def _notice(self, message: str) -> None:
        self._console.print(escape(message), soft_wrap=True)
