"""An oracle: the pages ReportLab itself makes of a text when it is given paragraphs as the official Glyph renderer gives them."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY, TA_LEFT, TA_RIGHT
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.pdfgen.textobject import PDFTextObject
from reportlab.platypus import Paragraph, SimpleDocTemplate

from glyph_pipeline import RenderConfig, render
from glyph_pipeline.rendering.canonical import Losses
from glyph_pipeline.rendering.chain import FontChain
from glyph_pipeline.rendering.layout import lay_out
from glyph_pipeline.rendering.placement import place
from glyph_pipeline.resources import resource_dir

LINES_A_PARAGRAPH = 30
_ALIGNMENTS = {"LEFT": TA_LEFT, "CENTER": TA_CENTER, "RIGHT": TA_RIGHT, "JUSTIFY": TA_JUSTIFY}
_HAN = re.compile("[\u4e00-\u9fff]")


@dataclass
class OraclePage:
    """The visual lines of one page, and the baseline of each in pt above the page's lower edge.

    ``lefts`` are where lines begin, in pt from the page's left edge; ``word_spaces`` what every space is wider, in pt.
    """

    lines: list[str] = field(default_factory=list)
    baselines: list[float] = field(default_factory=list)
    lefts: list[float] = field(default_factory=list)
    word_spaces: list[float] = field(default_factory=list)


class _RecordingText(PDFTextObject):
    """A text object that notes where each line begins and how its words are spaced."""

    page: OraclePage
    begins_line = True

    def _textOut(self, text: str, TStar: int = 0) -> None:  # noqa: N802, N803
        if self.begins_line:
            self.page.lefts.append(self._canvas.absolutePosition(self._x0, 0)[0])
            self.page.word_spaces.append(getattr(self, "_wordSpace", 0.0))
        self.begins_line = bool(TStar)
        super()._textOut(text, TStar)


class _RecordingParagraph(Paragraph):
    """A paragraph that notes its lines when it is drawn. ReportLab makes the halves of a split one of the same class."""

    def beginText(self, x: float, y: float) -> _RecordingText:  # noqa: N802
        text = _RecordingText(self.canv, x, y)
        text.page = self.canv.recorded_pages[self.canv.getPageNumber()]
        return text

    def draw(self) -> None:
        pages: dict[int, OraclePage] = self.canv.recorded_pages
        page = pages.setdefault(self.canv.getPageNumber(), OraclePage())
        _, bottom = self.canv.absolutePosition(0, 0)
        for index, line in enumerate(self.blPara.lines):
            page.lines.append(_line_text(line))
            page.baselines.append(bottom + self.height - self.style.fontSize - index * self.style.leading)
        super().draw()


def _line_text(line: Any) -> str:
    if isinstance(line, tuple):  # (unused width, words): a paragraph of one fragment
        return " ".join(line[1])
    return "".join(fragment.text for fragment in line.words)


def oracle_pages(text: str, config: RenderConfig) -> list[OraclePage]:
    """The pages of ``text``, laid out by ReportLab; its no-break spaces are left as they are."""
    recorded: dict[int, OraclePage] = {}

    class _Canvas(Canvas):
        recorded_pages = recorded

        def save(self) -> None:
            """Nothing: the PDF is not wanted, and embedding the font takes most of the time."""

    width, height = config.page_size
    document = SimpleDocTemplate(
        io.BytesIO(),
        pagesize=(width, height),
        leftMargin=config.margin_x,
        rightMargin=config.margin_x,
        topMargin=config.margin_y,
        bottomMargin=config.margin_y,
    )
    document.build(paragraphs(text, config, _RecordingParagraph), canvasmaker=_Canvas)
    return [recorded[number] for number in sorted(recorded)]


def visible(lines: list[str] | tuple[str, ...]) -> list[str]:
    """The lines as they look: no-break spaces are spaces, trailing ones are nothing."""
    return [line.replace("\xa0", " ").rstrip(" ") for line in lines]


def assert_same_pages(text: str, config: RenderConfig, first: int | None = None) -> int:
    """Our pages have the lines of ReportLab's, at least the ``first`` ones; returns how many pages ReportLab makes."""
    expected = [visible(page.lines) for page in oracle_pages(text, config)]
    assert [visible(page.lines) for page in render(text, config)][:first] == expected[:first]
    return len(expected)


def assert_same_positions(text: str, config: RenderConfig) -> None:
    """The first and the last glyph of every visible line stand where ReportLab puts them, to a thousandth of a pt."""
    chain = FontChain(config.font, config.system_fonts)
    points = config.font_size / chain.units_per_em
    for page, expected in zip(lay_out(text, config, chain, Losses()), oracle_pages(text, config), strict=True):
        ours: list[tuple[float, float] | None] = []
        for slab in page.slabs:
            placed, lines = place(slab, config, chain), slab.block.lines
            ours += [None] * slab.blank
            begin = int(lines.starts[slab.first])
            for start, end in zip(lines.starts[slab.first : slab.last].tolist(), lines.ends[slab.first : slab.last].tolist(), strict=True):
                drawn = "".join(map(chr, slab.block.text.codepoints[start:end].tolist())).rstrip(" \xa0")
                x = placed.frame + placed.x[start - begin : start - begin + len(drawn)]
                ours.append((float(x[0]), float(x[-1])) if drawn else None)
        assert len(ours) == len(expected.lines)
        for here, line, left, word_space in zip(ours, visible(expected.lines), expected.lefts, expected.word_spaces, strict=True):
            if here is not None:
                before_last = np.array([ord(char) for char in line[:-1]], np.uint32)
                chain.learn(before_last)
                last = left + int(chain.advances[before_last].sum()) * points + line[:-1].count(" ") * word_space
                assert np.allclose(here, (left, last), rtol=0, atol=1e-3), (page.number, line)


def paragraphs(text: str, config: RenderConfig, kind: type[Paragraph] = Paragraph, **colours: Any) -> list[Paragraph]:
    """The paragraphs that the official renderer makes of a text; ``colours`` are further keys of their style."""
    style = ParagraphStyle(
        "oracle",
        parent=getSampleStyleSheet()["Normal"],
        fontName=_registered_font(config.font),
        fontSize=config.font_size,
        leading=config.line_height if config.line_height is not None else config.font_size + 1,
        alignment=_ALIGNMENTS[config.alignment.value],
        firstLineIndent=config.first_line_indent,
        leftIndent=config.left_indent,
        rightIndent=config.right_indent,
        spaceBefore=config.space_before,
        spaceAfter=config.space_after,
        wordWrap="CJK" if _HAN.search(text) else None,
        **colours,
    )
    visible = text.replace("\u00ad", "").replace("\u200b", "")
    markup = re.sub(" {2,}", lambda run: "&nbsp;" * len(run.group()), escape(visible))
    lines = markup.split("\n")
    return [
        kind(config.newline_markup.join(lines[start : start + LINES_A_PARAGRAPH]), style)
        for start in range(0, len(lines), LINES_A_PARAGRAPH)
    ]


@cache
def _registered_font(font: str) -> str:
    path = Path(font) if Path(font).is_file() else resource_dir("fonts") / font
    pdfmetrics.registerFont(TTFont(f"oracle-{path}", str(path)))
    return f"oracle-{path}"
