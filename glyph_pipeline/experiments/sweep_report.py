"""The report of a sweep: ratio against what OCR misreads, heat maps over two axes, pages at true size. Draws only the pages it shows."""

from __future__ import annotations

import importlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from glyph_pipeline.experiments.grid import Grid
from glyph_pipeline.experiments.legibility import MEASURES, Sample
from glyph_pipeline.experiments.pareto import front
from glyph_pipeline.experiments.report import Report, plain, require
from glyph_pipeline.experiments.sweep import SweepRow
from glyph_pipeline.page import Page
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.tokens.vision import FAMILIES, VisionArithmetic

_COLOURS = ("#1f5fa8", "#c05a1c", "#2a7f4f", "#8a3fa0", "#7a6a00", "#a01f4a")
_OCR = (
    "OCR is not the model. What it misreads, the model may read, and the other way round: Glyph was trained on such pages and OCR was not. "
    "The figures show where print gets lost for a reader that sees no more than the model's encoder does; they do not show what the model answers."
)


def sweep_report(rows: Sequence[SweepRow], grid: Grid, families: Sequence[str], sample: Sample | None) -> Report:
    """The report of the rows that were drawn. ``sample``: what was read back of each drawing, if anything was. Raises MissingExtraError."""
    require()
    family = FAMILIES[families[0]]
    drawn = [row for row in rows if "error" not in row.outcome and row.readable_by(family)]
    names = list(dict.fromkeys(row.case.document.id for row in drawn))
    by_document = {name: [row for row in drawn if row.case.document.id == name] for name in names}
    base = RenderConfig.resolve(grid.preset)
    report = Report("What each way of drawing saves", _lead(len(rows), by_document, grid, family))
    if sample is not None:
        report.figure("Ratio against error", _scatter(by_document, base, family), _scatter_caption(sample))
    if len(pair := _two_axes(grid)) == 2:
        rest = _at_rest(grid, base, pair)
        report.figure("Over two axes", _heat_maps(by_document, pair, rest, family, sample is not None), _heat_caption(rest))
    if several := [key for key, values in grid.axes.items() if len(values) > 1]:
        report.figure(
            "What each key does",
            _boxes(by_document, several, family),
            "Ratios of all configurations with a value: the box holds the middle half of them, the line in it is the median.",
        )
    for name, of_document in by_document.items():
        report.pages(
            f"Pages of {name}",
            [_first_page(row, label, family) for label, row in _shown(of_document, base, family).items()],
            "A pixel of the page is a pixel here, at a browser zoom of 100 %.",
        )
    report.table("All configurations", [row.flat(families) for row in rows], "Text tokens are counted by cl100k_base (tiktoken).")
    if sample is not None:
        report.text("What this proves and what not", _OCR)
    return report


def _lead(count: int, by_document: Mapping[str, Sequence[SweepRow]], grid: Grid, family: VisionArithmetic) -> str:
    told = []
    for name, rows in by_document.items():
        ratios = [row.ratio(family) for row in rows]
        told.append(f"{name}, {rows[0].outcome['text_tokens']:,} tokens of text: ratios from {min(ratios):.2f} to {max(ratios):.2f}")
    axes = ", ".join(grid.axes)
    return f"{count:,} drawings with other values of {axes}, from the preset {grid.preset}. {'. '.join(told)}. Vision tokens as {family.family} counts them."


def _scatter_caption(sample: Sample) -> str:
    lines = f"{sample.lines} lines" if sample.lines else "all lines"
    return (
        f"Each point is a configuration; the line joins those that no other beats in both respects, the star is the preset. Left: the share of wrong "
        f"characters in {lines} of each of {sample.pages} page{'s' if sample.pages > 1 else ''} of the document. Right: in identifiers drawn by lot, which nobody can guess. "
        "Read by OCR as the encoder sees the page. No error at all stands at the foot of the scale."
    )


