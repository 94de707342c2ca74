"""glyph-compress batch IN -o OUT: many questions, one record each, resumed where a run before ended."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import click

from glyph_pipeline.cli.caching import cache_options
from glyph_pipeline.cli.cluster import check_engine, engine_options
from glyph_pipeline.cli.options import DRAWING_OPTIONS, chosen_drawing, drawing_options
from glyph_pipeline.cli.reading import reading_options
from glyph_pipeline.cli.sending import sending_options
from glyph_pipeline.errors import EXIT_ITEMS_FAILED, EXIT_OK, EXIT_TRUNCATED
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.fonts import find_font

if TYPE_CHECKING:
    from glyph_pipeline.batch import BatchResult, Items
    from glyph_pipeline.cli.choice import Asking
    from glyph_pipeline.cli.progress import BatchProgress


@click.command(short_help="Ask about many documents; answers as JSON lines.")
@click.argument("source", metavar="IN")
@click.option(
    "-o", "--output", required=True, metavar="OUT", help="Answers: OUT.jsonl, or a folder of parts; a second run does what is missing."
)
@click.option("-q", "--question", metavar="TEXT", help="Question of every item that brings none of its own.")
@click.option("--encoding", metavar="NAME", help="Encoding of the documents [default: byte order mark, else UTF-8].")
@click.option(
    "--output-format",
    type=click.Choice(["jsonl", "parquet", "text"]),
    help="Format of the answers [default: parquet if OUT ends with .parquet, else jsonl].",
)
@click.option("--retry-failed", is_flag=True, help="Do what failed in a run before once more.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Processes that draw [default: one a core, at most --concurrency; 0: none but this].",
)
@engine_options
@click.option(
    "--readers", type=click.IntRange(min=1), metavar="N", help="With --engine ray: processes that ask [default: one a machine or GPU]."
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
    output_format: str | None,
    retry_failed: bool,
    workers: int | None,
    engine: str,
    address: str | None,
    readers: int | None,
    quiet: bool,
    **options: Any,
) -> int:
    """Ask about every item of IN, and write one record for each to OUT as it finishes.

    IN is a JSON Lines file, a Parquet file or a folder of texts; OUT a JSON Lines file, or a folder that gets parts of JSON Lines,
    Parquet or text. Both may be URLs, such as s3://bucket/in.jsonl.

    \b
    A line of IN.jsonl:  {"id": "a", "path": "a.txt", "question": "When?", "metadata": {}}
    or "text" in place of "path", or "documents": [{"path": ...}, {"text": ..., "id": ...}].
    A line of OUT.jsonl: {"id": "a", "status": "ok", "answer": "...", ...}; status: ok, truncated, failed.
    """
    check_engine(engine, {"--address": address, "--readers": readers}, {"--workers": workers})
    drawing = chosen_drawing(**{name: options.pop(name) for name in DRAWING_OPTIONS})
    base = drawing if isinstance(drawing, RenderConfig) else RenderConfig.for_texts([], drawing)
    find_font(base.font, base.system_fonts)  # before a server is started for pages that can't be drawn
    from glyph_pipeline.batch import open_results, places_of, read_items
    from glyph_pipeline.cli.choice import Asking
    from glyph_pipeline.cli.progress import BatchProgress

    items = read_items(source, question=question, encoding=encoding, leave_out=places_of(output))
    asking = Asking.of(options)
    store = open_results(output, retry_failed=retry_failed, format=output_format)
    shown = 0
    try:
        with BatchProgress(quiet=quiet) as progress, store:
            for notice in store.notices:
                progress.notice(notice)
            shown = len(store.notices)
            before = [store.done[name] for name in items.ids if name in store.done]
            progress.begin(len(items), len(items) - len(before))
            if len(before) < len(items):
                if engine == "ray":
                    answering = _on_ray(items, store.done, drawing, asking, progress, address, readers)
                else:
                    answering = _here(items, store.done, drawing, asking, progress, workers)
                with answering as results:
                    for result in results:
                        store.add(result.to_dict())
                        progress.add(result)
            return _exit_code([*before, *progress.statuses])
    finally:
        for notice in store.notices[shown:]:  # what closing it had to say
            progress.notice(notice)


@contextmanager
def _here(
    items: Items, done: Collection[str], drawing: Any, asking: Asking, progress: BatchProgress, workers: int | None
) -> Iterator[Generator[BatchResult, None, None]]:
    """The results, drawn by processes of this machine."""
    from glyph_pipeline.cli.choice import chosen_reader
    from glyph_pipeline.pipeline import GlyphPipeline

    with chosen_reader(asking.choice, notice=progress.notice, on_wait=progress.waiting, start_timeout=asking.start_timeout) as chosen:
        pipeline = GlyphPipeline(config=drawing, **asking.arguments, **chosen.arguments)
        missing = (item for item in items if item.id not in done)
        # Closed before the server is stopped: vLLM does not end while a client still listens.
        with closing(pipeline.ask_many(missing, workers=workers, on_retry=progress.retrying)) as results:
            yield results


@contextmanager
def _on_ray(
    items: Items,
    done: Collection[str],
    drawing: Any,
    asking: Asking,
    progress: BatchProgress,
    address: str | None,
    readers: int | None,
) -> Iterator[Generator[BatchResult, None, None]]:
    """The results, drawn and asked by the machines of a cluster."""
    from glyph_pipeline.cli.cluster import spec_of
    from glyph_pipeline.cluster import ask_many, session

    progress.step("Starting Ray" if address is None else f"Connecting to Ray at {address}")
    with session(address) as ray:
        spec = spec_of(asking, drawing, readers, ray, own=address is None, notice=progress.notice)
        progress.step("Waiting for the cluster")
        results = ask_many(items, spec, wanted=lambda id: id not in done, on_retry=progress.retrying, on_notice=progress.notice)
        with closing(results):
            yield results


def _exit_code(statuses: Collection[str]) -> int:
    if "failed" in statuses:
        return EXIT_ITEMS_FAILED
    return EXIT_TRUNCATED if "truncated" in statuses else EXIT_OK
