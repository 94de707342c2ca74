"""An oracle: the pages ReportLab itself makes of a text when it is given paragraphs as the official Glyph renderer gives them."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY, TA_LEFT, TA_RIGHT
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate

from glyph_pipeline import RenderConfig
from glyph_pipeline.resources import resource_dir

LINES_A_PARAGRAPH = 30
_ALIGNMENTS = {"LEFT": TA_LEFT, "CENTER": TA_CENTER, "RIGHT": TA_RIGHT, "JUSTIFY": TA_JUSTIFY}


@dataclass
class OraclePage:
    """The visual lines of one page, and the baseline of each in pt above the page's lower edge."""

    lines: list[str] = field(default_factory=list)
    baselines: list[float] = field(default_factory=list)


class _RecordingParagraph(Paragraph):
    """A paragraph that notes its lines when it is drawn. ReportLab makes the halves of a split one of the same class."""

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
    document.build(_story(text, config), canvasmaker=_Canvas)
    return [recorded[number] for number in sorted(recorded)]


def _story(text: str, config: RenderConfig) -> list[Paragraph]:
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
    )
    visible = text.replace("\u00ad", "").replace("\u200b", "")
    markup = re.sub(" {2,}", lambda run: "&nbsp;" * len(run.group()), escape(visible))
    lines = markup.split("\n")
    return [
        _RecordingParagraph(config.newline_markup.join(lines[start : start + LINES_A_PARAGRAPH]), style)
        for start in range(0, len(lines), LINES_A_PARAGRAPH)
    ]


@cache
def _registered_font(font: str) -> str:
    path = Path(font) if Path(font).is_file() else resource_dir("fonts") / font
    pdfmetrics.registerFont(TTFont(f"oracle-{path.stem}", str(path)))
    return f"oracle-{path.stem}"