def _scatter(by_document: Mapping[str, Sequence[SweepRow]], base: RenderConfig, family: VisionArithmetic) -> Any:
    subplots = importlib.import_module("plotly.subplots")
    figure = subplots.make_subplots(1, 2, subplot_titles=("the document's own text", "random strings"), shared_yaxes=True)
    floor = _floor(by_document)
    for (name, rows), colour in zip(by_document.items(), _cycled(len(by_document)), strict=True):
        for column, measure in enumerate(MEASURES, 1):
            points = [(row.ratio(family), row.legibility[measure]) for row in rows]
            hover = [_label(row, family, measure) for row in rows]
            heights = [max(error, floor) for _, error in points]
            marker = {"color": colour, "size": 8, "opacity": 0.75}
            common: dict[str, Any] = {"name": plain(name), "legendgroup": name, "row": 1, "col": column}
            _trace(figure, "markers", [ratio for ratio, _ in points], heights, common, marker=marker, text=hover, showlegend=column == 1)
            best = front(points)
            line = {"color": colour, "width": 1.5, "shape": "hv"}
            _trace(figure, "lines", [points[i][0] for i in best], [heights[i] for i in best], common, line=line, showlegend=False)
            if (place := next((i for i, row in enumerate(rows) if row.case.combination.config == base), None)) is not None:
                star = {"color": colour, "symbol": "star", "size": 17, "line": {"color": "black", "width": 1.5}}
                _trace(figure, "markers", [points[place][0]], [heights[place]], common, marker=star, text=[hover[place]], showlegend=False)
    figure.update_xaxes(title_text="text tokens for each vision token")
    figure.update_yaxes(type="log", tickformat=".2~%", title_text="wrong characters", col=1)
    figure.update_yaxes(type="log", tickformat=".2~%", col=2)
    figure.update_layout(height=520, template="plotly_white", legend={"orientation": "h", "y": -0.2}, margin={"t": 40})
    return figure


def _trace(figure: Any, mode: str, x: Sequence[float], y: Sequence[float], place: Mapping[str, Any], **more: Any) -> None:
    where = {key: place[key] for key in ("row", "col")}
    rest = {key: value for key, value in place.items() if key not in where}
    template = "%{text}<extra></extra>" if "text" in more else None
    hover = {"hovertemplate": template} if template else {"hoverinfo": "skip"}
    figure.add_scatter(mode=mode, x=list(x), y=list(y), **rest, **more, **hover, **where)


def _floor(by_document: Mapping[str, Sequence[SweepRow]]) -> float:
    """Where an error of none is drawn, a logarithm having no place for it: half of the least that there is."""
    errors = [rate for rows in by_document.values() for row in rows for rate in row.legibility.values() if rate]
    return min(errors, default=0.001) / 2


def _label(row: SweepRow, family: VisionArithmetic, measure: str) -> str:
    changes = "<br>".join(f"{key} {plain(value)}" for key, value in row.case.combination.changes.items())
    return f"ratio {row.ratio(family):.2f}, error {row.legibility[measure]:.2%}<br>{changes}"


def _two_axes(grid: Grid) -> list[str]:
    """The two axes with the most values, in the grid's order."""
    several = [key for key, values in grid.axes.items() if len(values) > 1 and all(isinstance(value, Hashable) for value in values)]
    most = sorted(several, key=lambda key: -len(grid.axes[key]))[:2]
    return [key for key in several if key in most]


def _at_rest(grid: Grid, base: RenderConfig, pair: Sequence[str]) -> dict[str, Any]:
    """What the other axes stand at: the preset's value if it is among theirs, else their first."""
    preset = base.to_dict()
    preset["leading"] = base.leading - base.font_size
    at_rest = {}
    for key, values in grid.axes.items():
        if key not in pair:
            at_rest[key] = next((value for value in values if value == preset.get(key.replace("_", "-"))), values[0])
    return at_rest


def _heat_caption(rest: Mapping[str, Any]) -> str:
    others = ", ".join(f"{key} {value}" for key, value in rest.items())
    return f"The other axes stand at: {others}." if others else "The grid has no other axes."


