"""Answering on the command line: progress, the answer as it streams, the account of it. The pipeline does the work."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from glyph_pipeline.answer import Answer, Drawn, MergeAnswer, Merged, PageDrawn, WindowAnswer, WindowDone, WindowStarted
from glyph_pipeline.cli.caching import cache_row
from glyph_pipeline.cli.checks import check_rows, sent_rows
from glyph_pipeline.cli.choice import Asking, chosen_reader
from glyph_pipeline.cli.output import PageFolder, aligned, print_json, report_lines, seconds_line
from glyph_pipeline.document import Document, as_documents
from glyph_pipeline.errors import EXIT_OK, EXIT_TRUNCATED, OutputError, ReadError
from glyph_pipeline.pipeline import GlyphPipeline
from glyph_pipeline.reading.reader import AnswerDelta, PageRead, ReasoningDelta, Retrying
from glyph_pipeline.rendering.config import RenderConfig

# Cited pages that are named in the account; --json has all of them.
_SOURCES_SHOWN = 6


def answer_question(
    documents: list[Document],
    question: str,
    drawing: RenderConfig,
    options: Mapping[str, Any],
    *,
    output: str | None,
    show_reasoning: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Have the question answered and print it; the exit code, 0 or that of a truncated answer. ``options``: those of cli/reading.py."""
    asking = Asking.of(options)
    if sys.stdout is None:  # closed by the shell (>&-)
        raise OutputError("Standard output is closed: there is nowhere to write the answer.", hint="Send it to a file.")
    documents = as_documents(documents)  # as they will be told apart
    # What is still to be put right is not shown as it arrives.
    screen = Screen(quiet=quiet, print_answer=not as_json, show_reasoning=show_reasoning, live=not options["repair"])
    folder = PageFolder(output, several=len(documents) > 1) if output is not None else None
    answer: Answer | None = None
    with (
        screen,
        chosen_reader(asking.choice, notice=screen.notice, on_wait=screen.waiting, start_timeout=asking.start_timeout) as chosen,
    ):
        pipeline = GlyphPipeline(config=drawing, **asking.arguments, **chosen.arguments)
        # Closed before the server is stopped: vLLM does not end while a client still listens.
        with closing(pipeline.stream(documents, question)) as events:
            for event in events:
                if folder is not None and isinstance(event, PageDrawn):
                    folder.add(event.page)
                if folder is not None and isinstance(event, Drawn):
                    folder.finish(event.report, drawing)
                if isinstance(event, Answer):
                    answer = event
                screen.show(event)
    if answer is None:
        raise ReadError("The reader ended without an answer.")
    if chosen.start_seconds is not None:
        answer = replace(answer, seconds={"start server": chosen.start_seconds, **answer.seconds})
    if as_json:
        data = {"question": question, **answer.to_dict(), "config": drawing.to_dict(), "documents": [document.id for document in documents]}
        print_json(data)
    if not quiet:
        click.echo(aligned(_account(answer)), err=True)
    if answer.truncated:
        click.echo(_truncation(answer, asking.max_tokens), err=True)
        return EXIT_TRUNCATED
    return EXIT_OK


