"""The report of an evaluation: what is in its tables, and that names which look like markup stay names."""

from __future__ import annotations

from typing import Any

from glyph_pipeline.experiments.evaluation.reports import benchmark_report, needle_report
from glyph_pipeline.experiments.evaluation.tables import by_task, mean_of_tasks


def row(**change: Any) -> dict[str, Any]:
    return {
        "status": "ok",
        "task": "word",
        "sample": "200 50% 1",
        "way": "en",
        "length": 200,
        "depth": 50.0,
        "value": "walnut",
        "answer": "walnut",
        "error": None,
        "score": 1.0,
        "right": True,
        "near": False,
        "similarity": 1.0,
        "ratio": 3.0,
        "seconds": 2.0,
        "text_tokens": 300,
        "vision_tokens": 100,
        "reader": "a",
        "finish_reason": "stop",
        **change,
    }


def wrong(**change: Any) -> dict[str, Any]:
    return row(score=0.0, right=False, answer="WRONG ANSWER", **change)


def failed(**change: Any) -> dict[str, Any]:
    whole = row(status="failed", answer=None, error="TOO LONG", seconds=99.0, **change)
    return {name: value for name, value in whole.items() if name not in ("score", "right", "near", "similarity", "ratio", "reader")}


def test_names_that_look_like_markup() -> None:
    way = "newline-markup <br/>, dpi 72"
    for html in (
        needle_report([row(way=way)]).html(),
        benchmark_report("ruler", [row(way=way, task="<b>x</b>", sample="<b>x</b>")]).html(),
    ):
        figures = (
            html[html.index("<body") :].replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&").replace("\\u002f", "/")
        )
        assert "newline-markup &lt;br/&gt;, dpi 72" in figures
        assert "newline-markup <br" not in figures
        assert "<b>x</b>" not in figures


def test_a_table_of_wrong_answers_has_an_end() -> None:
    html = needle_report([row(), *[wrong() for _ in range(1200)]]).html()
    assert html.count("WRONG ANSWER") == 1000
    assert "The first 1,000 of 1,200." in html
    assert "Every answer was right." in needle_report([row()]).html()
    few = needle_report([wrong(), failed()]).html()
    assert "The first 1,000 of" not in few
    assert "TOO LONG" in few


def test_what_failed_is_in_no_mean() -> None:
    rows = [row(task="a", score=0.5), row(task="a", score=1.0, status="truncated"), failed(task="a"), row(task="b", score=0.0)]
    rows += [row(task="4096/niah_single_3", score=1.0), failed(task="c")]
    table = by_task(rows)
    assert [(line["task"], line["n"], line["score"], line["failed"], line["cut off"], line["seconds"]) for line in table] == [
        ("a", 2, 75.0, 1, 1, 2.0),
        ("b", 1, 0.0, 0, 0, 2.0),
        ("4096/niah_single_3", 1, 100.0, 0, 0, 2.0),
        ("c", 0, None, 1, 0, None),
    ]
    assert mean_of_tasks(table) == {"en": 58.33}
    assert mean_of_tasks(table, ["niah_single_3"]) == {"en": 37.5}
    assert mean_of_tasks(by_task([failed()])) == {"en": None}
    html = benchmark_report("ruler", rows, ["niah_single_3"]).html()
    assert "58.33 (en). Without niah_single_3: 37.5 (en)." in html
    assert "nothing. Mean of the tasks, from 0 to 100: none." in benchmark_report("ruler", [failed()]).html()