def _heat_maps(
    by_document: Mapping[str, Sequence[SweepRow]], pair: Sequence[str], rest: Mapping[str, Any], family: VisionArithmetic, errors: bool
) -> Any:
    subplots = importlib.import_module("plotly.subplots")
    measures = ["ratio", *([f"{name} error" for name in MEASURES] if errors else [])]
    titles = [f"{measure}: {plain(name)}" for name in by_document for measure in measures]
    figure = subplots.make_subplots(len(by_document), len(measures), subplot_titles=titles)
    for number, rows in enumerate(by_document.values(), 1):
        cut = [row for row in rows if all(row.case.combination.changes[key] == value for key, value in rest.items())]
        across, down = (list(dict.fromkeys(row.case.combination.changes[key] for row in cut)) for key in pair)
        for column, measure in enumerate(measures, 1):
            values = {
                tuple(row.case.combination.changes[key] for key in pair): row.ratio(family)
                if measure == "ratio"
                else row.legibility[measure.removesuffix(" error")]
                for row in cut
            }
            table = [[values.get((x, y)) for x in across] for y in down]
            shown = "%{z:.2f}" if measure == "ratio" else "%{z:.1%}"
            figure.add_heatmap(
                x=[plain(x) for x in across],
                y=[plain(y) for y in down],
                z=table,
                colorscale="Blues" if measure == "ratio" else "Reds",
                texttemplate=shown,
                hovertemplate=f"{pair[0]} %{{x}}, {pair[1]} %{{y}}: {shown}<extra></extra>",
                showscale=False,
                row=number,
                col=column,
            )
            figure.update_xaxes(title_text=pair[0], type="category", row=number, col=column)
            figure.update_yaxes(title_text=pair[1] if column == 1 else None, type="category", row=number, col=column)
    figure.update_layout(height=100 + 300 * len(by_document), template="plotly_white", margin={"t": 40})
    return figure


def _boxes(by_document: Mapping[str, Sequence[SweepRow]], keys: Sequence[str], family: VisionArithmetic) -> Any:
    subplots = importlib.import_module("plotly.subplots")
    across = min(3, len(keys))
    down = -(-len(keys) // across)
    figure = subplots.make_subplots(down, across, subplot_titles=[plain(key) for key in keys])
    for (name, rows), colour in zip(by_document.items(), _cycled(len(by_document)), strict=True):
        for place, key in enumerate(keys):
            figure.add_box(
                x=[plain(row.case.combination.changes[key]) for row in rows],
                y=[row.ratio(family) for row in rows],
                name=plain(name),
                legendgroup=name,
                showlegend=place == 0,
                marker_color=colour,
                boxpoints=False,
                row=place // across + 1,
                col=place % across + 1,
            )
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero")
    layout = {"height": 120 + 260 * down, "template": "plotly_white", "margin": {"t": 40}}
    figure.update_layout(boxmode="group", legend={"orientation": "h", "yanchor": "bottom", "y": 1.08}, **layout)
    return figure


def _shown(rows: Sequence[SweepRow], base: RenderConfig, family: VisionArithmetic) -> dict[str, SweepRow]:
    """The drawings whose pages are looked at, by what they are; each once."""
    preset = next((row for row in rows if row.case.combination.config == base), None)
    shown: dict[str, SweepRow] = {} if preset is None else {"The preset": preset}
    if rows[0].legibility:
        if preset is not None:
            as_good = [row for row in rows if all(row.legibility[name] <= preset.legibility[name] for name in MEASURES)]
            shown["The highest ratio with no error above the preset's"] = max(as_good, key=lambda row: row.ratio(family))
        legible = [row for row in rows if row.legibility["random"] <= 0.1]
        if legible:
            shown["The highest ratio with at most one random character in ten misread"] = max(legible, key=lambda row: row.ratio(family))
    shown["The highest ratio"] = max(rows, key=lambda row: row.ratio(family))
    first = {row.case.key: label for label, row in reversed(shown.items())}
    return {label: row for label, row in shown.items() if first[row.case.key] == label}


def _first_page(row: SweepRow, label: str, family: VisionArithmetic) -> tuple[str, Page]:
    changes = ", ".join(f"{key} {value}" for key, value in row.case.combination.changes.items())
    errors = "".join(f", {name} error {rate:.2%}" for name, rate in row.legibility.items())
    assert row.case.combination.config is not None
    page = next(Renderer(row.case.combination.config).render(row.case.document))
    return f"{label}: ratio {row.ratio(family):.2f}{errors} ({changes})", page


def _cycled(count: int) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(count)]
