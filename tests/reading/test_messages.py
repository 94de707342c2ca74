"""Where the server finds the page images: inside the request, or as files that are gone when the read is over."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import Page
from glyph_pipeline.errors import OutputError
from glyph_pipeline.parts import ExactList, PageText
from glyph_pipeline.reading.messages import Outgoing, build_message, page_urls
from glyph_pipeline.reading.reader import ReadResult
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.vllm import VLLMReader
from tests.support.fake_openai import Fake, Handler, in_turn, refuses, running, says

PAGES = [Page(number, 28, 28, f"picture {number}".encode(), 0, 1, ("x",)) for number in (1, 2)]


def test_pages_inside_the_request() -> None:
    with page_urls(PAGES, None) as urls:
        assert [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls] == [page.png for page in PAGES]


def read(reader: VLLMReader) -> ReadResult:
    async def result() -> ReadResult:
        events = [event async for event in reader.read(PAGES, "What?")]
        await reader.aclose()
        assert isinstance(events[-1], ReadResult)
        return events[-1]

    return asyncio.run(result())


def test_pages_as_files_that_stay_for_a_retry_and_no_longer(tmp_path: Path) -> None:
    seen: list[list[bytes]] = []

    def answer(handler: Handler, body: dict[str, Any]) -> None:
        parts = body["messages"][0]["content"]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        seen.append([Path(url.removeprefix("file://")).read_bytes() for url in urls])
        says([{"content": "<answer>Yes"}])(handler, body)

    folder = tmp_path / "with a space"
    folder.mkdir()
    quick = RetryPolicy(first=0.001, longest=0.001)
    with running(Fake(in_turn(refuses(503, "busy"), _unquoted(answer)))) as fake:
        assert read(VLLMReader(fake.base_url, fake.model, page_folder=folder, retry=quick)).text == "Yes"
    assert seen == [[page.png for page in PAGES]]
    assert list(folder.iterdir()) == []


def _unquoted(reply: Any) -> Any:
    """A server takes the escapes out of a file URL."""

    def unquoting(handler: Handler, body: dict[str, Any]) -> None:
        for part in body["messages"][0]["content"]:
            if part["type"] == "image_url":
                part["image_url"]["url"] = part["image_url"]["url"].replace("%20", " ")
        reply(handler, body)

    return unquoting


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"can't be written for the server.*nowhere"), page_urls(PAGES, tmp_path / "nowhere"):
        pass


def test_pages_and_a_question_as_glyph_was_trained() -> None:
    url = "data:image/png;base64,"
    expected = {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": url + "cGljdHVyZSAx"}},
            {"type": "image_url", "image_url": {"url": url + "cGljdHVyZSAy"}},
            {"type": "text", "text": "What?"},
        ],
    }
    with Outgoing(PAGES, "What?", None) as outgoing, page_urls(PAGES, None) as urls:
        # As text, too: the order of the keys is part of a request's bytes.
        assert json.dumps(outgoing.message(None)) == json.dumps(build_message(urls, "What?")) == json.dumps(expected)


def test_texts_stand_where_their_pages_would_and_the_question_last() -> None:
    texts = [PageText(2, None, 1, 5, "In ", 1), PageText(3, None, 5, 9, "words.", 1)]
    parts = [PAGES[0], *texts, PAGES[1], ExactList((), "Exactly: 7f3a", 4)]
    with Outgoing(parts, "What?", None) as outgoing:
        content = list(outgoing.message(None)["content"])
    assert [part.get("text", "page") for part in content if isinstance(part, dict)] == [
        "page",
        "In words.",
        "page",
        "Exactly: 7f3a\n\nWhat?",
    ]


def test_images_are_named_or_only_referred_to() -> None:
    first, second = (hashlib.sha256(page.png).hexdigest() for page in PAGES)
    with Outgoing(PAGES, "What?", None) as outgoing:
        assert outgoing.names == (first, second)
        content = list(outgoing.message(frozenset({second}))["content"])
    assert content[0] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,cGljdHVyZSAx"}, "uuid": first}
    assert content[1] == {"type": "image_url", "image_url": None, "uuid": second}
