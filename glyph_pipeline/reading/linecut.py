"""Cuts a page picture into pictures of its text lines by their ink. Knows no OCR engine, no text and no way a page was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

Ink: TypeAlias = npt.NDArray[np.float32]

INK_FLOOR = 24
"""Grey levels (of 255) by which a pixel must differ from the background to count as ink."""

LONGEST_STRIP = 60
"""A line is handed on in pieces when it is wider than this many times its height: recognisers lose the thread in long strips."""


@dataclass(frozen=True, slots=True)
class LineBox:
    """Where one line of text lies on its page: pixels, half open (``top <= y < bottom``, ``left <= x < right``)."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Pixels from its highest to its lowest ink."""
        return self.bottom - self.top


def ink_of(image: Image.Image) -> Ink:
    """How much each pixel differs from the page's background, float32 of shape (height, width), 0 blank to 255 full.

    The background is the most frequent grey, so dark pages read like light ones, and the darkest ink becomes 255.
    """
    grey = np.asarray(image.convert("L"))
    background = int(np.bincount(grey.ravel(), minlength=256).argmax())
    ink = np.abs(grey.astype(np.float32) - background)
    strongest = float(ink.max()) if ink.size else 0.0
    if strongest < INK_FLOOR:
        return np.zeros_like(ink)
    scaled: Ink = ink * np.float32(255 / strongest)
    return scaled


def find_lines(ink: Ink) -> list[LineBox]:
    """The text lines of a page, top to bottom; none on a blank page. ``ink`` as :func:`ink_of` gives it, (height, width).

    The bodies of small letters make dense rows, one stripe to a line, and what reaches above and below them is sparse,
    so lines are told apart also where they touch: between two bodies, the longest run of rows with the least ink parts them.
    """
    marked = np.where(ink > INK_FLOOR, ink, 0)
    profile = marked.sum(axis=1)
    inked = np.flatnonzero(profile)
    if not len(inked):
        return []
    bodies = _bodies(marked, profile)
    cuts = [int(inked[0])]
    for above, below in pairwise(bodies):
        between = profile[above[1] : below[0]]
        least = max(_runs(between <= between.min()), key=lambda run: run[1] - run[0])
        cuts.append(above[1] + (least[0] + least[1]) // 2)
    cuts.append(int(inked[-1]) + 1)
    boxes: list[LineBox] = []
    for start, stop in pairwise(cuts):
        rows = start + np.flatnonzero(profile[start:stop])
        if len(rows):
            columns = np.flatnonzero(marked[rows[0] : rows[-1] + 1].any(axis=0))
            boxes.append(LineBox(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1))
    return boxes


def usual_height(boxes: Sequence[LineBox]) -> int:
    """Pixels that a line of these takes with ascenders and descenders; robust against the odd short or tall one."""
    return int(np.ceil(np.percentile([box.height for box in boxes], 80)))


def set_off(boxes: Sequence[LineBox]) -> list[bool]:
    """For each line whether more space than usual parts it from the line above it: a new paragraph. The first never is."""
    steps = [below.bottom - above.bottom for above, below in pairwise(boxes)]
    return [False, *(step > 1.4 * float(np.median(steps)) for step in steps)][: len(boxes)]


def strips(ink: Ink, box: LineBox, height: int) -> list[LineBox]:
    """The line itself, or its pieces, cut in word gaps, if it is very wide; ``height`` as :func:`usual_height` says."""
    parts = -(-(box.right - box.left) // (LONGEST_STRIP * height))
    if parts < 2:
        return [box]
    gaps = _runs(ink[box.top : box.bottom, box.left : box.right].max(axis=0) <= INK_FLOOR)
    gaps = [gap for gap in gaps if gap[1] - gap[0] >= 0.2 * height]
    edges = [(box.left, box.left)]
    for part in range(1, parts):
        wanted = (box.right - box.left) * part / parts
        near = min(gaps, key=lambda gap: abs((gap[0] + gap[1]) / 2 - wanted), default=None)
        if near is not None and box.left + near[0] > edges[-1][1]:
            edges.append((box.left + near[0], box.left + near[1]))
    edges.append((box.right, box.right))
    return [LineBox(box.top, box.bottom, left, right) for (_, left), (right, _) in pairwise(edges)]


def line_picture(ink: Ink, box: LineBox, height: int, out_height: int, margin: float = 0.3) -> npt.NDArray[np.uint8]:
    """One line, black on white, scaled so that ``height`` plus blank margins of ``margin * height`` fill ``out_height`` pixels.

    The result is uint8 of shape (out_height, width, 3). A line taller than ``height`` is scaled down to fit. The
    neighbours' ink is left out. ``margin`` was measured: smaller ones cost time, larger ones make the letters too small.
    """
    from PIL import Image

    tall = max(height, box.height)
    full = tall + 2 * max(1, round(margin * tall))
    side = 2
    canvas = np.full((full, box.right - box.left + 2 * side), 255, dtype=np.uint8)
    top = (full - box.height) // 2
    piece = ink[box.top : box.bottom, box.left : box.right]
    canvas[top : top + box.height, side : side + piece.shape[1]] = (255 - piece).astype(np.uint8)
    width = max(1, round(canvas.shape[1] * out_height / full))
    grey = np.asarray(Image.fromarray(canvas).resize((width, out_height), Image.Resampling.BICUBIC))
    return np.repeat(grey[:, :, None], 3, axis=2)


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The half open ranges in which a one-dimensional mask is true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _bodies(marked: Ink, profile: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
    """The rows of each line's body, the part between base line and the top of an x; at least one where there is ink."""
    rough = _runs(profile > 0.3 * float(np.percentile(profile[profile > 0], 90)))
    usual = _middle([stop - start for start, stop in rough], [float(profile[start:stop].sum()) for start, stop in rough])
    reach = max(1, round(0.6 * usual))
    # A row counts by how much of the ink columns around it it fills, so that short lines count like long ones.
    below = np.cumsum(np.pad(marked > 0, ((reach + 1, reach), (0, 0))), axis=0, dtype=np.int32)
    columns = (below[2 * reach + 1 :] > below[: -2 * reach - 1]).sum(axis=1)
    density = profile / np.maximum(columns, 1)
    runs = _runs(density > 0.4 * float(np.percentile(density[profile > 0], 90)))
    # Dots, accents, the bars of an equals sign: scraps that go with the nearest body, with the one below if in doubt.
    while len(runs) > 1:
        gaps = [
            (low[0] - high[1], -number)
            for number, (high, low) in enumerate(pairwise(runs))
            if low[0] - high[1] <= 0.6 * usual and min(high[1] - high[0], low[1] - low[0]) <= 0.5 * usual
        ]
        if not gaps:
            break
        number = -min(gaps)[1]
        runs[number : number + 2] = [(runs[number][0], runs[number + 1][1])]
    return runs


def _middle(values: Sequence[int], weights: Sequence[float]) -> int:
    """The weighted median."""
    order = np.argsort(values)
    heavy = np.cumsum(np.asarray(weights)[order])
    return values[int(order[np.searchsorted(heavy, heavy[-1] / 2)])]
