"""Tables: what the rows of an evaluation come to, by way of drawing and task, by depth and length. Plain sums; draws no figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]


def groups(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """The rows by the values of some keys, in the order they come up."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def mean(rows: Iterable[Row], key: str) -> float | None:
    """The mean of a key over the rows that were answered, None if none was."""
    values = [float(row[key]) for row in rows if row["status"] != "failed"]
    return fmean(values) if values else None


def ratio(rows: Iterable[Row]) -> float | None:
    """The text tokens of all answered rows for each of their vision tokens, None if none was answered."""
    answered = [row for row in rows if row["status"] != "failed"]
    vision = sum(row["vision_tokens"] for row in answered)
    return sum(row["text_tokens"] for row in answered) / vision if vision else None


def by_task(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row for each way of drawing and task: n, mean score (0 to 100), failed, cut off, mean of the ratios, mean seconds.

    What failed has no score and is in no mean; what was cut off counts as it is.
    """
    table = []
    for (way, task), group in groups(rows, "way", "task").items():
        score, ratios, seconds = mean(group, "score"), mean(group, "ratio"), mean(group, "seconds")
        table.append(
            {
                "drawing": way,
                "task": task,
                "n": sum(row["status"] != "failed" for row in group),
                "score": _rounded(score, 2, 100),
                "failed": sum(row["status"] == "failed" for row in group),
                "cut off": sum(row["status"] == "truncated" for row in group),
                "ratio": _rounded(ratios, 2),
                "seconds": _rounded(seconds, 1),
            }
        )
    return table


def mean_of_tasks(table: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()) -> dict[str, float | None]:
    """For each way of drawing the mean of its tasks' scores (0 to 100), each counted alike."""
    found: dict[str, list[float]] = {}
    for row in table:
        scores = found.setdefault(row["drawing"], [])
        if row["score"] is not None and row["task"].rsplit("/", 1)[-1] not in left_out:
            scores.append(row["score"])
    return {way: round(fmean(scores), 2) if scores else None for way, scores in found.items()}


def by_kind(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Needles: a row for each way of drawing and kind: n, right, near, mean similarity, failed, ratio, mean seconds."""
    table = []
    for (way, kind), group in groups(rows, "way", "task").items():
        table.append(
            {
                "drawing": way,
                "kind": kind,
                "n": sum(row["status"] != "failed" for row in group),
                "right": sum(bool(row.get("right")) for row in group),
                "near": sum(bool(row.get("near")) for row in group),
                "similarity": _rounded(mean(group, "similarity"), 3),
                "failed": sum(row["status"] == "failed" for row in group),
                "ratio": _rounded(ratio(group), 2),
                "seconds": _rounded(mean(group, "seconds"), 1),
            }
        )
    return table


def by_place(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Needles: a row for each way of drawing and depth; under each length the right answers of those there are, such as ``2/3``."""
    lengths = sorted({row["length"] for row in rows})
    table = []
    for (way, depth), group in groups(rows, "way", "depth").items():
        cells = {}
        for length in lengths:
            there = [row for row in group if row["length"] == length and row["status"] != "failed"]
            cells[f"{length:,}"] = f"{sum(bool(row['right']) for row in there)}/{len(there)}"
        table.append({"drawing": way, "depth": f"{depth:g} %", **cells})
    return table


def _rounded(value: float | None, digits: int, factor: float = 1.0) -> float | None:
    return None if value is None else round(value * factor, digits)
