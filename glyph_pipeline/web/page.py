"""The page: gradio's components and what each one sets going. Reads and draws nothing itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import importlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glyph_pipeline.document import Document
from glyph_pipeline.errors import GlyphError, MissingExtraError
from glyph_pipeline.files import write_whole
from glyph_pipeline.rendering.bundled import bundled_faces
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.tokens.text import TextTokenizer
from glyph_pipeline.tokens.vision import GLM_4V, VisionArithmetic
from glyph_pipeline.web.preview import AUTO, MARKS, Controls, Preview, number
from glyph_pipeline.web.reading import Reply, TextSide, from_pages, from_text

SHOWN_PAGES = 24
"""Pages that are shown; all of them are counted, read and packed."""

_EMPTY = "<p class='glyph-note'>Paste a text or drop a file: its pages appear here.</p>"
CSS = """
.glyph-counts { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; font-variant-numeric: tabular-nums; }
.glyph-counts b { display: block; font-size: 1.4rem; line-height: 1.2; }
.glyph-note { color: var(--body-text-color-subdued); }
.glyph-error { color: var(--error-text-color, #b00020); }
.glyph-pages { display: flex; gap: 1rem; overflow-x: auto; max-height: 44rem; align-items: flex-start; background: #e8e8e8; padding: 0.75rem; }
.glyph-pages figure { margin: 0; flex: none; }
.glyph-pages figcaption { color: #333; font-size: 0.85rem; }
.glyph-pages img { display: block; border: 1px solid #bbb; max-width: none; margin: 0; box-sizing: content-box; }
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """Who reads: ``arguments`` of GlyphPipeline and its ``name``; ``text`` a model for the plain text beside it. ``folder`` is a private one for
    what is offered for download. Tokens are counted by ``tokenizer`` (cl100k_base if None) and ``vision``."""

    arguments: Mapping[str, Any]
    name: str
    folder: Path
    text: TextSide | None = None
    tokenizer: TextTokenizer | None = None
    vision: VisionArithmetic = GLM_4V
    fonts: Sequence[str] = field(default_factory=lambda: sorted({face.family for face in bundled_faces()}))


def build(settings: Settings) -> Any:
    """The page as ``gradio.Blocks``. Raises MissingExtraError."""
    gr = gradio()
    with gr.Blocks(title="glyph-pipeline", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as page:
        gr.Markdown("# glyph-pipeline\nLong text as dense pages, which a vision-language model reads for fewer tokens.")
        document, drawn = gr.State(None), gr.State(None)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                pasted = gr.Textbox(label="Text", lines=10, max_lines=10, placeholder="Paste a document", elem_id="glyph-text")
                dropped = gr.File(label="or drop a file: text, PDF, DOCX, HTML", elem_id="glyph-file", type="filepath")
            with gr.Column(scale=1, min_width=240):
                preset = gr.Dropdown([AUTO, *RenderConfig.presets()], value=AUTO, label="Preset", elem_id="glyph-preset")
                font = gr.Dropdown(
                    [("as in the preset", ""), *((name, name) for name in settings.fonts)], value="", label="Font", elem_id="glyph-font"
                )
                dpi = gr.Textbox(label="DPI", placeholder="as in the preset", max_lines=1, elem_id="glyph-dpi")
                size = gr.Textbox(label="Font size in pt", placeholder="as in the preset", max_lines=1, elem_id="glyph-size")
                mark = gr.Radio(list(MARKS), value=next(iter(MARKS)), label="Line ends", elem_id="glyph-mark")
        counts = gr.HTML(_EMPTY, elem_id="glyph-counts")
        pages = gr.HTML("", elem_id="glyph-pages")
        with gr.Row():
            pack = gr.DownloadButton("Download pages (ZIP)", interactive=False, elem_id="glyph-pack")
            report = gr.DownloadButton("Download report (JSON)", interactive=False, elem_id="glyph-report")
        question = gr.Textbox(label=f"Question, read by {settings.name}", elem_id="glyph-question")
        with gr.Row():
            ask = gr.Button("Ask", variant="primary", elem_id="glyph-ask")
            stop = gr.Button("Stop", elem_id="glyph-stop")
        with gr.Row():
            outputs = [*_pane(gr, "From pages", "glyph-answer"), *(_pane(gr, "From the text", "glyph-plain") if settings.text else ())]
        controls = [preset, font, dpi, size, mark]
        shown = [drawn, counts, pages, pack, report]

        def draw(one: Document | None, *chosen: Any) -> tuple[Any, ...]:
            return _drawn(gr, settings, one, chosen)

        # The last thing given counts. A change and not an input: that is also what is pasted by a menu or by a program.
        given = pasted.change(lambda text, one: _pasted(gr, text, one), [pasted, document], [document, dropped], trigger_mode="always_last")
        taken = dropped.upload(lambda path: _taken(gr, path), dropped, [document, pasted])
        cleared = dropped.clear(lambda text: gr.skip() if text.strip() else None, pasted, document)
        for event in (given, taken, cleared):
            event.then(draw, [document, *controls], shown, trigger_mode="always_last", show_progress="minimal")
        for control in controls:
            control.change(draw, [document, *controls], shown, trigger_mode="always_last", show_progress="minimal")

        async def answer(preview: Preview | None, words: str) -> AsyncGenerator[tuple[Any, ...], None]:
            async for update in _answers(settings, preview, words):
                yield update

        asking = [begin(answer, [drawn, question], outputs, concurrency_limit=8) for begin in (ask.click, question.submit)]
        stop.click(None, None, None, cancels=asking)
    return page


def gradio() -> Any:
    """The module. Raises MissingExtraError."""
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise MissingExtraError("The web page", "web", package="gradio") from error


def _pane(gr: Any, title: str, name: str) -> tuple[Any, Any, Any]:
    """(reasoning, answer, status) of one side. Plain text: what a model writes is no markup of ours."""
    with gr.Column(min_width=320):
        gr.Markdown(f"### {title}")
        answer = gr.Textbox(label="Answer", lines=6, max_lines=24, interactive=False, elem_id=name)
        reasoning = gr.Textbox(label="Reasoning", lines=4, max_lines=16, interactive=False, elem_id=f"{name}-reasoning")
        status = gr.HTML("", elem_id=f"{name}-status")
    return reasoning, answer, status


def _pasted(gr: Any, text: str, document: Document | None) -> tuple[Any, Any]:
    """What stands in the box now: (document, file). The box is empty, too, where a file has taken its place."""
    if text.strip():
        return Document(text), None
    return (gr.skip() if document is not None and document.id else None), gr.skip()


def _taken(gr: Any, path: str) -> tuple[Any, ...]:
    """A file that was dropped: (document, text of the box). What can't be read is told, and what was there stays."""
    try:
        document = Document.read(path)
    except GlyphError as e:
        gr.Warning(html.escape(str(e).replace(path, Path(path).name)), duration=None)
        return gr.skip(), gr.skip()
    return Document(document.text, Path(path).name), ""


def _drawn(gr: Any, settings: Settings, document: Document | None, chosen: Sequence[Any]) -> tuple[Any, ...]:
    """(preview, counts, pages, archive, report) of a document."""
    nothing = (gr.update(value=None, interactive=False),) * 2
    if document is None:
        return None, _EMPTY, "", *nothing
    preset, font, dpi, size, mark = chosen
    try:
        controls = Controls(preset, font or "", number("DPI", dpi, int), number("Font size", size, float), mark)
        preview = Preview.draw(document, controls, settings.tokenizer, settings.vision)
    except GlyphError as e:
        return None, f"<p class='glyph-error'>{html.escape(str(e))}</p>", "", *nothing
    pack = _file(settings.folder, "pages.zip", preview.archive())
    report = _file(settings.folder, "report.json", _json(preview.account()))
    return preview, _counts(preview), _pictures(preview), gr.update(value=pack, interactive=True), gr.update(value=report, interactive=True)


def _counts(preview: Preview) -> str:
    report = preview.compressed.report
    cells = [
        (f"{report.text_tokens:,}", f"text tokens, {report.tokenizer}"),
        (f"{report.vision_tokens:,}", f"vision tokens, {report.family}"),
        (f"{report.ratio:.2f}", "text tokens for each vision token"),
        (f"{report.pages:,}", "page" if report.pages == 1 else "pages"),
    ]
    shown = "".join(f"<span><b>{value}</b>{html.escape(label)}</span>" for value, label in cells)
    notes = [] if preview.saves else ["These pages cost more tokens than the text."]
    if report.missing:
        notes.append(f"{sum(report.missing.values()):,} characters are in no font and drawn as escapes.")
    if report.pages > SHOWN_PAGES:
        notes.append(f"The first {SHOWN_PAGES} pages are shown; all are counted, read and packed.")
    told = "".join(f"<p class='glyph-note'>{note}</p>" for note in notes)
    return f"<div class='glyph-counts'>{shown}</div>{told}"


def _pictures(preview: Preview) -> str:
    """The pages at true size, side by side: inside the page, so that no picture lies in a folder of the server's."""
    figures = []
    for page in preview.compressed.pages[:SHOWN_PAGES]:
        data = base64.b64encode(page.png).decode("ascii")
        label = f"page {page.number}, {page.width} x {page.height} px"
        figures.append(
            f"<figure><figcaption>{label}, {page.vision_tokens:,} tokens</figcaption>"
            f"<img src='data:image/png;base64,{data}' width='{page.width}' height='{page.height}' alt='{label}'></figure>"
        )
    return f"<div class='glyph-pages' tabindex='0'>{''.join(figures)}</div>"


async def _answers(settings: Settings, preview: Preview | None, question: str) -> AsyncGenerator[tuple[Any, ...], None]:
    """The panes, as both sides go on."""
    sides = 1 if settings.text is None else 2
    if preview is None or not question.strip():
        missing = "There is no document yet." if preview is None else "Ask something."
        yield _panes([Reply(done=True, error=missing)] + [Reply(done=True)] * (sides - 1))
        return
    streams = [from_pages(preview, question, settings.arguments)]
    if settings.text is not None:
        streams.append(from_text(preview.document.text, question, settings.text))
    replies = [Reply(status="...")] * sides
    news: asyncio.Queue[tuple[int, Reply | None]] = asyncio.Queue()

    async def follow(side: int, stream: AsyncGenerator[Reply, None]) -> None:
        try:
            async with aclosing(stream):
                async for reply in stream:
                    news.put_nowait((side, reply))
        finally:
            news.put_nowait((side, None))

    tasks = [asyncio.ensure_future(follow(side, stream)) for side, stream in enumerate(streams)]
    try:
        left = sides
        while left:
            events = [await news.get()]
            while not news.empty():  # what came meanwhile is shown together
                events.append(news.get_nowait())
            for side, reply in events:
                if reply is None:
                    left -= 1
                else:
                    replies[side] = reply
            yield _panes(replies)
        for task in tasks:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _panes(replies: Sequence[Reply]) -> tuple[Any, ...]:
    shown: list[Any] = []
    for reply in replies:
        kind, words = ("glyph-error", reply.error) if reply.error else ("glyph-note", reply.status)
        shown += [reply.reasoning, reply.text, f"<p class='{kind}'>{html.escape(words)}</p>"]
    return tuple(shown)


def _json(data: Mapping[str, object]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _file(folder: Path, name: str, data: bytes) -> str:
    """A file to download, in a folder of its own by its content: the browser saves it under its name."""
    place = folder / hashlib.sha256(data).hexdigest()[:24]
    place.mkdir(mode=0o700, exist_ok=True)
    path = place / name
    if not path.exists():
        write_whole(path, data)
    return str(path)
