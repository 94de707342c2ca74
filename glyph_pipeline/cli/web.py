"""glyph-compress web: a page in the browser to draw and ask with. Draws and reads nothing itself."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from glyph_pipeline.cli.reading import reading_options
from glyph_pipeline.errors import EXIT_OK, UsageError


@click.command(short_help="A page in the browser: draw, count, ask.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on; others than this machine's need --password.",
)
@click.option(
    "--listen",
    "listen",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    metavar="PORT",
    help="Port of the page; 0: any free one.",
)
@click.option(
    "--password", envvar="GLYPH_WEB_PASSWORD", metavar="WORDS", help="Asked of the user 'glyph' [environment: GLYPH_WEB_PASSWORD]."
)
@click.option(
    "--text-url", metavar="URL", help="OpenAI-compatible server of a text model, which is asked the same with the plain text, side by side."
)
@click.option("--text-model", metavar="NAME", help="The model there [default: the one that is served].")
@click.option("--text-key", envvar="GLYPH_TEXT_API_KEY", metavar="KEY", help="Its key, if it wants one [environment: GLYPH_TEXT_API_KEY].")
@reading_options
def web(
    host: str, listen: int, password: str | None, text_url: str | None, text_model: str | None, text_key: str | None, **options: Any
) -> int:
    """Serve a page on which documents are dropped, drawn, counted and asked about, until Ctrl-C. Who reads is chosen as for a question."""
    if text_model and not text_url:
        raise UsageError("--text-model was given without --text-url.", hint="Say where that model is served.")
    # Before gradio is imported, which reads it then; and what is dropped on the page is gone with the folder.
    with tempfile.TemporaryDirectory(prefix="glyph-web-") as folder:
        # Whatever else was set for other pages of gradio: paths to hand out, a mount point, an editor of its source.
        for name in [name for name in os.environ if name.startswith("GRADIO_")]:
            del os.environ[name]
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        _serve(Path(folder), host, listen, password, _text_side(text_url, text_model, text_key), options)
    return EXIT_OK


def _serve(folder: Path, host: str, port: int, password: str | None, side: Any, options: dict[str, Any]) -> None:
    from glyph_pipeline.cli.choice import Asking, chosen_reader
    from glyph_pipeline.pipeline import GlyphPipeline
    from glyph_pipeline.web.page import Settings, gradio
    from glyph_pipeline.web.server import check_address, run

    check_address(host, password)
    gradio()  # before a server is started for a page that can't be shown
    asking = Asking.of(options)
    console = Console(stderr=True, highlight=False)

    def notice(message: str) -> None:
        console.print(escape(message), soft_wrap=True)

    with console.status("Looking for a reader ...") as status:

        def waiting(seconds: float, log_line: str) -> None:
            status.update(f"Starting vLLM, {seconds:.0f} s  [dim]{escape(log_line[:100])}[/dim]")

        with chosen_reader(asking.choice, notice=notice, on_wait=waiting, start_timeout=asking.start_timeout) as chosen:
            arguments = {**chosen.arguments, **asking.arguments}
            with GlyphPipeline(**arguments) as pipeline:
                tokenizer, vision = pipeline.counters()
                name = pipeline.reader_name()
            status.stop()
            settings = Settings(arguments, name, folder, side, tokenizer, vision)
            run(settings, host, port, password, lambda url: click.echo(url))
    click.echo("Stopped.", err=True)


def _text_side(url: str | None, model: str | None, key: str | None) -> Any:
    if url is None:
        return None
    from glyph_pipeline.serving import GlyphServer
    from glyph_pipeline.web.reading import TextSide

    served = GlyphServer.adopt(url, model, api_key=key)
    return TextSide(url, served.model, key)
