"""A pixel oracle: the page images that ReportLab and poppler make of a text. Knows nothing of how our renderer draws."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image
from reportlab.lib.colors import Color
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import SimpleDocTemplate
from reportlab_oracle import paragraphs

from glyph_pipeline import RenderConfig

Pixels = npt.NDArray[np.uint8]

# The official renderer's crop takes a pixel for background up to this difference in grey.
CROP_TOLERANCE = 5
_PPM_HEADER = re.compile(rb"P6\s(\d+)\s(\d+)\s255\s")


class PopplerMissingError(Exception):
    """There is no pdftoppm on this machine."""


def oracle_images(text: str, config: RenderConfig) -> list[Pixels]:
    """The pages of ``text`` as the official renderer would save them, cropped: uint8 arrays of shape (height, width, 3)."""
    pages = list(poppler_pages(oracle_pdf(text, config), config.dpi))
    return [finished(page, config, last=number == len(pages)) for number, page in enumerate(pages, 1)]


def oracle_pdf(text: str, config: RenderConfig) -> bytes:
    """The PDF that ReportLab makes of the text's paragraphs."""
    width, height = config.page_size
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=(width, height),
        leftMargin=config.margin_x,
        rightMargin=config.margin_x,
        topMargin=config.margin_y,
        bottomMargin=config.margin_y,
    )

    def paint_page(canvas: Canvas, _: SimpleDocTemplate) -> None:
        canvas.saveState()
        canvas.setFillColor(_colour(config.page_bg_color))
        canvas.rect(0, 0, width, height, stroke=0, fill=1)
        canvas.restoreState()

    story = paragraphs(
        text,
        config,
        textColor=_colour(config.font_color),
        backColor=_colour(config.para_bg_color),
        borderColor=_colour(config.para_border_color),
        borderWidth=config.border_width,
        borderPadding=config.border_padding,
    )
    document.build(story, onFirstPage=paint_page, onLaterPages=paint_page)
    return buffer.getvalue()


def poppler_pages(pdf: bytes, dpi: int) -> Iterator[Pixels]:
    """The pages of a PDF as pdftoppm draws them, uncropped: shape (height, width, 3)."""
    program = shutil.which("pdftoppm")
    if program is None:
        raise PopplerMissingError("There is no pdftoppm, which draws the pages to compare with. Install the Debian package poppler-utils.")
    output = subprocess.run([program, "-r", str(dpi), "-"], input=pdf, capture_output=True, check=True).stdout
    position = 0
    while position < len(output):
        header = _PPM_HEADER.match(output, position)
        assert header, f"pdftoppm wrote no PPM at byte {position}"
        width, height = int(header[1]), int(header[2])
        position = header.end() + 3 * width * height
        yield np.frombuffer(output, np.uint8, 3 * width * height, header.end()).reshape(height, width, 3)


def finished(page: Pixels, config: RenderConfig, last: bool) -> Pixels:
    """A page as the official renderer saves it: scaled in width, cut at the right of the ink, the ``last`` also below it."""
    image = Image.fromarray(page)
    if config.horizontal_scale != 1.0:
        image = image.resize((int(image.width * config.horizontal_scale), image.height))
    grey = np.asarray(image.convert("L"))
    ink = np.abs(grey - np.median(grey[:2, :2])) > CROP_TOLERANCE
    columns, rows = np.flatnonzero(ink.any(axis=0)), np.flatnonzero(ink.any(axis=1))
    right, lower = float(image.width), float(image.height)
    if config.auto_crop_width and columns.size:
        right = min(right, columns[-1] + 1 + config.margin_x)
    if config.auto_crop_last_page and last and rows.size:
        lower = min(lower, rows[-1] + config.margin_y)
    return np.asarray(image.crop((0, 0, right, lower)))


def _colour(rgb: tuple[int, int, int]) -> Color:
    return Color(*(level / 255 for level in rgb))
