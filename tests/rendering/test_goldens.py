"""Six pages that somebody has looked at: English, Chinese, Arabic with numbers, Hindi, source code, emoji. Made by scripts/goldens.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glyph_pipeline import RenderConfig, render

FOLDER = Path(__file__).parent.parent / "goldens"
NAMES = ("english", "chinese", "arabic", "hindi", "code", "emoji")


def configuration(name: str) -> RenderConfig:
    """How a golden is drawn: with the bundled fonts alone, at the size Glyph was trained on."""
    return RenderConfig.preset("zh" if name == "chinese" else "en").replace(system_fonts=False, page_size="420,595")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_the_one_that_was_looked_at(name: str) -> None:
    (page,) = render((FOLDER / f"{name}.txt").read_text("utf-8"), configuration(name))
    with Image.open(FOLDER / f"{name}.png") as golden:
        expected = np.asarray(golden).astype(int)
    drawn = np.asarray(page.to_image()).astype(int)
    assert drawn.shape == expected.shape
    # Another release of FreeType may round a pixel's coverage otherwise.
    assert np.abs(drawn - expected).mean() <= 0.02
