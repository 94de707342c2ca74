"""Sweep: documents drawn with every configuration of a grid, and what each saves. Asks no model; knows no command line."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from glyph_pipeline.batch.drawing import DrawingPool
from glyph_pipeline.batch.items import BatchItem
from glyph_pipeline.batch.worker import DrawTask
from glyph_pipeline.document import Document
from glyph_pipeline.errors import GlyphError
from glyph_pipeline.experiments.grid import Combination
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.tokens.text import Cl100kTokenizer
from glyph_pipeline.tokens.vision import FAMILIES, GLM_4V, VisionArithmetic


@dataclass(frozen=True, slots=True)
class SweepCase:
    """One document with one configuration of a grid. ``key`` is a hash of all that its outcome depends on: the text, the
    configuration, the font file, and this package's version; ``style`` is one of all those but the text."""

    document: Document
    combination: Combination
    key: str
    style: str


@dataclass(frozen=True, slots=True)
class SweepRow:
    """What came of a case: sizes of its pages in px and how many have each, bytes of PNG, seconds of drawing; or the error.
    ``legibility``: error rates by what was read back, if that was measured (see legibility.py)."""

    case: SweepCase
    outcome: Mapping[str, Any]
    legibility: Mapping[str, float] = field(default_factory=dict)

    def readable_by(self, family: VisionArithmetic) -> bool:
        """Whether a family of models reads all the pages."""
        try:
            return bool(self.vision_tokens(family))
        except GlyphError:
            return False

    @property
    def pages(self) -> int:
        """Number of pages."""
        return sum(self.outcome.get("sizes", {}).values())

    def vision_tokens(self, family: VisionArithmetic) -> int:
        """Of all pages, for a family of models. Raises ConfigError for a page that it does not read."""
        return sum(family.tokens(*map(int, size.split("x"))) * count for size, count in self.outcome["sizes"].items())

    def ratio(self, family: VisionArithmetic) -> float:
        """Text tokens (cl100k_base) for each vision token."""
        return float(self.outcome["text_tokens"]) / self.vision_tokens(family)

    def record(self) -> dict[str, Any]:
        """A line of the results."""
        config = self.case.combination.config
        return {
            "id": self.case.key,
            "status": "failed" if "error" in self.outcome else "ok",
            "document": self.case.document.id,
            "changes": dict(self.case.combination.changes),
            **self.outcome,
            "config": None if config is None else config.to_dict(),
        }

    def flat(self, families: Sequence[str]) -> dict[str, Any]:
        """The row of a table: the document, what was changed, and numbers; for each family its vision tokens and ratio."""
        row: dict[str, Any] = {"document": self.case.document.id, **self.case.combination.changes}
        if "error" in self.outcome:
            return row | {"error": self.outcome["error"]}
        row |= {"pages": self.pages, "text tokens": self.outcome["text_tokens"]}
        for name in families:
            family = FAMILIES[name]
            readable = self.readable_by(family)
            row |= {
                f"{name} tokens": self.vision_tokens(family) if readable else None,
                f"{name} ratio": round(self.ratio(family), 3) if readable else None,
            }
        row |= {f"{name} error": round(rate, 5) for name, rate in self.legibility.items()}
        return row | {"image bytes": self.outcome["image_bytes"], "seconds": self.outcome["seconds"]}


def cases(documents: Sequence[Document], combinations: Sequence[Combination]) -> list[SweepCase]:
    """Every document with every configuration, document by document."""
    fonts: dict[tuple[str, bool], str] = {}

    def font_of(config: RenderConfig) -> str:
        name = (config.font, config.system_fonts)
        if name not in fonts:
            fonts[name] = find_font(*name).use.sha256
        return fonts[name]

    found = []
    for document in documents:
        text = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
        for combination in combinations:
            config = combination.config
            style: list[Any] = [version("glyph-pipeline"), *([config.to_dict(), font_of(config)] if config is not None else [])]
            key = _hash([*style, document.id, text, dict(combination.changes)])
            found.append(SweepCase(document, combination, key, _hash(style)))
    return found


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


async def sweep(todo: Sequence[SweepCase], workers: int) -> AsyncGenerator[SweepRow, None]:
    """The rows of all cases, as they finish; drawn in up to ``workers`` processes (0: in this one)."""
    tokenizer = Cl100kTokenizer()
    counts = {case.document.id: 0 for case in todo}
    for document in {case.document.id: case.document for case in todo}.values():
        counts[document.id] = await asyncio.to_thread(tokenizer.count, document.text)
    pool = DrawingPool(workers)
    running: set[asyncio.Task[SweepRow]] = set()
    waiting = list(reversed(todo))
    try:
        while waiting or running:
            while waiting and len(running) < 2 * max(1, workers):
                running.add(asyncio.ensure_future(_row(waiting.pop(), pool, counts)))
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        pool.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _row(case: SweepCase, pool: DrawingPool, text_tokens: Mapping[str, int]) -> SweepRow:
    config, error = case.combination.config, case.combination.error
    if config is None:
        return SweepRow(case, {"error": str(error)})
    item = BatchItem(case.key, "", (case.document,))
    try:
        drawn = await pool.draw(DrawTask.of(item, config, GLM_4V, count=False))  # the text is counted once, not in every case
    except GlyphError as e:
        return SweepRow(case, {"error": str(e)})
    pages, report = drawn.compressed.pages, drawn.compressed.report
    sizes = Counter(f"{page.width}x{page.height}" for page in pages)
    return SweepRow(
        case,
        {
            "sizes": dict(sizes),
            "text_tokens": text_tokens[case.document.id],
            "tokenizer": Cl100kTokenizer().name,
            "characters": report.characters,
            "image_bytes": report.image_bytes,
            "seconds": round(drawn.seconds, 4),
            "fonts": [font.file for font in report.fonts],
            "missing": sum(report.missing.values()),
        },
    )
