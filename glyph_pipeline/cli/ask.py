"""glyph-compress DOC... -q QUESTION: the default command's options. Draws alone, or hands over to answering."""

from __future__ import annotations

from typing import Any

import click

from glyph_pipeline.cli.options import DRAWING_OPTIONS, build_config, document_options, drawing_options, load_documents
from glyph_pipeline.cli.render import draw_and_report
from glyph_pipeline.document import Document
from glyph_pipeline.errors import EXIT_OK, UsageError
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.fonts import find_font

# Options that say who reads, and the parameters that hold them.
_READING = {
    "--reader": "reader",
    "--model": "model",
    "--profile": "profile",
    "--max-model-len": "max_model_len",
    "--max-num-batched-tokens": "max_num_batched_tokens",
    "--tensor-parallel-size": "tensor_parallel_size",
    "--data-parallel-size": "data_parallel_size",
    "--port": "port",
    "--server-arg": "server_args",
}


@click.command(short_help="Ask about documents, or only draw them (default).")
@document_options()
@click.option("-q", "--question", metavar="TEXT", help="What to answer; without it the documents are drawn and reported.")
@drawing_options
@click.option("-o", "--output", metavar="DIR", help="Keep the pages, and pages.json, in this folder.")
@click.option("--reader", type=click.Choice(["auto", "vllm", "ocr"]), default="auto", show_default=True, help="What reads the pages.")
@click.option("--base-url", metavar="URL", help="A running OpenAI-compatible server, such as http://127.0.0.1:8000/v1.")
@click.option("--model", metavar="NAME|DIR", help="Model to serve, or served at --base-url [default: zai-org/Glyph, or what is served].")
@click.option("--profile", metavar="NAME|FILE", help="Server profile: auto, nvidia, rocm, cpu, or a TOML file.")
@click.option("--max-model-len", type=int, metavar="TOKENS", help="Context of a server that is started for this.")
@click.option(
    "--max-num-batched-tokens", type=int, metavar="TOKENS", help="vLLM's batch size in tokens, for a server that is started for this."
)
@click.option("--tensor-parallel-size", type=int, metavar="N", help="GPUs to split the model over, for a server that is started for this.")
@click.option("--data-parallel-size", type=int, metavar="N", help="Copies of the model, for a server that is started for this.")
@click.option("--port", type=int, help="Port of a server that is started for this [default: any free one].")
@click.option(
    "--server-arg", "server_args", multiple=True, metavar="FLAG", help="A further vLLM flag, e.g. --server-arg=--seed=1; may be repeated."
)
@click.option(
    "--start-timeout", type=float, default=1800, show_default=True, metavar="SECONDS", help="How long a server may take to start."
)
@click.option("--api-key", envvar="GLYPH_API_KEY", metavar="KEY", help="Key of the server, if it wants one [environment: GLYPH_API_KEY].")
@click.option("--max-tokens", type=click.IntRange(min=1), default=8192, show_default=True, help="Tokens for reasoning and answer together.")
@click.option("--show-reasoning", is_flag=True, help="Stream the reasoning to standard error.")
@click.option("--json", "as_json", is_flag=True, help="Answer and account as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="No progress and no report on standard error.")
def ask(
    docs: tuple[str, ...],
    encoding: str | None,
    question: str | None,
    output: str | None,
    max_tokens: int,
    show_reasoning: bool,
    as_json: bool,
    quiet: bool,
    start_timeout: float,
    **options: Any,
) -> int:
    """Ask a question about DOC... ('-' is standard input); without one, draw them and report."""
    chosen = {name: options.pop(name) for name in DRAWING_OPTIONS}
    server = options
    build_config((), **chosen)  # what is wrong with the options is said before any document is read
    if question is not None and not question.strip():
        raise UsageError("The question is empty.", hint="Ask something, or leave --question out to draw only.")
    documents = load_documents(docs, encoding)
    drawing = build_config(documents, **chosen)
    find_font(drawing.font, drawing.system_fonts)  # before a server is started for pages that can't be drawn
    if question is None:
        _draw_only(documents, drawing, server, output=output, as_json=as_json, quiet=quiet)
        return EXIT_OK
    # Here, not above: drawing alone should not pay for loading what talks to servers.
    from glyph_pipeline.cli.answering import answer_question

    return answer_question(
        documents,
        question,
        drawing,
        server,
        output=output,
        max_tokens=max_tokens,
        show_reasoning=show_reasoning,
        as_json=as_json,
        quiet=quiet,
        start_timeout=start_timeout,
    )


def _draw_only(
    documents: list[Document], drawing: RenderConfig, server: dict[str, Any], *, output: str | None, as_json: bool, quiet: bool
) -> None:
    named = [option for option, name in _READING.items() if server[name] not in (None, (), "auto")]
    if server["base_url"] is not None:
        named = [option for option in named if option != "--model"]
    if named:
        raise UsageError(f"{', '.join(named)}: nothing is read without a question.", hint="Add -q QUESTION, or leave it out.")
    if server["base_url"] is None:
        draw_and_report(documents, drawing, output=output, as_json=as_json, quiet=quiet)
        return
    from glyph_pipeline.pipeline import GlyphPipeline

    with GlyphPipeline(server["base_url"], server["model"], drawing, api_key=server["api_key"]) as pipeline:
        tokenizer, vision = pipeline.counters()
        draw_and_report(documents, drawing, output=output, as_json=as_json, quiet=quiet, tokenizer=tokenizer, vision=vision)
