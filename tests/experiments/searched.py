"""A search whose numbers are computed, not measured: what is tested is what it proposes, keeps and takes up again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glyph_pipeline import Document, RenderConfig
from glyph_pipeline.batch.store import ResultStore
from glyph_pipeline.experiments.critic import Critic
from glyph_pipeline.experiments.intervals import Count
from glyph_pipeline.experiments.objective import Measured
from glyph_pipeline.experiments.search import Plan, Records, Search
from glyph_pipeline.experiments.space import Space
from tests.support.command import SAMPLE

TEXT = Document.read(SAMPLE)
# Drawn with what ships, the same on every machine.
SPACE = 'extends = "print"\n[space]\nsystem-fonts = [true]\n'


class Computed:
    """Draws nothing. ``stop``: interrupt at that measurement."""

    unit = "characters"

    def __init__(self, stop: int = -1) -> None:
        self.measured: list[RenderConfig] = []
        self.stop = stop

    def measure(self, config: RenderConfig) -> Measured:
        if len(self.measured) == self.stop:
            raise KeyboardInterrupt
        self.measured.append(config)
        return computed(config)

    def confirm(self, config: RenderConfig) -> Measured | None:
        return None

    def to_dict(self) -> dict[str, Any]:
        return {"name": "computed"}

    def confirmed_by(self) -> dict[str, Any]:
        return {}


def computed(config: RenderConfig) -> Measured:
    """What Computed measures: pages as full of letters half as wide as high as they will go, and errors by size and leading in px."""
    scale = config.dpi / 72
    letters = config.line_width / (config.font_size / 2) * config.frame_height / config.leading
    width, height = config.pixel_size
    tokens = 100 / letters * width * config.horizontal_scale * height / 28**2 * (0.8 if config.newline_mark.text else 1)
    wrong = max(0.0, 9 - config.font_size * scale) ** 2 * 100 + max(0.0, 10 - config.leading * scale) * 20
    wrong /= config.horizontal_scale
    return Measured(25_000, round(1000 * tokens), 1, {"text": Count(int(wrong), 10_000)}, 0.1)


def space_of(folder: Path, text: str = SPACE) -> Space:
    path = folder / "space.toml"
    path.write_text(text)
    return Space.load(path, [TEXT.text])


def searched(
    folder: Path, space: Space, objective: Computed, critic: Critic | None = None, notices: list[str] | None = None, **plan: Any
) -> list[Mapping[str, Any]]:
    """The records after a run, which a KeyboardInterrupt of the objective ends early."""
    with ResultStore(folder / "trials.jsonl") as store, ResultStore(folder / "critic.jsonl") as said:
        records = Records(store)
        search = Search(
            space,
            RenderConfig.preset("en"),
            objective,
            Plan(**plan),
            records,
            folder / "study.journal",
            critic,
            Records(said),
            notice=(notices if notices is not None else []).append,
        )
        try:
            search.run()
        except KeyboardInterrupt:
            assert objective.stop >= 0
        return list(records)
