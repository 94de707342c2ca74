"""Streaming: the events of an answer from sync code anywhere, and its text piece by piece. Knows no framework."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence

from glyph_pipeline.answer import Answer, PipelineEvent, WindowStarted
from glyph_pipeline.background import in_daemon, loop_runs
from glyph_pipeline.document import Document
from glyph_pipeline.pipeline import GlyphPipeline
from glyph_pipeline.reading.reader import AnswerDelta, Retrying


def events_of(pipeline: GlyphPipeline, documents: Sequence[Document], question: str) -> Generator[PipelineEvent, None, None]:
    """``pipeline.stream()``, inside a running event loop too (a notebook): there another thread drives it.

    Closing the iterator ends the requests; from that other thread with the next event.
    """
    if not loop_runs():
        yield from pipeline.stream(documents, question)
        return
    events: queue.SimpleQueue[tuple[PipelineEvent | None, BaseException | None]] = queue.SimpleQueue()
    left = threading.Event()

    def drive() -> None:
        try:
            stream = pipeline.stream(documents, question)
            for event in stream:
                if left.is_set():
                    stream.close()
                    break
                events.put((event, None))
        except BaseException as e:
            events.put((None, e))
        else:
            events.put((None, None))

    in_daemon(drive)
    try:
        while True:
            event, error = events.get()
            if error is not None:
                raise error
            if event is None:
                return
            yield event
    finally:
        left.set()


class AnswerText:
    """Takes the events of an answer, gives its text as it comes.

    All pieces together are the answer's text, but for one case: when a request fails after some of its text was given, and
    says something else when it is sent again, what it says then follows after a blank line. Partial answers of several windows
    are no part of it, only what they are merged into. ``at_end``: nothing is given before the answer is whole, for pipelines that
    put right what was misread.
    """

    def __init__(self, at_end: bool = False) -> None:
        self._at_end = at_end
        self._given = ""
        self._attempt = ""
        self._windows = 1

    def feed(self, event: PipelineEvent) -> str:
        """The piece of text that an event adds; often none."""
        if isinstance(event, WindowStarted):
            self._windows = event.windows
        elif isinstance(event, Retrying):
            self._attempt = ""
        elif isinstance(event, AnswerDelta) and (event.window is None or self._windows == 1):
            self._attempt += event.text
            # After a retry the same words come again; and white space at the end may turn out to be none of the answer.
            if not self._at_end and self._attempt.startswith(self._given):
                return self._give(self._attempt[len(self._given) :])
        elif isinstance(event, Answer):
            if event.text.startswith(self._given):
                return self._give(event.text[len(self._given) :])
            if event.text.strip() != self._given.strip():
                return self._give(f"\n\n{event.text}" if self._given else event.text)
        return ""

    def _give(self, piece: str) -> str:
        self._given += piece
        return piece
