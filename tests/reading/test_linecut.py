"""Lines found in pictures drawn with Pillow."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from glyph_pipeline.reading import linecut

FONT = Path(__file__).parents[2] / "fonts" / "DejaVuSans.ttf"
TEXT = "Quill, by then (a gypsy), had lit the lamp; jagged rocks lay below"


def drawn(texts: list[str], size: int, leading: int, ink: str = "black", paper: str = "white") -> Image.Image:
    image = Image.new("RGB", (60 * size, leading * len(texts) + 40), paper)
    for number, text in enumerate(texts):
        ImageDraw.Draw(image).text((16, 16 + number * leading), text, font=ImageFont.truetype(str(FONT), size), fill=ink)
    return image


@pytest.mark.parametrize("count", [1, 2, 3, 30])
@pytest.mark.parametrize(("size", "leading"), [(9, 9), (9, 10), (9, 12), (9, 20), (8, 8), (12, 13), (20, 21), (40, 40)])
def test_every_line_is_found_also_where_lines_touch(size: int, leading: int, count: int):
    boxes = linecut.find_lines(linecut.ink_of(drawn([TEXT] * count, size, leading)))
    assert len(boxes) == count
    steps = [below.top - above.top for above, below in pairwise(boxes)]
    assert all(abs(step - leading) <= 0.25 * size for step in steps)


def test_low_lines_between_full_ones_are_lines_of_their_own():
    texts = ["on one user", TEXT, "we are", TEXT, "======", "iii", TEXT, "ÄÉÎ", TEXT]
    assert len(linecut.find_lines(linecut.ink_of(drawn(texts, 9, 11)))) == len(texts)


def test_dark_pages_and_coloured_ink_read_like_black_on_white():
    plain = linecut.find_lines(linecut.ink_of(drawn([TEXT] * 5, 9, 11)))
    assert linecut.find_lines(linecut.ink_of(drawn([TEXT] * 5, 9, 11, "white", "#102030"))) == plain
    assert linecut.find_lines(linecut.ink_of(drawn([TEXT] * 5, 9, 11, "#c00000", "#ffffe0"))) == plain


@pytest.mark.parametrize("image", [Image.new("L", (595, 842), 255), Image.new("RGB", (28, 28), "navy"), Image.new("L", (1, 1), 0)])
def test_blank_pages_have_no_lines(image: Image.Image):
    assert linecut.find_lines(linecut.ink_of(image)) == []


def test_paper_grain_is_no_text():
    grain = np.random.default_rng(1).integers(250, 256, (200, 300), dtype=np.uint8)
    assert linecut.find_lines(linecut.ink_of(Image.fromarray(grain))) == []


def test_a_blank_line_sets_off_a_paragraph():
    boxes = linecut.find_lines(linecut.ink_of(drawn([TEXT, TEXT, "", TEXT, "on one user", TEXT], 9, 10)))
    assert linecut.set_off(boxes) == [False, False, True, False, False]
    assert linecut.set_off([]) == []
    assert linecut.set_off(boxes[:1]) == [False]


def test_wide_lines_are_handed_on_in_pieces_cut_between_words():
    image = Image.new("L", (3000, 30), 255)
    ImageDraw.Draw(image).text((10, 5), " ".join([TEXT] * 8), font=ImageFont.truetype(str(FONT), 9), fill=0)
    ink = linecut.ink_of(image)
    (box,) = linecut.find_lines(ink)
    pieces = linecut.strips(ink, box, 9)
    assert len(pieces) >= 4
    assert (pieces[0].left, pieces[-1].right) == (box.left, box.right)
    for left, right in pairwise(pieces):
        assert right.left - left.right >= 2
        assert not (ink[box.top : box.bottom, left.right : right.left] > linecut.INK_FLOOR).any()


def test_a_wide_line_without_gaps_stays_whole():
    ink = np.full((9, 3000), 255, dtype=np.float32)
    box = linecut.LineBox(0, 9, 0, 3000)
    assert linecut.strips(ink, box, 9) == [box]


def test_the_picture_of_a_line_has_the_height_asked_for_and_no_neighbours():
    ink = linecut.ink_of(drawn([TEXT] * 3, 9, 10))
    box = linecut.find_lines(ink)[1]
    picture = linecut.line_picture(ink, box, 9, 48)
    assert picture.dtype == np.uint8
    assert picture.shape[::2] == (48, 3)
    assert picture.shape[1] == pytest.approx((box.right - box.left + 4) * 48 / (box.height + 6), abs=2)
    assert (picture[:4] > 240).all()
    assert (picture[-4:] > 240).all()
    assert (picture < 60).any()
