"""glyph-compress batch IN -o OUT.jsonl: many questions, one line each, resumed where a run before ended."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from glyph_pipeline.cli.caching import cache_options
from glyph_pipeline.cli.options import DRAWING_OPTIONS, chosen_drawing, drawing_options
from glyph_pipeline.cli.reading import reading_options
from glyph_pipeline.cli.sending import sending_options
from glyph_pipeline.errors import EXIT_ITEMS_FAILED, EXIT_OK, EXIT_TRUNCATED
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.fonts import find_font


@click.command(short_help="Ask about many documents; answers as JSON lines.")
@click.argument("source", metavar="IN.jsonl|DIR")
@click.option("-o", "--output", required=True, metavar="OUT.jsonl", help="Answers, one a line; a second run does what is missing.")
@click.option("-q", "--question", metavar="TEXT", help="Question of every item that brings none of its own.")
@click.option("--encoding", metavar="NAME", help="Encoding of the documents [default: byte order mark, else UTF-8].")
@click.option("--retry-failed", is_flag=True, help="Do what failed in a run before once more.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Processes that draw [default: one a core, at most --concurrency; 0: none but this].",
)
@drawing_options
@reading_options
@sending_options()
@cache_options
@click.option("--quiet", is_flag=True, help="No progress and no summary on standard error.")
def batch(
    source: str,
    output: str,
    question: str | None,
    encoding: str | None,
    retry_failed: bool,
    workers: int | None,
    quiet: bool,
    **options: Any,
) -> int:
    """Ask about every item of IN.jsonl, or every file in DIR, and write one line for each to OUT.jsonl as it finishes.

    \b
    A line of IN.jsonl:  {"id": "a", "path": "a.txt", "question": "When?", "metadata": {}}
    or "text" in place of "path", or "documents": [{"path": ...}, {"text": ..., "id": ...}].
    A line of OUT.jsonl: {"id": "a", "status": "ok", "answer": "...", ...}; status: ok, truncated, failed.
    """
    drawing = chosen_drawing(**{name: options.pop(name) for name in DRAWING_OPTIONS})
    base = drawing if isinstance(drawing, RenderConfig) else RenderConfig.for_texts([], drawing)
    find_font(base.font, base.system_fonts)  # before a server is started for pages that can't be drawn
    from glyph_pipeline.batch.items import read_items
    from glyph_pipeline.batch.store import ResultStore, files_of
    from glyph_pipeline.cli.choice import Asking, chosen_reader
    from glyph_pipeline.cli.progress import BatchProgress
    from glyph_pipeline.pipeline import GlyphPipeline

    items = read_items(source, question=question, encoding=encoding, leave_out=files_of(output) if Path(source).is_dir() else ())
    asking = Asking.of(options)
    store = ResultStore(output, retry_failed=retry_failed)
    shown = 0
    try:
        with BatchProgress(quiet=quiet) as progress, store:
            for notice in store.notices:
                progress.notice(notice)
            shown = len(store.notices)
            before = [store.done[name] for name in items.ids if name in store.done]
            progress.begin(len(items), len(items) - len(before))
            if len(before) < len(items):
                with chosen_reader(
                    asking.choice, notice=progress.notice, on_wait=progress.waiting, start_timeout=asking.start_timeout
                ) as chosen:
                    pipeline = GlyphPipeline(config=drawing, **asking.arguments, **chosen.arguments)
                    results = pipeline.ask_many(
                        (item for item in items if item.id not in store.done), workers=workers, on_retry=progress.retrying
                    )
                    # Closed before the server is stopped: vLLM does not end while a client still listens.
                    with closing(results):
                        for result in results:
                            store.add(result.to_dict())
                            progress.add(result)
            return _exit_code([*before, *progress.statuses])
    finally:
        for notice in store.notices[shown:]:  # what closing it had to say
            progress.notice(notice)


def _exit_code(statuses: Collection[str]) -> int:
    if "failed" in statuses:
        return EXIT_ITEMS_FAILED
    return EXIT_TRUNCATED if "truncated" in statuses else EXIT_OK
