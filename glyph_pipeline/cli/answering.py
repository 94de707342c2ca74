"""Answering on the command line: progress, the answer as it streams, the account of it. The pipeline does the work."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from glyph_pipeline.cli.choice import ReaderChoice, chosen_reader
from glyph_pipeline.cli.output import PageFolder, aligned, print_json, report_lines, seconds_line
from glyph_pipeline.document import Document
from glyph_pipeline.errors import EXIT_OK, EXIT_TRUNCATED, ReadError
from glyph_pipeline.pipeline import Answer, Drawn, GlyphPipeline, PageDrawn
from glyph_pipeline.reading.reader import AnswerDelta, PageRead, ReasoningDelta
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.rendering.config import RenderConfig

# Options of a server that is started for the question, by the names GlyphServer.launch takes.
_LAUNCH = ("max_model_len", "max_num_batched_tokens", "tensor_parallel_size", "data_parallel_size", "port")


def answer_question(
    documents: list[Document],
    question: str,
    drawing: RenderConfig,
    server: dict[str, Any],
    *,
    output: str | None,
    max_tokens: int,
    show_reasoning: bool,
    as_json: bool,
    quiet: bool,
    start_timeout: float,
) -> int:
    """Have the question answered and print it; the exit code, 0 or that of a truncated answer. ``server`` holds the server options."""
    screen = Screen(quiet=quiet, stream=not as_json, show_reasoning=show_reasoning)
    folder = PageFolder(output, several=len(documents) > 1) if output is not None else None
    launch = {name: server[name] for name in _LAUNCH if server[name] is not None}
    if server["server_args"]:
        launch["extra_args"] = list(server["server_args"])
    choice = ReaderChoice(server["reader"], server["base_url"], server["model"], server["profile"], server["api_key"], launch)
    answer: Answer | None = None
    with screen, chosen_reader(choice, notice=screen.notice, on_wait=screen.waiting, start_timeout=start_timeout) as chosen:
        pipeline = GlyphPipeline(config=drawing, sampling=Sampling(max_tokens=max_tokens), **chosen.arguments)
        # Closed before the server is stopped: vLLM does not end while a client still listens.
        with closing(pipeline.stream(documents, question)) as events:
            for event in events:
                if folder is not None and isinstance(event, PageDrawn):
                    folder.add(event.page)
                if folder is not None and isinstance(event, Drawn):
                    folder.finish(event.report, drawing)
                if isinstance(event, Answer):
                    answer = event
                else:
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
        click.echo(_truncation(answer, max_tokens), err=True)
        return EXIT_TRUNCATED
    return EXIT_OK


class Screen:
    """Progress on standard error, where that is a terminal, and the answer on standard output as it arrives."""

    def __init__(self, *, quiet: bool, stream: bool, show_reasoning: bool) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._status = self._console.status("Drawing ...")
        self._quiet = quiet
        self._stream = stream
        self._show_reasoning = show_reasoning
        self._pages = 0
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
        elif isinstance(event, ReasoningDelta):
            if self._show_reasoning:
                self._write(event.text, sys.stderr)
            else:
                self._status.update("Reasoning ...")
        elif isinstance(event, AnswerDelta) and self._stream:
            self._write(event.text, sys.stdout)

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
    predicted = answer.windows[0].predicted_prompt_tokens
    if answer.usage.prompt_tokens is not None:
        rows.append(
            (
                "prompt tokens",
                f"{answer.usage.prompt_tokens:,}  as served" + (f", {predicted:,} predicted" if predicted is not None else ""),
            )
        )
    if answer.usage.completion_tokens is not None:
        rows.append(("completion", f"{answer.usage.completion_tokens:,} tokens, reasoning included"))
    return [*rows, ("read by", answer.reader), seconds_line(answer.seconds)]


def _truncation(answer: Answer, max_tokens: int) -> str:
    where = "in its answer" if answer.text else "while it was still reasoning, before any answer"
    return (
        f"The model was cut off after {answer.usage.completion_tokens or 'its'} tokens {where}. "
        f"Raise --max-tokens (now {max_tokens}), or serve with a larger context; --show-reasoning shows how far it came."
    )
