"""Reports: the figures of an evaluation as an HTML page. Knows no reader; draws no pages."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from glyph_pipeline.errors import MissingExtraError
from glyph_pipeline.experiments.evaluation.tables import Row, by_kind, by_task, groups, mean, mean_of_tasks, ratio
from glyph_pipeline.experiments.report import PURPOSE, Report, plain

_ROW_HEIGHT = 260
_ANSWER = 160  # characters of an answer that a table shows
_LISTED = 1000  # answers that were not right; a browser takes no table of 100,000

NEEDLE_LIMITS = (
    "What is proved: a fact that stands once in such a text can be read off such pages and told by this reader. What is not: that anything "
    "has been understood that is spread over the text, or that other texts do as well. A word can be guessed from half of its letters; a number or a "
    "UUID can't, so that these two show what is lost in print."
)
_QUOTES = "This reader quotes passages and does not reason: an answer is right if one of its quotes holds the fact."

_QUOTED = (
    "This reader quotes passages and does not reason. A metric that looks for an answer in it (RULER's) tells whether the right passage was found; one "
    "that compares the whole of it with what was expected (LongBench's, MRCR's) tells nothing of use."
)


def needle_report(rows: Sequence[Row]) -> Report:
    """Heat maps of depth and length, accuracy against ratio, and the answers that were not right. Raises MissingExtraError without plotly."""
    answered = [row for row in rows if row["status"] != "failed"]
    readers = ", ".join(dict.fromkeys(row["reader"] for row in answered)) or "nothing"
    ways = list(groups(rows, "way"))
    report = Report(
        "Needles in haystacks", f"{len(rows):,} questions, {len(ways):,} way{'s' if len(ways) > 1 else ''} of drawing, read by {readers}."
    )
    if answered:
        report.figure(
            "Depth and length",
            _heat_maps(answered),
            "The share of right answers, over all kinds, by the length of the text (tokens of cl100k_base) and the depth at which the fact stands in it.",
        )
        report.figure(
            "Accuracy against ratio",
            _accuracy(answered),
            "Each point is a way of drawing and a kind of fact; the ratio is of all its texts together, text tokens for each vision token.",
        )
    report.table("By kind", by_kind(rows), "near: wrong in at most one character of eight.")
    wrong = [row for row in rows if not row.get("right")]
    more = f"The first {_LISTED:,} of {len(wrong):,}." if len(wrong) > _LISTED else ""
    report.table("Not right", [_shown(row, "value") for row in wrong[:_LISTED]], more if wrong else "Every answer was right.")
    report.text("What this proves and what not", NEEDLE_LIMITS, *([_QUOTES] if _quotes(answered) else []))
    return report


def benchmark_report(name: str, rows: Sequence[Row], left_out: Sequence[str] = ()) -> Report:
    """Score by task, score against the length of the text, and a table. Raises MissingExtraError without plotly."""
    answered = [row for row in rows if row["status"] != "failed"]
    table = by_task(rows)
    readers = ", ".join(dict.fromkeys(row["reader"] for row in answered)) or "nothing"
    means = [f"{value:g} ({way})" for way, value in mean_of_tasks(table).items() if value is not None]
    lead = f"{len(rows):,} samples of {name}, read by {readers}. Mean of the tasks, from 0 to 100: {', '.join(means) or 'none'}."
    if left_out:
        without = [f"{value:g} ({way})" for way, value in mean_of_tasks(table, left_out).items() if value is not None]
        lead += f" Without {', '.join(left_out)}: {', '.join(without) or 'none'}."
    report = Report(name, lead)
    if answered:
        report.figure("By task", _bars(answered), "The mean score of each task, from 0 to 100.")
        report.figure(
            "By length",
            _lengths(answered),
            "Each point is a sample: the tokens of its text, as its reader's tokenizer counts them, and its score.",
        )
    report.table("By task", table, "What failed has no score; what was cut off counts as it is.")
    if _quotes(answered):
        report.text("Quotes", _QUOTED)
    failed = [_shown(row, "error") for row in rows if row["status"] == "failed"]
    if failed:
        report.table("Failed", failed)
    return report


def _quotes(answered: Sequence[Row]) -> bool:
    """Whether what read them quotes passages."""
    return any(row["finish_reason"] == "quote" for row in answered)


def _heat_maps(rows: Sequence[Row]) -> Any:
    subplots = _plotly("plotly.subplots")
    ways = groups(rows, "way")
    lengths, depths = sorted({row["length"] for row in rows}), sorted({row["depth"] for row in rows})
    titles = [f"{plain(way)}, ratio {ratio(group):.2f}" for (way,), group in ways.items()]
    figure = subplots.make_subplots(len(ways), 1, subplot_titles=titles, vertical_spacing=0.35 / len(ways))
    for number, group in enumerate(ways.values(), 1):
        cells = {key: mean(found, "score") for key, found in groups(group, "length", "depth").items()}
        figure.add_heatmap(
            x=[f"{length:,}" for length in lengths],
            y=[f"{depth:g} %" for depth in depths],
            z=[[cells.get((length, depth)) for length in lengths] for depth in depths],
            zmin=0,
            zmax=1,
            colorscale="RdYlGn",
            texttemplate="%{z:.0%}",
            hovertemplate="%{x} tokens, depth %{y}: %{z:.0%}<extra></extra>",
            showscale=False,
            row=number,
            col=1,
        )
        figure.update_xaxes(title_text="tokens", type="category", row=number, col=1)
        figure.update_yaxes(title_text="depth", type="category", autorange="reversed", row=number, col=1)
    figure.update_layout(height=100 + _ROW_HEIGHT * len(ways), template="plotly_white", margin={"t": 40})
    return figure


def _accuracy(rows: Sequence[Row]) -> Any:
    figure = _plotly("plotly.graph_objects").Figure()
    for (kind,), of_kind in groups(rows, "task").items():
        points = [(ratio(group), mean(group, "score"), plain(way)) for (way,), group in groups(of_kind, "way").items()]
        figure.add_scatter(
            mode="markers",
            name=kind,
            x=[point[0] for point in points],
            y=[point[1] for point in points],
            text=[point[2] for point in points],
            marker={"size": 12, "opacity": 0.75},
            hovertemplate="%{text}<br>ratio %{x:.2f}, %{y:.0%} right<extra>" + kind + "</extra>",
        )
    figure.update_xaxes(title_text="text tokens for each vision token")
    figure.update_yaxes(title_text="right answers", tickformat=".0%", range=[-0.05, 1.05])
    figure.update_layout(height=420, template="plotly_white", margin={"t": 40}, showlegend=True)
    return figure


def _bars(rows: Sequence[Row]) -> Any:
    figure = _plotly("plotly.graph_objects").Figure()
    for (way,), of_way in groups(rows, "way").items():
        scores = {plain(task): mean(group, "score") or 0.0 for (task,), group in groups(of_way, "task").items()}
        figure.add_bar(
            name=plain(way), x=list(scores), y=[100 * score for score in scores.values()], hovertemplate="%{x}: %{y:.1f}<extra></extra>"
        )
    figure.update_yaxes(title_text="score", range=[0, 100])
    figure.update_xaxes(type="category")
    figure.update_layout(height=420, template="plotly_white", margin={"t": 40})
    return figure


def _lengths(rows: Sequence[Row]) -> Any:
    figure = _plotly("plotly.graph_objects").Figure()
    for (task,), group in groups(rows, "task").items():
        figure.add_scatter(
            mode="markers",
            name=plain(task),
            x=[row["text_tokens"] for row in group],
            y=[100 * row["score"] for row in group],
            text=[plain(row["sample"]) for row in group],
            marker={"size": 7, "opacity": 0.6},
            hovertemplate="%{text}: %{x:,} tokens, score %{y:.1f}<extra>" + plain(task) + "</extra>",
        )
    figure.update_xaxes(title_text="text tokens")
    figure.update_yaxes(title_text="score", range=[-5, 105])
    figure.update_layout(height=420, template="plotly_white", margin={"t": 40}, showlegend=True)
    return figure


def _plotly(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(PURPOSE, "experiments", package="plotly") from error


def _shown(row: Row, key: str) -> dict[str, Any]:
    said = row["error"] if row["status"] == "failed" else row["answer"]
    cut = said if len(said) <= _ANSWER else f"{said[:_ANSWER]} ..."
    more = {key: row[key], "near": "yes" if row.get("near") else ""} if key == "value" else {}
    return {
        "drawing": row["way"],
        "task": row["task"],
        "sample": row["sample"],
        **more,
        "error" if row["status"] == "failed" else "answer": cut,
    }
