"""The report of a search: every trial, the front, pages at true size. Draws only the pages it shows."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from glyph_pipeline.document import Document
from glyph_pipeline.experiments.outcome import Member, Outcome, percent, shown, words
from glyph_pipeline.experiments.report import Report
from glyph_pipeline.experiments.space import Space
from glyph_pipeline.page import Page
from glyph_pipeline.rendering.renderer import Renderer

_TRIAL, _FRONT, _DEFAULT = "#9aa7b5", "#1f5fa8", "#c05a1c"
_PAGES = 4
_ABREAST = 3  # small charts side by side
_PROVES = (
    "OCR is not the model: what it misreads, the model may read, and the other way round; Glyph was trained on such pages and OCR was not.",
    "One document is not a corpus. An interval takes characters for independent; those of one line err together, so it is rather too narrow.",
    "The front was chosen by the search's small sample and measured again on a larger one; its pages may be partly the same, its random "
    "strings are others.",
)
_ASKED = (
    "A right answer holds the expected words; a reader may be right in others. The questions that chose the front are those that judge it.",
)


def search_report(
    trials: Sequence[Mapping[str, Any]],
    found: Outcome,
    space: Space,
    family: str,
    documents: Sequence[Document],
    rows: Sequence[Mapping[str, object]],
) -> Report:
    """The report of a search's trials and its outcome; ``rows`` is the table of the front."""
    names = ", ".join(document.id or "a text" for document in documents)
    drawn = [record for record in trials if record["status"] == "ok"]
    lead = f"{len(trials):,} configurations of the space {space.name} ({space.size:,}), drawn with {names}. {found.answer()}"
    report = Report("Ratio up, error down", lead)
    report.figure("Ratio against error", _scatter(drawn, found), _caption(found, family))
    if len(drawn) > 1:
        report.figure(
            "What the trials were",
            _by_key(drawn, space),
            "Each point is a trial, yellow where much is saved. The lowest points of a key tell what its values allow.",
        )
    report.table("The front", rows, "Highest ratio first. The interval is 95 %: Wilson's for each rate, put together for their mean.")
    looked_at = _looked_at(found)
    report.pages(
        "Pages",
        [(label, _page(member, documents[0])) for label, member in looked_at],
        "The first page of the first document. A pixel of the page is a pixel here, at a browser zoom of 100 %.",
    )
    report.text("What this proves and what not", *(_PROVES if found.unit == "characters" else _ASKED))
    return report


def _caption(found: Outcome, family: str) -> str:
    again = "measured again on the larger sample" if found.default.confirmed else "as the search measured it"
    return (
        f"Grey: every trial as the search measured it. Blue: the front, {again}, with 95 % intervals. Star: the default. "
        f"Vision tokens as {family} counts them. No error at all stands at the foot of the scale."
    )


def _scatter(drawn: Sequence[Mapping[str, Any]], found: Outcome) -> Any:
    graph: Any = importlib.import_module("plotly.graph_objects")
    members = [found.default, *found.front]
    rates = [record["error"] for record in drawn] + [member.measured.error.rate for member in members]
    floor = _floor(rates)
    figure = graph.Figure()
    figure.add_scatter(
        name="trials",
        mode="markers",
        x=[record["ratio"] for record in drawn],
        y=[max(record["error"], floor) for record in drawn],
        text=[_hover(record["ratio"], record["error"], record["changes"]) for record in drawn],
        hovertemplate="%{text}<extra></extra>",
        marker={"color": _TRIAL, "size": 7},
    )
    for name, some, colour, symbol in (("front", list(found.front), _FRONT, "circle"), ("default", [found.default], _DEFAULT, "star")):
        estimates = [member.measured.error for member in some]
        figure.add_scatter(
            name=name,
            mode="markers",
            x=[member.measured.ratio for member in some],
            y=[max(each.rate, floor) for each in estimates],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [each.high - each.rate for each in estimates],
                "arrayminus": [max(0.0, max(each.rate, floor) - max(each.low, floor)) for each in estimates],
                "thickness": 1,
            },
            text=[_hover(member.measured.ratio, member.measured.error.rate, member.trial["changes"]) for member in some],
            hovertemplate="%{text}<extra></extra>",
            marker={"color": colour, "size": 16 if symbol == "star" else 9, "symbol": symbol},
        )
    figure.update_xaxes(title_text="text tokens for each vision token")
    figure.update_yaxes(type="log", tickformat=".2~%", title_text="read wrong")
    figure.update_layout(height=560, template="plotly_white", legend={"orientation": "h", "y": -0.2}, margin={"t": 40})
    return figure


def _by_key(drawn: Sequence[Mapping[str, Any]], space: Space) -> Any:
    """A small chart for each key of the space: its values against the error, coloured by ratio."""
    subplots: Any = importlib.import_module("plotly.subplots")
    own = space.own()
    keys = [key for key, values in space.axes.items() if len(values) > 1]
    rows = -(-len(keys) // _ABREAST)
    figure = subplots.make_subplots(rows, _ABREAST, subplot_titles=keys, shared_yaxes=True)
    ratios = [record["ratio"] for record in drawn]
    floor = _floor([record["error"] for record in drawn])
    for number, key in enumerate(keys):
        place = {"row": number // _ABREAST + 1, "col": number % _ABREAST + 1}
        values = [record["changes"].get(key, own[key]) for record in drawn]
        figure.add_scatter(
            mode="markers",
            x=values if space.ordered(key) else [shown(value).replace("<", "&lt;") for value in values],
            y=[max(record["error"], floor) for record in drawn],
            text=[_hover(record["ratio"], record["error"], record["changes"]) for record in drawn],
            hovertemplate="%{text}<extra></extra>",
            marker={"color": ratios, "coloraxis": "coloraxis", "size": 6, "opacity": 0.8},
            showlegend=False,
            **place,
        )
        if not space.ordered(key):
            figure.update_xaxes(type="category", **place)
    figure.update_yaxes(type="log", tickformat=".2~%", nticks=6)
    figure.update_layout(
        height=60 + 230 * rows,
        template="plotly_white",
        margin={"t": 40, "b": 30},
        coloraxis={"colorscale": "Viridis", "colorbar": {"title": {"text": "ratio"}}},
    )
    return figure


def _floor(errors: Sequence[float]) -> float:
    """Where an error of none is drawn, a logarithm having no place for it: half of the least that there is."""
    return min((error for error in errors if error), default=0.001) / 2


def _looked_at(found: Outcome) -> list[tuple[str, Member]]:
    """The default, and members of the front from end to end; the best that beats the default among them."""
    places = {round(step * (len(found.front) - 1) / (_PAGES - 1)) for step in range(_PAGES)} if found.front else set()
    chosen = [found.default, *found.better[:1], *(found.front[place] for place in sorted(places))]
    unique = {member.id: member for member in chosen}
    return [
        (
            f"{'The default' if member is found.default else words(member.trial['changes'])}: ratio {member.measured.ratio:.2f}, "
            f"error {percent(member.measured.error.rate)}",
            member,
        )
        for member in unique.values()
    ]


def _page(member: Member, document: Document) -> Page:
    return next(Renderer(member.config).render(document))


def _hover(ratio: float, error: float, changes: Mapping[str, Any]) -> str:
    lines = "<br>".join(f"{key} {shown(value)}".replace("<", "&lt;") for key, value in changes.items())
    return f"ratio {ratio:.2f}, error {percent(error)}<br>{lines or 'the default'}"
