"""The benchmark's HTML report: bars, shares and throughput of its rows. Measures nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glyph_pipeline.experiments.bench import vllm_bench
from glyph_pipeline.experiments.bench.summary import STAGES, stage_table, table
from glyph_pipeline.experiments.report import Report, require

_COLOURS = {"text": "#8c8c8c", "pages": "#1f77b4"}
_LENGTHS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")
_MARGIN = {"t": 20, "b": 60}
_HOW = (
    "Every document is sent once as text and once as page images, to the same model with the same question; both generate the same number "
    "of tokens. Blocks of requests as text and as pages take turns. No two requests hold the same text or the same page.",
    "TTFT is from the moment a request is sent to its first token. Start, which the speed-up with drawing compares, is from the text in "
    "memory to the first token: it adds drawing, PNG encoding and writing the message. Upload ends when the last byte was handed to the "
    "network. Prefill is the rest until the first token: the server's reading of the request, the vision encoder and the model.",
    "Ratio: text tokens (cl100k_base) for each vision token. The prompts are as the server counted them.",
)


def write_report(
    path: Path, lead: str, rows: Sequence[Mapping[str, Any]], served: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()
) -> None:
    """Write the report. ``rows`` are of summary.row, ``served`` results of ``vllm bench serve``. Raises MissingExtraError, OutputError."""
    require()
    graphs: Any = importlib.import_module("plotly.graph_objects")
    report = Report("Serving: text against pages", lead)
    report.table(
        "Text against pages", table(rows), "Seconds and medians, unless the column says otherwise; a row for each length and concurrency."
    )
    measured = [row for row in rows if row["text"] is not None or row["pages"] is not None]
    if measured:
        report.figure(*_first_tokens(graphs, measured))
    if any(row["pages"] is not None for row in measured):
        report.figure(*_shares(graphs, measured))
    if len({row["concurrency"] for row in measured}) > 1:
        report.figure(*_throughput(graphs, measured))
    report.table("Where the time of pages goes", stage_table(rows), "Milliseconds, medians.")
    if served:
        report.table(
            "vllm bench serve",
            [vllm_bench.row(result) for result in served],
            "vLLM's own benchmark against the same server: text of random tokens, as many (of the served tokenizer) as the first column says. "
            "Seconds, medians.",
        )
    report.text("How it was measured", *_HOW, *notes)
    report.write(path)


def _first_tokens(graphs: Any, rows: Sequence[Mapping[str, Any]]) -> tuple[str, Any, str]:
    least = min(row["concurrency"] for row in rows)
    chosen = [row for row in rows if row["concurrency"] == least]
    names = [f"{row['length']:,}" for row in chosen]
    figure = graphs.Figure()
    for side, name, stages in (("text", "text", "ttft"), ("pages", "pages", "ttft"), ("pages", "pages, with drawing", "start")):
        values = [None if row[side] is None else row[side][stages] for row in chosen]
        ends = [None if row[side] is None else row[side][f"{stages}_p95"] - row[side][stages] for row in chosen]
        colour = _COLOURS[side] if stages == "ttft" else "#9ecae1"
        figure.add_bar(x=names, y=values, name=name, marker_color=colour, error_y={"type": "data", "array": ends, "symmetric": False})
    figure.update_layout(
        barmode="group", xaxis_title="text tokens (cl100k_base)", yaxis_title="seconds", xaxis_type="category", margin=_MARGIN
    )
    return (
        "Time to the first token",
        figure,
        f"Medians, {least} request{'s' if least > 1 else ''} at a time; the thin lines end at the 95th percentile.",
    )


def _shares(graphs: Any, rows: Sequence[Mapping[str, Any]]) -> tuple[str, Any, str]:
    least = min(row["concurrency"] for row in rows if row["pages"] is not None)
    chosen = [row for row in rows if row["concurrency"] == least and row["pages"] is not None]
    figure = graphs.Figure()
    for stage in STAGES:
        values = [100 * row["pages"]["shares"][stage] for row in chosen]
        figure.add_bar(x=[f"{row['length']:,}" for row in chosen], y=values, name=stage)
    figure.update_layout(
        barmode="stack", xaxis_title="text tokens (cl100k_base)", yaxis_title="% of the time", xaxis_type="category", margin=_MARGIN
    )
    return "Where the time of pages goes", figure, f"Shares of the time from the text in memory to the last token, {least} at a time."


def _throughput(graphs: Any, rows: Sequence[Mapping[str, Any]]) -> tuple[str, Any, str]:
    figure = graphs.Figure()
    for place, length in enumerate(dict.fromkeys(row["length"] for row in rows)):
        for side in ("text", "pages"):
            chosen = [row for row in rows if row["length"] == length and row[side] is not None]
            figure.add_scatter(
                x=[row["concurrency"] for row in chosen],
                y=[row[side]["requests_per_s"] for row in chosen],
                name=f"{side}, {length:,} tokens",
                mode="lines+markers",
                line={"color": _LENGTHS[place % len(_LENGTHS)], "dash": "dash" if side == "text" else "solid"},
            )
    figure.update_layout(
        xaxis_title="requests at a time", yaxis_title="requests a second", yaxis_type="log", xaxis_type="category", margin=_MARGIN
    )
    return (
        "Throughput",
        figure,
        "Requests a second while a block is under way; drawing is not in it, since other processes do it meanwhile in a batch.",
    )
