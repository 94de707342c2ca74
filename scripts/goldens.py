#!/usr/bin/env python3
"""Draws the golden pages of tests/rendering/test_goldens.py anew. Look at each of them before you commit it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "rendering")]

from test_goldens import FOLDER, NAMES, configuration  # noqa: E402

from glyph_pipeline import render  # noqa: E402


def main() -> None:
    for name in NAMES:
        (page,) = render((FOLDER / f"{name}.txt").read_text("utf-8"), configuration(name))
        (FOLDER / f"{name}.png").write_bytes(page.png)
        print(f"{name}.png: {page.width}x{page.height} px, {len(page.lines)} lines")


if __name__ == "__main__":
    main()
