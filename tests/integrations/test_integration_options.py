"""What all integrations share: their options, the names of what was retrieved, the text of a stream, a framework that is missing."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import Answer, Document, GlyphPipeline, RenderConfig
from glyph_pipeline.answer import PipelineEvent, WindowAnswer, WindowStarted
from glyph_pipeline.errors import ConfigError, MissingExtraError, UsageError
from glyph_pipeline.integrations.options import config_of, drawn, pipeline_of
from glyph_pipeline.integrations.retrieved import Retrieved
from glyph_pipeline.integrations.streaming import AnswerText, events_of
from glyph_pipeline.reading.reader import AnswerDelta, Retrying, Usage
from glyph_pipeline.report import CompressionReport
from tests.integrations.conftest import PATIENCE_S
from tests.support.fake_openai import Held

REPORT = CompressionReport(10, "none", 5, "none", 1, 1, 40, 100)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_ulr": "http://127.0.0.1:1/v1"}, "unknown option 'base_ulr'; allowed are base_url, model"),
        ({"concurrency": 0}, "concurrency = 0"),
        ({"concurrency": "many"}, "concurrency = 'many'"),
        ({"base_url": []}, "base_url = []"),
        ({"read_timeout": -1, "overlap": -1}, "overlap = -1"),
        ({"reader": "tesseract"}, "allowed are 'ocr'"),
        ({"config": "tiny"}, "no configuration file 'tiny'"),
        ({"config": {"dots": 3}}, "unknown key 'dots'"),
        ({"config": 96}, "allowed are a preset"),
        ({"max_tokens": 0}, "max_tokens = 0"),
    ],
)
def test_bad_options_are_told_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        pipeline_of(None, options)


def test_a_key_stands_in_no_message() -> None:
    with pytest.raises(ConfigError) as raised:
        pipeline_of(None, {"api_key": ["hush-hush"]})
    assert "api_key" in str(raised.value)
    assert "hush" not in str(raised.value)


def test_a_pipeline_and_options_contradict_each_other() -> None:
    pipeline = GlyphPipeline()
    assert pipeline_of(pipeline, {}) is pipeline
    with pytest.raises(UsageError, match="pipeline and model were both given"):
        pipeline_of(pipeline, {"model": "zai-org/Glyph"})
    with pytest.raises(ConfigError, match="no GlyphPipeline"):
        pipeline_of("http://127.0.0.1:8000/v1", {})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="base_url and reader were both given"):
        pipeline_of(None, {"base_url": "http://127.0.0.1:8000/v1", "reader": "ocr"})


def test_a_configuration_is_a_preset_a_file_a_mapping_or_itself(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"dpi": 96}')
    own = RenderConfig.preset("tight")
    assert [config_of(each) for each in (None, "aligned", own)] == [None, RenderConfig.preset("aligned"), own]
    assert config_of(file) == config_of(str(file)) == RenderConfig.load(file)
    # Changes are made to the preset that the texts get.
    wide = drawn([Document("天地玄黄宇宙洪荒" * 50)], {"dpi": 96})
    assert wide.pages[0].png == drawn([Document("天地玄黄宇宙洪荒" * 50)], RenderConfig.preset("zh").replace(dpi=96)).pages[0].png


@pytest.mark.parametrize(
    ("id", "metadata", "name"),
    [
        ("x", {"source": "/home/someone/ferry.txt"}, "ferry.txt"),
        ("x", {"file_name": "a.md", "source": "b.md"}, "a.md"),
        ("x", {"file_path": Path("/data/log.txt")}, "log.txt"),
        ("x", {"url": "https://example.org/a/b"}, "https://example.org/a/b"),
        ("x", {"source": "  "}, "x"),
        ("x", {"source": None, "path": 7}, "x"),
        ("0b7c5ae8-4a0d-4f4e-9d2f-000000000000", {}, "document 1"),
        ("ab" * 32, {}, "document 1"),
        ("", {}, "document 1"),
    ],
)
def test_what_was_retrieved_is_named_as_people_would(id: str, metadata: dict[str, Any], name: str) -> None:
    found = Retrieved.of([("One.", id, metadata), ("Two.", "other", {})], lambda each: Document(*each))
    assert [document.id for document in found.documents] == [name, "other"]


def test_metadata_of_a_framework_reaches_the_page_title_only_as_title() -> None:
    found = Retrieved.of(["One."], lambda text: Document(text, "x", {"title": "The ferry", "secret": object()}))
    assert (found.originals, found.documents[0].metadata["title"]) == (("One.",), "The ferry")


def answer(text: str) -> Answer:
    window = WindowAnswer(1, 1, None, text, "", "stop", Usage())
    return Answer(text, "", "stop", Usage(), (window,), REPORT, "a reader")


def text_of(*events: PipelineEvent) -> list[str]:
    text = AnswerText()
    return [piece for piece in map(text.feed, events) if piece]


def started(window: int, windows: int) -> WindowStarted:
    return WindowStarted(window, windows, 1, 1, None)


def test_a_stream_ends_with_what_its_pieces_left_out() -> None:
    assert text_of(started(1, 1), AnswerDelta("On ", 1), AnswerDelta("Thursdays", 1), answer("On Thursdays.")) == ["On ", "Thursdays", "."]
    assert text_of(started(1, 1), answer("On Thursdays")) == ["On Thursdays"]
    assert text_of(started(1, 1), AnswerDelta("On Thursdays \n", 1), answer("On Thursdays")) == ["On Thursdays \n"]
    assert text_of(started(1, 1), answer("")) == []


def test_partial_answers_of_windows_are_no_part_of_the_text() -> None:
    events = [started(1, 2), started(2, 2), AnswerDelta("In 1932", 1), AnswerDelta("NOTHING FOUND", 2)]
    assert text_of(*events, AnswerDelta("It was ", None), AnswerDelta("in 1932", None), answer("It was in 1932")) == ["It was ", "in 1932"]
    assert text_of(*events, answer("In 1932")) == ["In 1932"]  # one window had something to say: nothing was merged


def test_text_that_turns_out_otherwise_when_asked_again_follows_after_a_blank_line() -> None:
    first = [started(1, 1), AnswerDelta("On Fri", 1), Retrying("busy", 0.0, 1)]
    assert text_of(*first, AnswerDelta("On Thurs", 1), AnswerDelta("days", 1), answer("On Thursdays")) == ["On Fri", "\n\nOn Thursdays"]
    assert text_of(*first, AnswerDelta("On Frid", 1), AnswerDelta("ays", 1), answer("On Fridays")) == ["On Fri", "d", "ays"]


def test_a_stream_that_is_left_inside_a_loop_ends_with_the_next_event(fake_pipeline: Any) -> None:
    held = Held([{"reasoning": "Hm."}, {"content": "On "}])
    pipeline, _ = fake_pipeline(held)
    before = set(threading.enumerate())

    async def leave() -> None:
        stream = events_of(pipeline, [Document("The ferry ran on Thursdays.")], "When?")
        assert any(isinstance(event, AnswerDelta) for event in stream)
        stream.close()

    asyncio.run(leave())
    driving = [thread for thread in threading.enumerate() if thread.name == "glyph-pipeline" and thread not in before]
    assert driving
    held.release()
    for thread in driving:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in driving)


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index", "llama-index"),
        ("haystack", "haystack", "haystack"),
    ],
)
def test_a_framework_that_is_missing_is_named_with_its_extra(module: str, package: str, extra: str, tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError('there is none')\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import glyph_pipeline.integrations.{module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert MissingExtraError.__name__ in last
    assert f"pip install 'glyph-pipeline[{extra}]'" in last


def test_importing_the_package_imports_no_framework() -> None:
    program = "import sys, glyph_pipeline.integrations.options; print([m for m in ('langchain_core', 'llama_index', 'haystack') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
