"""Questions with --cache: the second time nothing is drawn and the server is sent the same bytes, in this process and in workers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NoReturn

import pytest

from glyph_pipeline import Document, GlyphPipeline
from glyph_pipeline.answer import Answer
from tests.support.command import glyph_compress
from tests.support.fake_openai import Fake, running, says

REPLY = says([{"content": "<answer>At dusk."}])
# Each line is of its own, so that one page matches the question best; and a text of several fonts.
LOG = "\n".join(f"Entry {number}: the {random.Random(number).choice(['pilot', 'mate'])} paid {number * 37} marks." for number in range(400))
MIXED = "Harbour שלום 港湾 日誌 \U0001f30a caf\u00e9.\n" * 40
DOCUMENTS = [Document(LOG, "log.txt"), Document(MIXED, "mixed.txt")]
QUESTION = "What was paid in entry 77?"


def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(*_: object, **__: object) -> NoReturn:
        raise AssertionError("something was drawn")

    monkeypatch.setattr("glyph_pipeline.rendering.renderer.Renderer.__init__", draws)
    monkeypatch.setattr("glyph_pipeline.rendering.raster.Rasteriser.draw", draws)


def without_times(answer: Answer) -> dict[str, Any]:
    return {name: value for name, value in answer.to_dict().items() if name not in ("seconds", "drawn_before")}


@pytest.mark.parametrize("resolution", ["uniform", "auto"])
def test_a_second_question_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resolution: Any) -> None:
    asked: dict[str, Any] = {"mode": "pages", "resolution": resolution}
    with running(Fake(REPLY)) as fake:
        with GlyphPipeline(fake.base_url, **asked) as pipeline:
            plain = pipeline.ask(DOCUMENTS, QUESTION)
        with GlyphPipeline(fake.base_url, cache=tmp_path / "store", **asked) as pipeline:
            first = pipeline.ask(DOCUMENTS, QUESTION)
        kept = {path.name: path.stat().st_ino for path in (tmp_path / "store").glob("*.zip")}
        # The sharper pages are an entry of their own.
        assert len(kept) == (3 if resolution == "auto" else 2)
        no_drawing(monkeypatch)
        with GlyphPipeline(fake.base_url, cache=tmp_path / "store", **asked) as pipeline:
            second = pipeline.ask(DOCUMENTS, QUESTION)
        bodies = [json.dumps(request["messages"]) for request in fake.requests]
    assert bodies[0] == bodies[1] == bodies[2]
    assert [answer.drawn_before for answer in (plain, first, second)] == [None, 0, 2]
    assert without_times(plain) == without_times(first) == without_times(second)
    assert {path.name: path.stat().st_ino for path in (tmp_path / "store").glob("*.zip")} == kept


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_second_batch_draws_nothing(tmp_path: Path, workers: str) -> None:
    for document in DOCUMENTS:
        (tmp_path / document.id).write_text(document.text, "utf-8")
    items = [{"id": document.id, "documents": [{"path": document.id}], "question": QUESTION} for document in DOCUMENTS]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    store, bodies, drawn = tmp_path / "store", [], []
    with running(Fake(REPLY)) as fake:
        for output in ("first.jsonl", "second.jsonl"):
            asked = (
                "batch",
                "items.jsonl",
                "-o",
                output,
                "--cache",
                "store",
                "--workers",
                workers,
                "--mode",
                "pages",
                "--concurrency",
                "2",
            )
            done = glyph_compress(*asked, "--base-url", fake.base_url, state=tmp_path / "state", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            bodies.append(sorted(json.dumps(request["messages"]) for request in fake.requests))
            fake.requests.clear()
            # Drawn again, an entry would be another file.
            drawn.append({path.name: path.stat().st_ino for path in store.glob("*.zip")})
    assert bodies[0] == bodies[1]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 2


def test_a_store_without_a_name_is_not_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Log.\n")
    done = glyph_compress("render", "a.txt", "--cache", "", state=tmp_path / "state", cwd=tmp_path)
    assert (done.returncode, "no name" in done.stderr) == (3, True)
    assert [path.name for path in tmp_path.iterdir() if path.name != "state"] == ["a.txt"]