class Screen:
    """Progress on standard error, where that is a terminal, and the answer on standard output.

    On a terminal the answer is shown as it arrives. Elsewhere it is written when it is whole: an answer that broke off and
    began anew must not stand half in a file.
    """

    def __init__(self, *, quiet: bool, print_answer: bool, show_reasoning: bool, live: bool = True) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._status = self._console.status("Drawing ...")
        self._quiet = quiet
        self._print_answer = print_answer
        self._live = live and print_answer and sys.stdout.isatty()
        self._show_reasoning = show_reasoning
        self._pages = 0
        self._windows = 1
        self._windows_done = 0
        self._shown = False  # whether (part of) the answer has been shown
        self._mid_line: Any = None  # the stream whose line is not ended yet

    def __enter__(self) -> Screen:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()
        self._end_line()

    def notice(self, message: str) -> None:
        """One line of its own."""
        if not self._quiet:
            self._end_line()
            self._console.print(escape(message), soft_wrap=True)

    def waiting(self, seconds: float, log_line: str) -> None:
        """A server is starting."""
        self._status.update(f"Waiting for the server, {seconds:.0f} s  [dim]{escape(log_line[:100])}[/dim]")

    def show(self, event: object) -> None:
        """One event of the pipeline."""
        if isinstance(event, PageDrawn):
            self._pages += 1
            self._status.update(f"Drawing, page {self._pages} ...")
        elif isinstance(event, Drawn):
            self._status.update(f"Reading {event.report.pages} pages, {event.report.vision_tokens:,} vision tokens ...")
        elif isinstance(event, PageRead):
            self._status.update(f"Reading, page {event.page} of {event.total} ...")
        elif isinstance(event, WindowStarted):
            self._windows = event.windows
        elif isinstance(event, WindowDone):
            self._window_done(event)
        elif isinstance(event, Merged) and not event.answer.final:
            self._status.update(f"Merging, {len(event.answer.labels)} partial answers into one ...")
        elif isinstance(event, Retrying):
            self._again(event)
        elif isinstance(event, (ReasoningDelta, AnswerDelta)):
            self._delta(event)
        elif isinstance(event, Answer):
            self._finish(event)

    def _window_done(self, event: WindowDone) -> None:
        self._windows_done += 1
        if event.windows == 1:
            return
        self._status.update(f"Reading, {self._windows_done} of {event.windows} windows done ...")
        if self._show_reasoning:
            answer = event.answer
            parts = [f"[{answer.label}]", answer.reasoning, answer.text]
            self._write("\n".join(part for part in parts if part) + "\n", sys.stderr)

    def _delta(self, event: ReasoningDelta | AnswerDelta) -> None:
        # What windows say side by side would be a jumble; each is shown when it is done.
        if self._windows > 1 and event.window is not None:
            return
        if isinstance(event, AnswerDelta):
            if self._live:
                self._shown = True
                self._write(event.text, sys.stdout)
        elif self._show_reasoning:
            self._write(event.text, sys.stderr)
        else:
            self._status.update("Reasoning ...")

    def _again(self, event: Retrying) -> None:
        when = f"in {event.seconds:.0f} s" if event.seconds >= 1 else "now"
        which = f"window {event.window} of {self._windows}: " if event.window is not None and self._windows > 1 else ""
        self.notice(f"{which}{event.reason} Asking again {when}{'; what stands above is void' if self._shown else ''}.")
        self._shown = False
        if event.window is None:  # all windows anew, or the merging
            self._windows_done = 0

    def _finish(self, answer: Answer) -> None:
        if self._print_answer and not self._shown and answer.text:
            self._write(answer.text, sys.stdout)

    def _write(self, text: str, stream: Any) -> None:
        self._status.stop()
        if self._mid_line is not None and self._mid_line is not stream:
            self._end_line()
        click.echo(text, nl=False, file=stream)
        stream.flush()
        self._mid_line = None if text.endswith("\n") else stream

    def _end_line(self) -> None:
        if self._mid_line is not None:
            click.echo(file=self._mid_line)
            self._mid_line = None


def _account(answer: Answer) -> list[tuple[str, str]]:
    rows = report_lines(answer.report)
    if answer.report.sent is not None:
        rows += sent_rows(answer.report.sent)
    requests: list[WindowAnswer | MergeAnswer] = [*answer.windows, *answer.merges]
    if len(answer.windows) > 1:
        nothing = sum(not window.found for window in answer.windows)
        more = f"{len(answer.merges)} more request{'s' if len(answer.merges) > 1 else ''}"
        merged = f", {more} merged their answers" if answer.merges else ""
        rows.append(("windows", f"{len(answer.windows)}{f', {nothing} of them found nothing' if nothing else ''}{merged}"))
    if answer.usage.prompt_tokens is not None:
        predictions = [request.predicted_prompt_tokens for request in requests]
        known = [count for count in predictions if count is not None]
        predicted = f", {sum(known):,} predicted" if len(known) == len(predictions) else ""
        rows.append(("prompt tokens", f"{answer.usage.prompt_tokens:,}  as served{predicted}"))
    if answer.usage.completion_tokens is not None:
        rows.append(("completion", f"{answer.usage.completion_tokens:,} tokens, reasoning included"))
    if answer.sources:
        several = answer.report.documents > 1
        named = [f"{f'{source.document} ' if several else ''}page {source.page}" for source in answer.sources[:_SOURCES_SHOWN]]
        rows.append(("cited", ", ".join(named) + (" ..." if len(answer.sources) > _SOURCES_SHOWN else "")))
    if answer.drawn_before is not None:
        rows.append(cache_row(answer.drawn_before, answer.report.documents))
    rows += check_rows(answer.checks, answer.report.documents > 1)
    return [*rows, ("read by", answer.reader), seconds_line(answer.seconds)]


def _truncation(answer: Answer, max_tokens: int) -> str:
    if len(answer.windows) > 1:
        windows = sum(window.finish_reason == "length" for window in answer.windows)
        merging = any(merge.finish_reason == "length" for merge in answer.merges)
        what = f"in {windows} of {len(answer.windows)} windows{' and while merging' if merging else ''}"
        return (
            f"The model was cut off {what}, so the answer may lack something. Raise --max-tokens (now {max_tokens}) or serve with a "
            "larger context; --json shows every window."
        )
    where = "in its answer" if answer.text else "while it was still reasoning, before any answer"
    return (
        f"The model was cut off after {answer.usage.completion_tokens or 'its'} tokens {where}. "
        f"Raise --max-tokens (now {max_tokens}), or serve with a larger context; --show-reasoning shows how far it came."
    )
