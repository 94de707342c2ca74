"""What keeping pages costs and saves: a text of about so many pages drawn without a store, drawn and kept, and taken from the store.

The bytes of all three are compared. Times are of this machine; the store lies in a temporary folder.

    python scripts/bench_page_store.py [--pages 250]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterable
from itertools import islice

from glyph_pipeline import Document, Page, RenderConfig
from glyph_pipeline.experiments.evaluation.filler import sentences
from glyph_pipeline.pagestore import PageStore
from glyph_pipeline.rendering.renderer import Renderer

SENTENCES_A_PAGE = 100


def digest(pages: Iterable[Page]) -> tuple[str, int, int]:
    """SHA-256 over all PNG bytes, how many bytes they are, how many pages; one page is held at a time."""
    found, size, count = hashlib.sha256(), 0, 0
    for page in pages:
        found.update(page.png)
        size, count = size + len(page.png), count + 1
    return found.hexdigest(), size, count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=250)
    options = parser.parse_args()
    document = Document("".join(islice(sentences("store"), SENTENCES_A_PAGE * options.pages)))
    config = RenderConfig.preset("en")
    digest(islice(Renderer(config).render(document), 2))  # fonts and code are loaded
    rows: list[tuple[str, float, tuple[str, int, int]]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = PageStore(folder)
        for name, renderer in (
            ("drawn", Renderer(config)),
            ("drawn and kept", store.renderer(config)),
            ("from the store", store.renderer(config)),
        ):
            began = time.perf_counter()
            rows.append((name, 0.0, digest(renderer.render(document))))
            rows[-1] = (name, time.perf_counter() - began, rows[-1][2])
        tracemalloc.start()
        digest(store.renderer(config).render(document))
        peak = tracemalloc.get_traced_memory()[1]
    same = len({found for _, _, found in rows}) == 1
    _, size, pages = rows[0][2]
    print(f"{pages:,} pages, {size / 1e6:.1f} MB of PNG")
    for name, seconds, _ in rows:
        print(f"{name:<15} {seconds:6.2f} s  {pages / seconds:7.0f} pages/s  {rows[0][1] / seconds:5.1f} times drawing")
    print(
        f"the same bytes: {'yes' if same else 'NO'}; {store.hits} of {store.hits + store.misses} documents from the store; peak of Python's memory {peak / 1e6:.1f} MB"
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
