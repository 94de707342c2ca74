"""Progress of a batch on standard error: how many are done, at what rate, how long it will take. Does nothing itself."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.reading.reader import Retrying

# Failed items that are named one by one; all are in the output.
_NAMED = 10
_RETRY_NOTICE_S = 60.0


def bar_on(console: Console, quiet: bool) -> Progress:
    """A bar of things done out of all, their ``rate`` and the time that is left; none where the console is no terminal, or if ``quiet``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
        speed_estimate_period=300,
    )


class BatchProgress:
    """A bar where standard error is a terminal, notices, and a summary at the end; nothing at all if ``quiet``."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._bar = bar_on(self._console, quiet)
        self._task = self._bar.add_task("Starting", total=None, rate="")
        self._started = time.monotonic()
        self._missing = 0
        self._next_retry_notice = 0.0
        self._text_tokens = self._vision_tokens = 0
        self.statuses: Counter[str] = Counter()

    def __enter__(self) -> BatchProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._bar.disable:  # older releases of rich end a bar that never began with an empty line
            self._bar.stop()
        if self._missing:
            self.notice(self._summary())

    def notice(self, message: str) -> None:
        """One line of its own."""
        self._console.print(escape(message), soft_wrap=True)

    def waiting(self, seconds: float, log_line: str) -> None:
        """A server is starting."""
        self._bar.update(self._task, description=f"Waiting for the server, {seconds:.0f} s")

    def step(self, description: str) -> None:
        """Something else that takes a while."""
        self._bar.update(self._task, description=description)

    def begin(self, total: int, missing: int) -> None:
        """``missing`` of ``total`` items are to be done."""
        self._missing, self._started = missing, time.monotonic()
        before = total - missing
        if before:
            self.notice(f"{before:,} of {total:,} items are done already." + ("" if missing else " Nothing is missing."))
        self._bar.update(self._task, total=missing, description="Asking")

    def add(self, result: BatchResult) -> None:
        """One more is done."""
        self.statuses[result.status] += 1
        if result.answer is not None:
            self._text_tokens += result.answer.report.text_tokens
            self._vision_tokens += result.answer.report.vision_tokens
        elif result.error is not None and self.statuses["failed"] <= _NAMED:
            more = " Further failures are only in the output." if self.statuses["failed"] == _NAMED else ""
            self.notice(f"{result.id}: {result.error}{more}")
        failed = f", {self.statuses['failed']} failed" if self.statuses["failed"] else ""
        self._bar.update(self._task, advance=1, description="Asking", rate=f"{self._rate():.2f}/s{failed}")

    def retrying(self, item: str, event: Retrying) -> None:
        """A request failed and is sent again. Said once a minute: a server that is away fails all that are under way."""
        now = time.monotonic()
        if now >= self._next_retry_notice:
            self._next_retry_notice = now + _RETRY_NOTICE_S
            self.notice(f"{item}: {event.reason} It is asked again.")

    def _rate(self) -> float:
        return sum(self.statuses.values()) / max(1e-9, time.monotonic() - self._started)

    def _summary(self) -> str:
        done = sum(self.statuses.values())
        parts = [f"{self.statuses[status]:,} {status}" for status in ("ok", "truncated", "failed") if self.statuses[status]]
        ratio = f"; {self._text_tokens:,} text tokens read as {self._vision_tokens:,} vision tokens" if self._vision_tokens else ""
        left = f"; {self._missing - done:,} are still missing: run it again" if done < self._missing else ""
        seconds = time.monotonic() - self._started
        return f"{done:,} of {self._missing:,} items in {seconds:,.1f} s ({self._rate():.2f}/s): {', '.join(parts) or 'none done'}{ratio}{left}."
