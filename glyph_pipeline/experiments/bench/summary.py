"""Summary: medians, percentiles, shares and ratios of what was measured, a row a cell. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

# The stages of a request, in their order; together they are all of its time.
STAGES = ("draw", "encode", "message", "upload", "prefill", "decode")
BEFORE_SENDING = ("draw", "encode", "message")
TO_FIRST_TOKEN = ("upload", "prefill")
# Seconds a token of one request: no model of today makes them faster.
_LEAST_TOKEN_S = 1e-4


def percentile(values: Sequence[float], q: float) -> float:
    """The ``q``-th percentile (0 to 100), interpolated linearly between the two nearest values (numpy's default). ``values``: at least one."""
    return float(np.percentile(np.asarray(values, np.float64), q))


def seconds_of(request: Mapping[str, Any], stages: Sequence[str]) -> float:
    """Seconds of some stages of a request together."""
    return float(sum(request["seconds"].get(stage, 0.0) for stage in stages))


def shares(requests: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The share of each stage in all the time of some requests; together they are 1."""
    sums = {stage: sum(seconds_of(request, (stage,)) for request in requests) for stage in STAGES}
    whole = sum(sums.values())
    return {stage: value / whole if whole else 0.0 for stage, value in sums.items()}


def bunched(record: Mapping[str, Any]) -> tuple[int, int]:
    """Of how many requests all tokens came at once, faster than any model makes them; of how many in all.

    Something between the model and us held them back, so that the first one came sooner than was seen: a server whose processes have
    too few cores, or a proxy that gathers.
    """
    requests = [request for side in ("text", "pages") for request in record[side].get("requests", ())]
    late = [each for each in requests if (each["output_tokens"] or 0) > 1 and _token_time(each) < _LEAST_TOKEN_S]
    return len(late), len(requests)


def _token_time(request: Mapping[str, Any]) -> float:
    return seconds_of(request, ("decode",)) / float(request["output_tokens"] - 1)


def side_summary(side: Mapping[str, Any]) -> dict[str, Any] | None:
    """The numbers of one side of a record, None if it did not fit. Seconds, except where the name says otherwise.

    ``ttft``: from sending to the first token; ``start``: the same with drawing, encoding and the message, one after the other;
    ``total``: until the last token.
    """
    requests = side.get("requests")
    if not requests:
        return None
    ttft = [seconds_of(request, TO_FIRST_TOKEN) for request in requests]
    start = [seconds_of(request, BEFORE_SENDING + TO_FIRST_TOKEN) for request in requests]
    total = [seconds_of(request, STAGES) for request in requests]
    wall = sum(side["blocks"])
    outputs = [request["output_tokens"] for request in requests]
    return {
        "requests": len(requests),
        "text_tokens": _middle(requests, "text_tokens"),
        "prompt_tokens": _middle(requests, "prompt_tokens"),
        "predicted": _middle(requests, "predicted"),
        "vision_tokens": _middle(requests, "vision_tokens"),
        "pages": _middle(requests, "pages"),
        "output_tokens": _middle(requests, "output_tokens"),
        "ttft": median(ttft),
        "ttft_p95": percentile(ttft, 95),
        "start": median(start),
        "start_p95": percentile(start, 95),
        "total": median(total),
        "total_p95": percentile(total, 95),
        "requests_per_s": len(requests) / wall,
        "output_tokens_per_s": None if None in outputs else sum(outputs) / wall,
        "stages": {stage: median(seconds_of(request, (stage,)) for request in requests) for stage in STAGES},
        "shares": shares(requests),
    }


def row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A cell: both sides, and how many times faster pages are than text, as ratios of medians.

    ``speed_up``: of the time to the first token; ``speed_up_start``: with drawing, encoding and the message; ``ratio``: text tokens
    (cl100k_base) for each vision token; ``served_ratio``: prompt tokens as text for each as pages, as the server counted them.
    """
    text, pages = side_summary(record["text"]), side_summary(record["pages"])
    found: dict[str, Any] = {"length": record["length"], "concurrency": record["concurrency"], "text": text, "pages": pages}
    found |= {f"{side}_unfit": record[side]["unfit"] for side in ("text", "pages") if "unfit" in record[side]}
    if pages is not None:
        found["ratio"] = pages["text_tokens"] / pages["vision_tokens"]
    if text is not None and pages is not None:
        found["speed_up"] = text["ttft"] / pages["ttft"]
        found["speed_up_start"] = text["start"] / pages["start"]
        found["speed_up_requests"] = pages["requests_per_s"] / text["requests_per_s"]
        if text["prompt_tokens"] and pages["prompt_tokens"]:
            found["served_ratio"] = text["prompt_tokens"] / pages["prompt_tokens"]
    found["cache_hits"] = record.get("cache_hits")
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for people: a line a cell, its numbers under short names, rounded. A side that did not fit has a note."""
    return [_line(row) for row in rows]


def stage_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where the time of pages goes, for each cell: milliseconds (medians) of each stage."""
    found = []
    for each in rows:
        if each["pages"] is not None:
            stages = {f"{stage} ms": _short(1000 * each["pages"]["stages"][stage]) for stage in STAGES}
            found.append({"tokens": each["length"], "at a time": each["concurrency"], "pages": each["pages"]["pages"], **stages})
    return found


def _line(found: Mapping[str, Any]) -> dict[str, Any]:
    text, pages = found["text"] or {}, found["pages"] or {}
    line = {
        "tokens": found["length"],
        "at a time": found["concurrency"],
        "text prompt": text.get("prompt_tokens"),
        "pages prompt": pages.get("prompt_tokens"),
        "pages": pages.get("pages"),
        "ratio": _round(found.get("ratio"), 2),
        "text TTFT": _short(text.get("ttft")),
        "text p95": _short(text.get("ttft_p95")),
        "pages TTFT": _short(pages.get("ttft")),
        "pages p95": _short(pages.get("ttft_p95")),
        "speed-up": _round(found.get("speed_up"), 2),
        "with drawing": _round(found.get("speed_up_start"), 2),
        "text req/s": _short(text.get("requests_per_s")),
        "pages req/s": _short(pages.get("requests_per_s")),
        "text tok/s": _short(text.get("output_tokens_per_s")),
        "pages tok/s": _short(pages.get("output_tokens_per_s")),
    }
    notes = [f"{side}: {found[f'{side}_unfit']}" for side in ("text", "pages") if f"{side}_unfit" in found]
    return line | ({"note": "; ".join(notes)} if notes else {})


def _middle(requests: Sequence[Mapping[str, Any]], name: str) -> int | None:
    """The median of a count, None where any request has none."""
    values = [request.get(name) for request in requests]
    known = [value for value in values if value is not None]
    return round(median(known)) if len(known) == len(values) else None


def _round(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def _short(value: float | None) -> float | None:
    """Three significant digits."""
    return None if value is None else float(f"{value:.3g}")
