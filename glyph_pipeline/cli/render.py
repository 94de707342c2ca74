"""glyph-compress render: draw documents into a folder and report. Asks nobody anything."""

from __future__ import annotations

import time
from typing import Any

import click

from glyph_pipeline.cli.options import build_config, document_options, drawing_options, load_documents
from glyph_pipeline.cli.output import PageFolder, aligned, print_json, report_lines, seconds_line
from glyph_pipeline.compression import account
from glyph_pipeline.document import Document, as_documents
from glyph_pipeline.page import Page
from glyph_pipeline.prompts import title_of
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.tokens.text import Cl100kTokenizer, TextTokenizer
from glyph_pipeline.tokens.vision import GLM_4V, VisionArithmetic


@click.command(short_help="Draw documents into a folder of PNG files.")
@document_options()
@drawing_options
@click.option("-o", "--output", metavar="DIR", default="pages", show_default=True, help="Folder for the pages and pages.json.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No report on standard error.")
def render(docs: tuple[str, ...], encoding: str | None, output: str, as_json: bool, quiet: bool, **drawing: Any) -> None:
    """Draw DOC... ('-' is standard input) as pages and report the compression ratio."""
    build_config((), **drawing)  # what is wrong with the options is said before any document is read
    documents = load_documents(docs, encoding)
    draw_and_report(documents, build_config(documents, **drawing), output=output, as_json=as_json, quiet=quiet)


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
) -> None:
    """Draw, write the pages to ``output`` if that is given, print the report. ``titled``: several documents as one question has them."""
    started = time.perf_counter()
    renderer = Renderer(config)
    folder = PageFolder(output, several=len(documents) > 1) if output is not None else None
    pages: list[Page] = []
    documents = as_documents(documents)
    for document in documents:
        for page in renderer.render(document, title_of(document, documents) if titled else None):
            if folder is not None:
                folder.add(page)
            pages.append(page)
    drawn = time.perf_counter()
    report = account(documents, tuple(pages), renderer, tokenizer or Cl100kTokenizer(), vision)
    if folder is not None:
        folder.finish(report, config)
    seconds = {"draw": drawn - started, "count": time.perf_counter() - drawn}
    if as_json:
        rounded = {stage: round(value, 3) for stage, value in seconds.items()}
        where = str(folder.folder) if folder is not None else None
        print_json({"report": report.to_dict(), "config": config.to_dict(), "output": where, "seconds": rounded})
    if not quiet:
        rows = [*report_lines(report), seconds_line(seconds)]
        if folder is not None:
            rows.append(("pages", str(folder.folder)))
        click.echo(aligned(rows), err=True)
