"""glyph-compress render: draw documents into a folder and report. Asks nobody anything."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from glyph_pipeline.cli.caching import cache_options, cache_row, open_store
from glyph_pipeline.cli.options import build_config, chosen_drawing, document_options, drawing_options, load_documents
from glyph_pipeline.cli.output import PageFolder, aligned, print_json, report_lines, seconds_line
from glyph_pipeline.cli.shards import SHARD_OPTIONS, draw_shards_and_report, shard_options, without_shards
from glyph_pipeline.compression import account
from glyph_pipeline.document import Document, as_documents
from glyph_pipeline.errors import EXIT_OK
from glyph_pipeline.page import Page
from glyph_pipeline.pagestore import PageStore, StoredRenderer
from glyph_pipeline.prompts import title_of
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.report import Sent
from glyph_pipeline.tokens.text import Cl100kTokenizer, TextTokenizer
from glyph_pipeline.tokens.vision import GLM_4V, VisionArithmetic

if TYPE_CHECKING:
    from glyph_pipeline.sending import Mode


@click.command(short_help="Draw documents into a folder of PNG files.")
@document_options()
@drawing_options
@cache_options
@shard_options
@click.option("-o", "--output", metavar="DIR", default="pages", show_default=True, help="Folder for the pages and pages.json.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No report on standard error.")
def render(
    docs: tuple[str, ...],
    encoding: str | None,
    cache: str | None,
    cache_size: int | None,
    output: str,
    as_json: bool,
    quiet: bool,
    shards: str | None,
    **drawing: Any,
) -> int:
    """Draw DOC... ('-' is standard input) as pages and report the compression ratio.

    With --shards each DOC is what a batch takes as input, a folder say, and the pages go into shards: docs/shards.md.
    """
    sharding = {name: drawing.pop(name) for name in SHARD_OPTIONS}
    if shards is None:
        without_shards(**sharding)
    build_config((), **drawing)  # what is wrong with the options is said before any document is read
    store = open_store(cache, cache_size)
    if shards is not None:
        told: dict[str, Any] = {"output": output, "as_json": as_json, "quiet": quiet}
        return draw_shards_and_report(docs, shards, drawing=chosen_drawing(**drawing), encoding=encoding, store=store, **told, **sharding)
    documents = load_documents(docs, encoding)
    draw_and_report(documents, build_config(documents, **drawing), output=output, as_json=as_json, quiet=quiet, store=store)
    return EXIT_OK


def draw_and_report(
    documents: list[Document],
    config: RenderConfig,
    *,
    output: str | None,
    as_json: bool,
    quiet: bool,
    tokenizer: TextTokenizer | None = None,
    vision: VisionArithmetic = GLM_4V,
    titled: bool = False,
    store: PageStore | None = None,
    mode: Mode | None = None,
) -> None:
    """Draw, write the pages to ``output`` if that is given, print the report. ``titled``: several documents as one question has them.
    ``store`` keeps the pages, and has those drawn before. With ``mode`` the report tells how they would be sent."""
    started = time.perf_counter()
    renderer = Renderer(config) if store is None else store.renderer(config)
    folder = PageFolder(output, several=len(documents) > 1) if output is not None else None
    pages: list[Page] = []
    documents = as_documents(documents)
    titles = [title_of(document, documents) if titled else None for document in documents]
    for document, title in zip(documents, titles, strict=True):
        for page in renderer.render(document, title):
            if folder is not None:
                folder.add(page)
            pages.append(page)
    drawn = time.perf_counter()
    tokenizer = tokenizer or Cl100kTokenizer()
    report = account(documents, tuple(pages), renderer, tokenizer, vision)
    if mode is not None:
        report = replace(report, sent=_would_be_sent(documents, titles, pages, config.dpi, mode, report.text_tokens, tokenizer, vision))
    if folder is not None:
        folder.finish(report, config)
    seconds = {"draw": drawn - started, "count": time.perf_counter() - drawn}
    if as_json:
        rounded = {stage: round(value, 3) for stage, value in seconds.items()}
        where = str(folder.folder) if folder is not None else None
        before = {"drawn_before": renderer.hits} if isinstance(renderer, StoredRenderer) else {}
        print_json({"report": report.to_dict(), "config": config.to_dict(), "output": where, "seconds": rounded, **before})
    if not quiet:
        rows = report_lines(report)
        if report.sent is not None:
            from glyph_pipeline.cli.checks import sent_rows

            rows += sent_rows(report.sent, "would be sent")
        rows.append(seconds_line(seconds))
        if isinstance(renderer, StoredRenderer):
            rows.append(cache_row(renderer.hits, len(documents)))
        if folder is not None:
            rows.append(("pages", str(folder.folder)))
        click.echo(aligned(rows), err=True)


def _would_be_sent(
    documents: list[Document],
    titles: list[str | None],
    pages: list[Page],
    dpi: int,
    mode: Mode,
    text_tokens: int,
    tokenizer: TextTokenizer,
    vision: VisionArithmetic,
) -> Sent:
    from glyph_pipeline.sending import choose, headings, sent_of

    above = headings(documents, titles)
    texts = {document.id or None: document.text for document in documents}
    sendables = choose(pages, texts, above, mode, vision=vision, tokenizer=tokenizer)
    plain = text_tokens + sum(tokenizer.count(heading) for heading in above.values() if heading)
    return sent_of(sendables, mode, plain, dpi, vision)
