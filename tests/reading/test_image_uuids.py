"""Images by name: what a server has been sent is referred to, and sent again when it is lost. The real server: tests/vllm/test_uuids_real.py."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import Page
from glyph_pipeline.errors import ContextLengthError, ReadError
from glyph_pipeline.parts import ExactList, PageText, Part
from glyph_pipeline.reading.reader import ReadEvent, ReadResult, Retrying
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.sentimages import SentImages
from glyph_pipeline.reading.vllm import VLLMReader
from tests.support.fake_openai import Fake, Handler, fails_late, refuses, running, says

PAGES = [Page(number, 28, 28, b"picture %d" % number * 50, 0, 1, ("x",)) for number in range(1, 4)]
NAMES = [hashlib.sha256(page.png).hexdigest() for page in PAGES]
ONCE = RetryPolicy(budget=0)  # a failure is an error at once
ANSWER = says([{"content": "42"}])


def images(body: dict[str, Any]) -> list[tuple[str | None, bool]]:
    """(uuid, sent in full) of each image."""
    parts = [part for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    return [(part.get("uuid"), part["image_url"] is not None) for part in parts]


FULL, REFERRED, PLAIN = [(name, True) for name in NAMES], [(name, False) for name in NAMES], [(None, True)] * 3


@dataclass
class Cache:
    """Answers as vLLM does (0.32): an image that is referred to and not there is a 400. ``lose`` empties it; ``size`` bounds it."""

    size: int = 1000
    kept: dict[str, None] = field(default_factory=dict)
    before: Callable[[dict[str, Any]], Callable[[Handler, dict[str, Any]], None] | None] = lambda body: None

    def __call__(self, handler: Handler, body: dict[str, Any]) -> None:
        other = self.before(body)
        if other is not None:
            other(handler, body)
            return
        for index, (name, full) in enumerate(images(body)):
            if not full and name not in self.kept:
                refuses(400, f"Cache miss for image at index {index} but data is not provided.")(handler, body)
                return
        for name, _ in images(body):
            if name is not None:
                self.kept.pop(name, None)
                self.kept[name] = None
        for name in list(self.kept)[: -self.size]:
            del self.kept[name]
        ANSWER(handler, body)


@pytest.fixture(autouse=True)
def version(monkeypatch: pytest.MonkeyPatch) -> list[str | int]:
    """What /version tells: a version, or a status to fail with. Asked how often: the length."""
    told: list[str | int] = ["0.32.0"]
    original = Handler.do_GET

    def get(handler: Handler) -> None:
        if handler.path != "/version":
            original(handler)
            return
        told.append(told[0])
        if isinstance(told[0], int):
            handler.send(told[0], {"detail": "no"})
        else:
            handler.send(200, {"version": told[0]} if told[0] else [])  # type: ignore[arg-type]

    monkeypatch.setattr(Handler, "do_GET", get)
    return told


def reader(fake: Fake, **options: Any) -> VLLMReader:
    return VLLMReader(fake.base_url, fake.model, image_uuids=True, retry=options.pop("retry", ONCE), **options)


def ask(reader: VLLMReader, *questions: str, parts: Sequence[Part] = PAGES) -> list[list[ReadEvent]]:
    async def each(question: str) -> list[ReadEvent]:
        return [event async for event in reader.read(parts, question)]

    async def all_of() -> list[list[ReadEvent]]:
        try:
            return [await each(question) for question in questions]
        finally:
            await reader.aclose()

    found = asyncio.run(all_of())
    assert all(isinstance(events[-1], ReadResult) and events[-1].text == "42" for events in found)
    return found


def test_the_second_question_refers_to_the_pages(version: list[str | int]) -> None:
    with running(Fake(Cache())) as fake:
        ask(reader(fake), "One?", "Two?", "Three?")
    assert [images(body) for body in fake.requests] == [FULL, REFERRED, REFERRED]
    assert [body["messages"][0]["content"][-1]["text"] for body in fake.requests] == ["One?", "Two?", "Three?"]
    assert len(json.dumps(fake.requests[1])) < len(json.dumps(fake.requests[0])) - sum(len(page.png) for page in PAGES)
    assert len(version) == 2  # asked once


def test_without_it_nothing_is_named_and_nothing_more_is_asked(version: list[str | int]) -> None:
    with running(Fake(Cache())) as fake:
        ask(VLLMReader(fake.base_url, fake.model), "One?", "Two?")
    assert [images(body) for body in fake.requests] == [PLAIN, PLAIN]
    assert len(version) == 1


def test_pages_that_are_new_go_in_full_beside_the_others() -> None:
    with running(Fake(Cache())) as fake:
        one = reader(fake)
        ask(one, "One?", parts=PAGES[1:2])
        ask(one, "Two?")
    assert images(fake.requests[1]) == [FULL[0], REFERRED[1], FULL[2]]


def test_a_lost_cache_is_mended_at_once_and_is_no_failure() -> None:
    cache = Cache()
    with running(Fake(cache)) as fake:
        one = reader(fake)
        ask(one, "One?")
        cache.kept.clear()  # restarted
        (events,) = ask(one, "Two?")
        ask(one, "Three?")
    assert not any(isinstance(event, Retrying) for event in events)
    assert [images(body) for body in fake.requests] == [FULL, REFERRED, FULL, REFERRED]


def test_what_was_sent_before_the_lost_image_is_forgotten_with_it() -> None:
    cache = Cache()
    with running(Fake(cache)) as fake:
        one = reader(fake)
        for page in PAGES:
            ask(one, "Which?", parts=[page])
        for name in NAMES[:2]:
            del cache.kept[name]  # as a cache does: the oldest first
        ask(one, "Second?", parts=PAGES[1:2])
        ask(one, "All?")
    assert [images(body) for body in fake.requests[3:]] == [REFERRED[1:2], FULL[1:2], [FULL[0], *REFERRED[1:]]]


def test_a_server_too_small_for_the_pages_still_answers() -> None:
    with running(Fake(Cache(size=2))) as fake:
        ask(reader(fake), "One?", "Two?", "Three?")
    assert [images(body) for body in fake.requests] == [FULL, REFERRED, FULL, REFERRED, FULL]


@pytest.mark.parametrize("told", ["0.10.2", "0.0-fake", "", "dev", 404, 500, 307])
def test_a_server_that_is_no_vllm_of_today_gets_plain_requests(version: list[str | int], told: str | int) -> None:
    version[0] = told
    with running(Fake(Cache())) as fake:
        ask(reader(fake), "One?", "Two?")
    assert [images(body) for body in fake.requests] == [PLAIN, PLAIN]
    assert len(version) == 2


@pytest.mark.parametrize("told", ["0.11.0", "0.11.1.dev3+g1234", "1.0.0"])
def test_every_later_version_is_trusted(version: list[str | int], told: str) -> None:
    version[0] = told
    with running(Fake(Cache())) as fake:
        ask(reader(fake), "One?", "Two?")
    assert [images(body) for body in fake.requests] == [FULL, REFERRED]


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_the_key_gets_plain_requests_from_then_on(status: int) -> None:
    def strict(body: dict[str, Any]) -> Callable[[Handler, dict[str, Any]], None] | None:
        return refuses(status, "Extra inputs are not permitted: uuid") if any(name for name, _ in images(body)) else None

    with running(Fake(Cache(before=strict))) as fake:
        ask(reader(fake), "One?", "Two?")
    assert [images(body) for body in fake.requests] == [FULL, PLAIN, PLAIN]


def test_a_server_without_a_cache_is_referred_to_once() -> None:
    # The words of vLLM 0.32 with --mm-processor-cache-gb 0, as the deployment guide of Glyph has it.
    def uncached(body: dict[str, Any]) -> Callable[[Handler, dict[str, Any]], None] | None:
        referred = not all(full for _, full in images(body))
        return refuses(400, "Failed to apply Glm4vProcessor on data={'images': [None]}") if referred else None

    with running(Fake(Cache(before=uncached))) as fake:
        ask(reader(fake), "One?", "Two?", "Three?")
    assert [images(body) for body in fake.requests] == [FULL, REFERRED, FULL, PLAIN]


@pytest.mark.parametrize(
    "fault",
    [
        refuses(500, "Internal Server Error"),  # "Expected a cached item" in vLLM's log
        fails_late([], "Internal server error", 500),
        says([{"role": "assistant", "content": ""}], finish="error"),  # the engine lost what the API server thought it had
    ],
)
def test_a_server_that_fails_on_a_reference_is_asked_in_full(fault: Callable[[Handler, dict[str, Any]], None]) -> None:
    failing = [True]

    def once(body: dict[str, Any]) -> Callable[[Handler, dict[str, Any]], None] | None:
        if failing and not all(full for _, full in images(body)):
            failing.clear()
            return fault
        return None

    with running(Fake(Cache(before=once))) as fake:
        ask(reader(fake), "One?", "Two?", "Three?")
    assert [images(body) for body in fake.requests] == [FULL, REFERRED, FULL, REFERRED]


def test_a_stream_that_breaks_after_it_began_is_tried_again_as_any_other() -> None:
    breaking = [True]

    def once(body: dict[str, Any]) -> Callable[[Handler, dict[str, Any]], None] | None:
        if breaking and not all(full for _, full in images(body)):
            breaking.clear()
            return fails_late([{"reasoning": "Hm."}], "Internal server error", 500)
        return None

    with running(Fake(Cache(before=once))) as fake:
        one = reader(fake, retry=RetryPolicy(first=0.001, longest=0.001))
        ask(one, "One?")
        (events,) = ask(one, "Two?")
    assert [type(event) for event in events].count(Retrying) == 1
    # Its deltas were out, so they had to be called void; the images were there.
    assert [images(body) for body in fake.requests] == [FULL, REFERRED, REFERRED]


def test_a_request_that_is_wrong_in_another_way_is_refused_with_its_own_words() -> None:
    with running(Fake(refuses(400, "max_tokens is too large"))) as fake, pytest.raises(ReadError, match="max_tokens is too large"):
        ask(reader(fake), "One?")
    with running(Fake(refuses(400, "maximum context length is 2048 tokens"))) as fake:
        with pytest.raises(ContextLengthError):
            ask(reader(fake), "One?")
        assert [images(body) for body in fake.requests] == [FULL]


def test_what_was_sent_outlives_the_process_by_server(tmp_path: Path) -> None:
    with running(Fake(Cache())) as fake, running(Fake(Cache())) as other:
        ask(reader(fake, uuid_folder=tmp_path), "One?")
        ask(reader(fake, uuid_folder=tmp_path), "Two?")
        ask(reader(other, uuid_folder=tmp_path), "One?")
    assert [images(body) for body in fake.requests] == [FULL, REFERRED]
    assert [images(body) for body in other.requests] == [FULL]
    kept = "".join(path.name + path.read_text() for path in tmp_path.iterdir())
    assert "127.0.0.1" not in kept


def test_each_server_has_its_own_memory() -> None:
    with running(Fake(Cache())) as first, running(Fake(Cache())) as second:
        both = VLLMReader([first.base_url, second.base_url], first.model, image_uuids=True, retry=ONCE)
        ask(both, "One?", "Two?", "Three?", "Four?")
    for fake in (first, second):
        assert [images(body) for body in fake.requests] == [FULL, REFERRED]


def test_page_files_for_those_that_are_new_only(tmp_path: Path) -> None:
    with running(Fake(Cache())) as fake:
        one = reader(fake, page_folder=tmp_path)
        ask(one, "One?")
        tmp_path.rmdir()  # nothing is left in it, and nothing more is written
        ask(one, "Two?")
    assert [images(body) for body in fake.requests] == [FULL, REFERRED]
    urls = [part["image_url"]["url"] for part in fake.requests[0]["messages"][0]["content"] if part["type"] == "image_url"]
    assert all(url.startswith("file://") for url in urls)


def test_texts_between_pages_keep_their_places() -> None:
    text = PageText(2, None, 10, 20, "In words.", 3)
    parts: list[Part] = [PAGES[0], text, PAGES[2], ExactList((), "Exactly: 7f3a", 4)]
    with running(Fake(Cache())) as fake:
        ask(reader(fake), "One?", "Two?", parts=parts)
        ask(reader(fake), "Three?", parts=[text])
    kinds = [[part.get("text", part.get("uuid")) for part in body["messages"][0]["content"]] for body in fake.requests]
    assert kinds[0][:3] == kinds[1][:3] == [NAMES[0], "In words.", NAMES[2]]
    assert kinds[0][3] == "Exactly: 7f3a\n\nOne?"
    assert kinds[2] == ["In words.\n\nThree?"]


def test_memory_is_bounded_and_a_broken_file_is_none(tmp_path: Path) -> None:
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(10)]
    sent = SentImages(tmp_path, capacity=4)
    sent.sent("http://a/v1", names)
    assert sent.known("http://a/v1", names) == set(names[-4:])
    sent.sent("http://a/v1", names[6:7])
    sent.sent("http://a/v1", names[:1])
    assert sent.known("http://a/v1", names) == {names[6], names[0], names[8], names[9]}
    (path,) = tmp_path.iterdir()
    assert SentImages(tmp_path, capacity=4).known("http://a/v1", names) == {names[6], names[0], names[8], names[9]}
    path.write_bytes(b"\xff\x00 not ours\n")
    assert SentImages(tmp_path).known("http://a/v1", names) == frozenset()
    path.write_text("\n".join([*names[:2], "cut of", names[2][:30]]))
    assert SentImages(tmp_path).known("http://a/v1", names) == set(names[:2])
    nowhere = SentImages(tmp_path / "no" / "such")
    nowhere.sent("http://a/v1", names)
    assert nowhere.known("http://a/v1", names) == set(names)
