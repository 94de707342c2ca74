"""Who reads pages back, given the command line: OCR, or the model that a server serves. Draws and measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.tokens.vision import FAMILIES

if TYPE_CHECKING:
    from glyph_pipeline.experiments.transcribing import Transcriber


@contextmanager
def chosen_transcriber(options: Mapping[str, Any], family: str, console: Console) -> Iterator[Transcriber]:
    """What reads, as the options say: OCR, unless they name a server or a model. A server started for it is stopped at the end."""
    from glyph_pipeline.cli.choice import ReaderChoice, chosen_reader
    from glyph_pipeline.experiments.transcribing import ModelTranscriber, OCRTranscriber

    choice = ReaderChoice.of(options)
    if choice.reader == "auto" and not choice.base_urls and not choice.asks_for_server:
        choice = replace(choice, reader="ocr")
    if choice.reader == "ocr":
        yield OCRTranscriber(FAMILIES[family])
        return

    def notice(message: str) -> None:
        console.print(escape(message), soft_wrap=True)

    with (
        console.status("Waiting for the server ...") as status,
        chosen_reader(
            choice,
            notice=notice,
            on_wait=lambda seconds, line: status.update(f"Waiting for the server, {seconds:.0f} s"),
            start_timeout=options["start_timeout"],
        ) as chosen,
    ):
        given = {
            "api_key": chosen.arguments["api_key"],
            "max_tokens": options["max_tokens"],
            "concurrency": options["concurrency"],
            "retry": RetryPolicy(budget=options["retry_for"]),
            "read_timeout": options["read_timeout"],
            "vision": FAMILIES[family],
            "on_retry": lambda reason: notice(f"{reason} It is asked again."),
        }
        if "server" in chosen.arguments:
            reader = ModelTranscriber.of_server(chosen.arguments["server"], **given)
        else:
            urls = chosen.arguments["base_url"]
            reader = ModelTranscriber.of_urls([urls] if isinstance(urls, str) else urls, chosen.arguments["model"], **given)
        status.stop()
        yield reader
