"""Pixels: glyphs at known places, quarter-pixel phases, colours, alignment, crops, scales and clipped descenders."""

from __future__ import annotations

import ctypes
from typing import Any

import freetype
import numpy as np
import numpy.typing as npt
import pytest

from glyph_pipeline import Page, RenderConfig, render
from glyph_pipeline.resources import resource_dir

# A page of 48x34 px whose text begins at x = 6, with its first baseline at y = 15.
TINY = RenderConfig(page_size="48,34", margin_x=0, margin_y=0, line_height=10, auto_crop_width=False, auto_crop_last_page=False)
CARD = RenderConfig(page_size="200,120", auto_crop_width=False, auto_crop_last_page=False)

Pixels = npt.NDArray[np.uint8]


def first(text: str, config: RenderConfig) -> Page:
    return next(render(text, config))


def pixels(text: str, config: RenderConfig, **changes: Any) -> Pixels:
    return np.asarray(first(text, config.replace(**changes) if changes else config).to_image())


def art(image: Pixels) -> list[str]:
    return ["".join("#" if value < 100 else "+" if value < 200 else "." for value in row).rstrip(".") for row in image]


def ink_box(image: Pixels) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what is darker than the page; right and bottom exclusive."""
    rows, columns = np.nonzero(image < 200)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_letters_stand_where_they_should() -> None:
    assert art(pixels("Hi\ngo", TINY)) == [
        *[""] * 8,
        ".......+...+.++",
        ".......#...#",
        ".......#...#.++",
        ".......#####.++",
        ".......#...#.++",
        ".......#...#.++",
        ".......#...#.++",
        *[""] * 5,
        ".......##+#.+###",
        "......++..#.#..++",
        "......++..#.#..++",
        "......++..#.#..++",
        ".......##+#.+###",
        "..........#",
        ".......###",
        *[""] * 7,
    ]


def coverage_by_freetype(char: str, size: int, phase: int) -> tuple[Pixels, int, int]:
    """(256 levels, left, top) of FreeType's own unhinted bitmap, its outline moved right by phase/4 px."""
    face = freetype.Face(str(resource_dir("fonts") / "DejaVuSans.ttf"))
    face.set_pixel_sizes(0, size)
    face.load_char(char, freetype.FT_LOAD_NO_HINTING | freetype.FT_LOAD_NO_BITMAP)
    freetype.FT_Outline_Translate(ctypes.byref(face.glyph.outline._FT_Outline), 16 * phase, 0)
    face.glyph.render(freetype.FT_RENDER_MODE_NORMAL)
    bitmap = face.glyph.bitmap
    levels = np.array(bitmap.buffer, np.uint8).reshape(bitmap.rows, bitmap.pitch)[:, : bitmap.width]
    return levels, face.glyph.bitmap_left, face.glyph.bitmap_top


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize(("dpi", "size", "x", "baseline"), [(72, 9, 6, 15), (144, 18, 12, 30)])
@pytest.mark.parametrize("char", "Agß%Жω")
def test_a_drawn_glyph_is_freetypes_unhinted_bitmap(char: str, dpi: int, size: int, x: int, baseline: int, phase: int) -> None:
    # The indent moves the pen by whole quarters of a pixel.
    image = pixels(char, TINY, dpi=dpi, first_line_indent=phase / 4 * 72 / dpi)
    levels, left, top = coverage_by_freetype(char, size, phase)
    expected = np.full_like(image, 255)
    height, width = levels.shape
    expected[baseline - top : baseline - top + height, x + left : x + left + width] -= levels
    assert np.array_equal(image, expected)


def test_the_four_quarters_of_a_pixel_differ_and_what_is_between_is_rounded_down() -> None:
    quarters = [pixels("il", TINY, first_line_indent=quarter / 4) for quarter in range(4)]
    assert len({image.tobytes() for image in quarters}) == 4
    for quarter in range(4):
        assert np.array_equal(pixels("i", TINY, first_line_indent=quarter / 4 + 0.24), pixels("i", TINY, first_line_indent=quarter / 4))


