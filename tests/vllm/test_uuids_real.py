"""Pages that the real vLLM has seen are referred to: what it answers, what a lost image looks like, and what is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from glyph_pipeline import Page, RenderConfig, render
from glyph_pipeline.reading.reader import ReadEvent, ReadResult, Retrying
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.serving import GlyphServer

pytestmark = pytest.mark.vllm

START_SECONDS = 600.0
# A cache for images, which the deployment guide's flags leave out: 4 MB, room for a few of these pages.
CACHED = ["--max-num-seqs", "4", "--mm-processor-cache-gb", "0.004"]
CONFIG = RenderConfig.preset("en").replace(font="DejaVu Sans", system_fonts=False)
GREEDY = Sampling(temperature=0, max_tokens=40)
# No two pages alike: equal pictures have one name.
TEXT = "".join(f"Entry {number}: the pilot cutter Aurelie lay at anchor until the fog had lifted.\n" for number in range(140))
LATER = TEXT.replace("Entry", "Day") + TEXT.replace("Entry", "Night")


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    drawn = list(render(TEXT, CONFIG))
    assert len(drawn) == 2
    return drawn


def launched(model: Path, python: Path, log: Path, *more: str) -> GlyphServer:
    return GlyphServer.launch(model, "cpu", vllm=python, timeout=START_SECONDS, log_path=log, extra_args=[*CACHED, *more])


@pytest.fixture(scope="module")
def cached_server(tiny_model: Path, vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlyphServer]:
    with launched(tiny_model, vllm_python, tmp_path_factory.mktemp("cached") / "vllm.log") as server:
        yield server


class Relay:
    """Passes requests on to ``target``, which may change, and notes the body and the status of each chat request."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[Relay]:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._pass_on(httpx.get(relay.target + self.path, trust_env=False, timeout=60))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = httpx.post(
                    relay.target + self.path, content=body, headers={"content-type": "application/json"}, trust_env=False, timeout=300
                )
                relay.bodies.append(body)
                relay.statuses.append(answer.status_code)
                self._pass_on(answer)

            def _pass_on(self, answer: httpx.Response) -> None:
                self.send_response(answer.status_code)
                self.send_header("content-type", answer.headers["content-type"])
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def images(self) -> list[list[bool]]:
        """Whether each image was sent in full, by request."""
        contents = [json.loads(body)["messages"][0]["content"] for body in self.bodies]
        return [[part["image_url"] is not None for part in content if part["type"] == "image_url"] for content in contents]


def root(server: GlyphServer) -> str:
    return server.base_url.removesuffix("/v1")


def ask(reader: VLLMReader, pages: Sequence[Page], *questions: str) -> list[ReadResult]:
    async def each(question: str) -> ReadResult:
        events: list[ReadEvent] = [event async for event in reader.read(pages, question)]
        assert not any(isinstance(event, Retrying) for event in events)
        assert isinstance(events[-1], ReadResult)
        return events[-1]

    async def all_of() -> list[ReadResult]:
        try:
            return [await each(question) for question in questions]
        finally:
            await reader.aclose()

    return asyncio.run(all_of())


def naming(url: str, server: GlyphServer, **options: Any) -> VLLMReader:
    return VLLMReader(url, server.model, sampling=GREEDY, retry=RetryPolicy(budget=0), image_uuids=True, **options)


def test_the_second_question_sends_no_picture_and_gets_the_same_answer(cached_server: GlyphServer, pages: list[Page]) -> None:
    with Relay(root(cached_server)).running() as relay:
        whole, referred, other = ask(naming(relay.url, cached_server), pages, "Where?", "Where?", "When?")
    plain = VLLMReader(cached_server.base_url, cached_server.model, sampling=GREEDY, retry=RetryPolicy(budget=0))
    (expected,) = ask(plain, pages, "Where?")
    assert whole == referred == expected
    assert other.usage.prompt_tokens is not None
    assert relay.statuses == [200, 200, 200]
    assert relay.images() == [[True, True], [False, False], [False, False]]
    pictures = sum(len(page.png) for page in pages) * 4 / 3
    assert len(relay.bodies[0]) > pictures
    assert len(relay.bodies[1]) < 1000 + len(pages) * 200 < pictures


def test_what_it_lost_is_sent_again_and_does_not_hurt_it(cached_server: GlyphServer, pages: list[Page]) -> None:
    many = list(render(LATER, CONFIG))
    with Relay(root(cached_server)).running() as relay:
        reader = naming(relay.url, cached_server)
        ask(reader, pages, "Where?")
        for page in many:  # more than the cache holds
            ask(reader, [page], "Where?")
        sent = len(relay.bodies)
        ask(reader, pages, "Where?", "Where?")
    assert relay.statuses[sent:] == [400, 200, 200]
    assert relay.images()[sent:] == [[False, False], [True, True], [False, False]]
    assert httpx.get(root(cached_server) + "/health", trust_env=False, timeout=60).status_code == 200


def test_a_server_without_a_cache_is_told_once_and_then_sent_everything(tiny_server: GlyphServer, pages: list[Page]) -> None:
    with Relay(root(tiny_server)).running() as relay:
        reader = naming(relay.url, tiny_server)
        results = ask(reader, pages, "Where?", "Where?", "Where?")
    assert results[0] == results[1] == results[2]
    assert relay.statuses == [200, 400, 200, 200]
    assert relay.images() == [[True, True], [False, False], [True, True], [True, True]]
    assert b"uuid" not in relay.bodies[-1]


def test_a_restarted_server_is_mended(
    tiny_model: Path, vllm_python: Path, cached_server: GlyphServer, pages: list[Page], tmp_path: Path
) -> None:
    sent = tmp_path / "sent"
    sent.mkdir()
    with Relay(root(cached_server)).running() as relay:
        (before,) = ask(naming(relay.url, cached_server, uuid_folder=sent), pages, "Where?")
        # Another run of the server behind the same URL, and another process that remembers.
        with launched(tiny_model, vllm_python, tmp_path / "vllm.log") as restarted:
            relay.target = root(restarted)
            after = ask(naming(relay.url, restarted, uuid_folder=sent), pages, "Where?", "Where?")
            assert httpx.get(root(restarted) + "/health", trust_env=False, timeout=60).status_code == 200
    assert after == [before, before]
    assert relay.statuses == [200, 400, 200, 200]
    assert relay.images() == [[True, True], [False, False], [True, True], [False, False]]
