"""glyph-compress DOC... -q QUESTION: the default command's options. Draws alone, or hands over to answering."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from glyph_pipeline.cli.caching import cache_options, open_store
from glyph_pipeline.cli.options import DRAWING_OPTIONS, build_config, document_options, drawing_options, load_documents
from glyph_pipeline.cli.reading import NAMED, reading_options
from glyph_pipeline.cli.render import draw_and_report
from glyph_pipeline.cli.sending import SENT_DEFAULTS, sending_options
from glyph_pipeline.document import Document
from glyph_pipeline.errors import EXIT_OK, UsageError
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.fonts import find_font


@click.command(short_help="Ask about documents, or only draw them (default).")
@document_options()
@click.option("-q", "--question", metavar="TEXT", help="What to answer; without it the documents are drawn and reported.")
@drawing_options
@click.option("-o", "--output", metavar="DIR", help="Keep the pages, and pages.json, in this folder.")
@reading_options
@sending_options()
@cache_options
@click.option("--show-reasoning", is_flag=True, help="Show the reasoning, and the answers of single windows, on standard error.")
@click.option("--json", "as_json", is_flag=True, help="Answer and account as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress and no report on standard error.")
def ask(
    docs: tuple[str, ...],
    encoding: str | None,
    question: str | None,
    output: str | None,
    show_reasoning: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Ask a question about DOC... ('-' is standard input); without one, draw them and report."""
    chosen = {name: options.pop(name) for name in DRAWING_OPTIONS}
    build_config((), **chosen)  # what is wrong with the options is said before any document is read
    if question is not None and not question.strip():
        raise UsageError("The question is empty.", hint="Ask something, or leave --question out to draw only.")
    documents = load_documents(docs, encoding)
    drawing = build_config(documents, **chosen)
    find_font(drawing.font, drawing.system_fonts)  # before a server is started for pages that can't be drawn
    if question is None:
        _draw_only(documents, drawing, options, output=output, as_json=as_json, quiet=quiet)
        return EXIT_OK
    # Here, not above: drawing alone should not pay for loading what talks to servers.
    from glyph_pipeline.cli.answering import answer_question

    return answer_question(
        documents, question, drawing, options, output=output, show_reasoning=show_reasoning, as_json=as_json, quiet=quiet
    )


def _draw_only(
    documents: list[Document], drawing: RenderConfig, options: dict[str, Any], *, output: str | None, as_json: bool, quiet: bool
) -> None:
    named = [option for option, name in NAMED.items() if options[name] not in (None, (), False, "auto")]
    named += [f"--{name.replace('_', '-')}" for name, default in SENT_DEFAULTS.items() if options[name] != default]
    if options["base_urls"]:
        named = [option for option in named if option != "--model"]
    if named:
        raise UsageError(f"{', '.join(named)}: nothing is read without a question.", hint="Add -q QUESTION, or leave it out.")
    store = open_store(options["cache"], options["cache_size"])
    draw = partial(
        draw_and_report,
        documents,
        drawing,
        output=output,
        as_json=as_json,
        quiet=quiet,
        titled=True,
        store=store,
        mode=options["mode"],
    )
    if not options["base_urls"]:
        draw()
        return
    from glyph_pipeline.pipeline import GlyphPipeline

    with GlyphPipeline(options["base_urls"], options["model"], drawing, api_key=options["api_key"]) as pipeline:
        tokenizer, vision = pipeline.counters()
        draw(tokenizer=tokenizer, vision=vision)