def test_colours_of_ink_page_and_paragraph() -> None:
    image = pixels("HHH\nHHH", CARD, font_color="#0000FF", page_bg_color="#EEEECC", para_bg_color="#CCFFCC")
    assert image.ndim == 3
    assert image[0, 0].tolist() == [0xEE, 0xEE, 0xCC]
    # The paragraph's box: from 16 px to 16 px before the right edge, two lines of 10 px high.
    box = (image == [0xEE, 0xEE, 0xCC]).all(axis=2)
    rows, columns = np.nonzero(~box)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (16, 16, 184, 36)
    assert image[35, 183].tolist() == [0xCC, 0xFF, 0xCC]
    darkest = image[..., 0].min()
    assert darkest < 40
    # All ink is a mixture of the paragraph's colour and blue.
    amount = (0xCC - image[16:36, 16:184, 0].astype(float)) / 0xCC
    assert np.abs(image[16:36, 16:184, 1] - 0xFF * (1 - amount)).max() < 2
    assert np.abs(image[16:36, 16:184, 2] - (0xCC * (1 - amount) + 0xFF * amount)).max() < 2


def test_a_paragraphs_border() -> None:
    image = pixels("HH", CARD, border_width=2, border_padding=4, para_border_color="#FF0000")
    red = (image == [255, 0, 0]).all(axis=2)
    rows, columns = np.nonzero(red)
    # The line's middle runs 4 px outside of the text's box, (16, 16) to (184, 26).
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (11, 11, 189, 31)
    assert not red[13:29, 13:187].any()


def test_a_newline_mark_is_drawn_in_its_colour() -> None:
    image = pixels("HH\nHH", CARD, newline_markup='<font color="#FF0000"> \\n </font>').astype(int)
    reddish = image[..., 0] - image[..., 1] > 100
    black = image.max(axis=2) < 60
    assert reddish.any()
    left, right = np.flatnonzero(reddish.any(axis=0))[[0, -1]]
    dark = np.flatnonzero(black.any(axis=0))
    assert dark[0] < left
    assert dark[-1] > right
    assert not ((dark > left) & (dark < right)).any()


@pytest.mark.parametrize(
    ("changes", "mode"),
    [
        ({}, "L"),
        ({"font_color": "#333333", "page_bg_color": "#DDDDDD", "para_bg_color": "#DDDDDD"}, "L"),
        ({"font_color": "#333334"}, "RGB"),
        ({"page_bg_color": "#FFFFF0"}, "RGB"),
        ({"newline_markup": '<font color="#FF0000">|</font>'}, "RGB"),
        ({"newline_markup": "|"}, "L"),
    ],
    ids=str,
)
def test_pages_are_grey_where_all_colours_are(changes: dict[str, str], mode: str) -> None:
    page = first("text", CARD.replace(**changes))
    image = page.to_image()
    assert image.mode == mode
    assert image.size == (page.width, page.height) == (200, 120)


def test_grey_and_colour_pages_have_the_same_ink() -> None:
    grey = pixels("The quick brown fox", CARD)
    colour = pixels("The quick brown fox", CARD, newline_markup='<font color="#FF0000">|</font>')
    assert np.array_equal(colour, np.repeat(grey[..., None], 3, axis=2))


def test_alignment_moves_the_ink() -> None:
    text = "HHH HHH"
    boxes = {name: ink_box(pixels(text, CARD, alignment=name)) for name in ("LEFT", "CENTER", "RIGHT", "JUSTIFY")}
    assert boxes["LEFT"][0] in (16, 17)
    assert boxes["RIGHT"][2] in (183, 184)
    left, _, right, _ = boxes["CENTER"]
    assert abs((left - 16) - (184 - right)) <= 1
    # The last line of a paragraph is not justified.
    assert boxes["JUSTIFY"] == boxes["LEFT"]
    widths = [box[2] - box[0] for box in boxes.values()]
    assert max(widths) - min(widths) <= 1


def test_justified_lines_reach_both_edges() -> None:
    image = pixels("HHHH HHHH HHHH HHHH HHHH HHHH HHHH HHHH", CARD, alignment="JUSTIFY")
    first_line, last_line = image[16:26], image[26:36]
    assert ink_box(first_line)[0] in (16, 17)
    assert ink_box(first_line)[2] in (183, 184)
    assert ink_box(last_line)[2] < 150


@pytest.mark.parametrize(("margin_x", "margin_y"), [(10, 10), (3, 14), (0, 0)])
def test_crops(margin_x: int, margin_y: int) -> None:
    config = CARD.replace(margin_x=margin_x, margin_y=margin_y)
    image = pixels("HHH", config)
    rows, columns = np.nonzero(image < 250)
    right, bottom = int(columns.max()), int(rows.max())
    cropped = first("HHH", config.replace(auto_crop_width=True, auto_crop_last_page=True))
    assert (cropped.width, cropped.height) == (right + 1 + margin_x, bottom + margin_y)
    assert np.array_equal(np.asarray(cropped.to_image()), image[: cropped.height, : cropped.width])


def test_only_the_last_page_is_cropped_below() -> None:
    # Eight lines a page; the second begins with an empty one, because it is split behind a break, and ends with the twelfth.
    pages = list(render("\n".join(["HHH"] * 12), CARD.replace(auto_crop_width=True, auto_crop_last_page=True)))
    assert [page.height for page in pages] == [120, 15 + 9 + 4 * 10 + 10]
    assert len({page.width for page in pages}) == 1


def test_ink_that_hangs_over_the_edge_does_not_come_back_on_the_other_side() -> None:
    image = pixels("Q" * 30, CARD, margin_x=0, left_indent=0, first_line_indent=-12)
    assert (image[:, 196:] == 255).all()
    assert (image[16:26, 0] < 255).any()


@pytest.mark.parametrize(("scale", "width"), [(0.5, 100), (0.8, 160), (0.999, 199), (1.5, 300)])
def test_horizontal_scale(scale: float, width: int) -> None:
    page = first("HHHH HHHH", CARD.replace(horizontal_scale=scale))
    assert (page.width, page.height) == (width, 120)
    left, top, right, bottom = ink_box(np.asarray(page.to_image()))
    plain = ink_box(pixels("HHHH HHHH", CARD))
    assert (top, bottom) == (plain[1], plain[3])
    assert abs((right - left) - scale * (plain[2] - plain[0])) <= 3


@pytest.mark.parametrize(
    ("dpi", "size"), [(36, (298, 421)), (72, (595, 842)), (96, (794, 1123)), (120, (992, 1404)), (144, (1190, 1684)), (150, (1240, 1755))]
)
def test_dpi_sets_the_size_in_pixels(dpi: int, size: tuple[int, int]) -> None:
    page = first("H", RenderConfig(dpi=dpi, auto_crop_width=False, auto_crop_last_page=False))
    assert (page.width, page.height) == size


def test_ink_grows_with_the_resolution() -> None:
    small, large = ink_box(pixels("HHHH", CARD)), ink_box(pixels("HHHH", CARD, dpi=288))
    assert [abs(side - 4 * plain) <= 4 for side, plain in zip(large, small, strict=True)] == [True] * 4


def test_a_paragraphs_box_covers_the_descenders_above_it() -> None:
    """As in the official renderer: lines 1 to 30 are one paragraph, and the next one's background is filled after it."""
    config = TINY.replace(page_size="48,400")
    image = pixels("\n".join(["g"] * 32), config)

    def rows_below(line: int) -> int:
        baseline = 15 + 10 * line
        return int((image[baseline : baseline + 3] < 200).any(axis=1).sum())

    assert [rows_below(line) for line in (0, 10, 28, 30)] == [2] * 4
    assert rows_below(29) == 1
