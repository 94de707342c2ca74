"""What comes back: the upstream's answer as it is, as it comes; and what happens when either side breaks off."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from glyph_pipeline.proxy.running import ProxyServer
from glyph_pipeline.proxy.savings import Savings
from glyph_pipeline.proxy.streams import UsageSplicer
from tests.proxy.conftest import Poster
from tests.proxy.proxied import LONG, proxied
from tests.proxy.recorder import ANSWER, Recorder, Reply
from tests.support.fake_openai import Fake, Handler, Held, drops, refuses, resets, running

SSE = {"content-type": "text/event-stream; charset=utf-8"}
USAGE = {"id": "x", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}}
EVENTS = [
    b'data: {"id": "x", "choices": [{"index": 0, "delta": {"content": "h\xc3\xa9"}}], "usage": null}\n\n',
    b": a comment\r\n\r\n",
    b"data: " + json.dumps(USAGE).encode() + b"\n\n",
    b"data: [DONE]\n\n",
]
SAVED = Savings(1, 2, 3000, 1000, "t", "f")
SHORT = [{"role": "user", "content": "Hello"}]
DRAWN = [{"role": "user", "content": LONG}]


def test_the_answer_is_the_upstreams_byte_for_byte(post: Poster, upstream: Recorder) -> None:
    odd = b'{ "choices":[],\n "x": 1.10, "y": "\\u00e9" }\n'
    upstream.reply = lambda taken: Reply(pieces=[odd[:7], odd[7:]], headers={"content-type": "application/json", "x-request-id": "abc"})
    plain = post(SHORT)
    assert (plain.content, plain.headers["x-request-id"]) == (odd, "abc")
    drawn = post(DRAWN)
    saved = json.dumps({"glyph_pipeline": drawn.json()["glyph_pipeline"]}).encode()[1:-1]
    assert drawn.content == odd[:-3] + b"," + saved + b"}\n"


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503])
def test_refusals_of_the_upstream_are_untouched(post: Poster, upstream: Recorder, status: int) -> None:
    words = b'{"error": {"message": "This model\'s maximum context length is 5 tokens.", "code": 400}}'
    upstream.reply = lambda taken: Reply(status, {"content-type": "application/json", "retry-after": "7"}, [words])
    response = post(DRAWN)
    assert (response.status_code, response.content, response.headers["retry-after"]) == (status, words, "7")


def test_compressed_and_odd_answers_pass(post: Poster, upstream: Recorder) -> None:
    upstream.reply = lambda taken: Reply(headers={"content-type": "application/json", "content-encoding": "x-odd"}, pieces=[b"\x00}"])
    with httpx.stream("POST", post.url, json={"model": "m", "messages": DRAWN}) as response:
        assert b"".join(response.iter_raw()) == b"\x00}"
    upstream.reply = lambda taken: Reply(headers={"content-type": "text/plain"}, pieces=[b"{}"])
    assert post(DRAWN).content == b"{}"
    upstream.reply = lambda taken: Reply(302, {"location": "http://192.0.2.1/"}, [b""])
    assert post(SHORT).status_code == 302  # not followed


def test_a_stream_passes_byte_for_byte(post: Poster, upstream: Recorder) -> None:
    upstream.reply = lambda taken: Reply(headers=SSE, pieces=EVENTS)
    for messages, more in ((SHORT, {"stream_options": {"include_usage": True}}), (DRAWN, {})):
        response = post(messages, stream=True, **more)
        assert response.content == b"".join(EVENTS)
        assert response.headers["content-type"] == SSE["content-type"]
    assert response.headers["x-glyph-pages"] != "0"


def test_the_usage_chunk_says_what_was_saved_and_nothing_else_changes(post: Poster, upstream: Recorder) -> None:
    upstream.reply = lambda taken: Reply(headers=SSE, pieces=EVENTS)
    response = post(DRAWN, stream=True, stream_options={"include_usage": True})
    lines = response.content.split(b"\n")
    before = b"".join(EVENTS).split(b"\n")
    (changed,) = [index for index, line in enumerate(lines) if line != before[index]]
    chunk = json.loads(lines[changed].removeprefix(b"data:"))
    assert chunk.pop("glyph_pipeline")["pages"] == int(response.headers["x-glyph-pages"])
    assert chunk == USAGE


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_however_the_stream_is_cut_into_pieces(size: int) -> None:
    whole = b"".join(EVENTS)
    splicer = UsageSplicer(SAVED)
    out = b"".join(splicer.feed(whole[start : start + size]) for start in range(0, len(whole), size)) + splicer.finish()
    assert out == UsageSplicer(SAVED).feed(whole)
    assert out.count(b"glyph_pipeline") == 1


def test_usage_in_every_chunk_is_left_alone() -> None:
    line = b'data: {"choices": [{"index": 0}], "usage": {"prompt_tokens": 5}}\n\n'
    assert UsageSplicer(SAVED).feed(line) == line
    for odd in (b'data: {"choices": [], "usage": {\n', b'data: "usage" "choices"\n', b'data: {"choices": [], "usage": null}\n'):
        assert UsageSplicer(SAVED).feed(odd) == odd


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    splicer = UsageSplicer(SAVED)
    piece = b"data: " + b"x" * 400_000
    out = [splicer.feed(piece) for _ in range(5)]
    assert b"".join(out) == piece * 5


def test_events_come_when_they_are_sent() -> None:
    held = Held([{"content": "first"}])
    with running(Fake(held)) as fake, proxied(fake.base_url) as proxy:
        body = {"model": "m", "messages": DRAWN, "stream": True, "stream_options": {"include_usage": True}}
        with httpx.stream("POST", f"{proxy.base_url}/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            assert "first" in next(lines)  # while the upstream waits
            held.release()
            assert [line for line in lines if line][-1] == "data: [DONE]"


@pytest.mark.parametrize("deltas", [[], [{"content": "first"}]], ids=["before the first event", "in the middle"])
def test_a_client_that_leaves_ends_the_upstreams_request(deltas: list[dict[str, str]]) -> None:
    held = Held(deltas)
    with running(Fake(held)) as fake, proxied(fake.base_url) as proxy:
        try:
            host, port = proxy.base_url.removeprefix("http://").removesuffix("/v1").split(":")
            body = json.dumps({"model": "m", "messages": SHORT, "stream": True}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            with socket.create_connection((host, int(port))) as client:
                client.sendall(head.encode() + body)
                assert held.waiting.acquire(timeout=60)
                assert not held.left.is_set()
            assert held.left.wait(60)
        finally:
            held.release()
        assert "glyph_proxy_in_flight 0.0" in httpx.get(proxy.base_url.replace("/v1", "/metrics")).text


def test_a_client_that_leaves_a_fast_stream_ends_it_too() -> None:
    over = threading.Event()

    def endless(handler: Handler, body: object) -> None:
        handler.begin()
        try:
            while True:
                handler.write_event({"choices": [{"index": 0, "delta": {"content": "on "}}]})
        except OSError:
            handler.close_connection = True
            over.set()

    with running(Fake(endless)) as fake, proxied(fake.base_url) as proxy:
        for _ in range(5):  # which moment it leaves in is chance
            over.clear()
            url = f"{proxy.base_url}/chat/completions"
            with httpx.stream("POST", url, json={"model": "m", "messages": SHORT, "stream": True}) as response:
                lines = response.iter_lines()
                assert "on " in next(lines)
            assert over.wait(60)


def test_a_client_that_takes_nothing_is_given_up() -> None:
    over = threading.Event()

    def endless(handler: Handler, body: object) -> None:
        handler.begin()
        try:
            while True:
                handler.write_event({"choices": [{"index": 0, "delta": {"content": "x" * 100_000}}]})
        except OSError:
            handler.close_connection = True
            over.set()

    with running(Fake(endless)) as fake, proxied(fake.base_url, client_timeout=0.5) as proxy:
        url = f"{proxy.base_url}/chat/completions"
        with httpx.stream("POST", url, json={"model": "m", "messages": SHORT, "stream": True}):
            assert over.wait(60)


def test_no_upstream_is_a_502_that_says_so() -> None:
    with proxied("http://127.0.0.1:1") as proxy:
        for response in (Poster(proxy.base_url)(DRAWN), httpx.get(f"{proxy.base_url}/models")):
            assert response.status_code == 502
            assert "can't be reached" in response.json()["error"]["message"]
            assert "skarrow" not in response.text.lower()
        health = httpx.get(proxy.base_url.replace("/v1", "/health"))
        assert (health.status_code, health.json()["status"]) == (503, "upstream unreachable")


def test_an_upstream_that_breaks_off() -> None:
    with running(Fake(drops())) as fake, proxied(fake.base_url) as proxy:
        response = Poster(proxy.base_url)(SHORT)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_broken")


def test_a_kept_connection_that_the_upstream_has_closed_costs_no_request() -> None:
    used: set[Handler] = set()  # one a connection
    dropped = 0

    def once_each(handler: Handler, body: dict[str, Any]) -> None:
        nonlocal dropped
        if handler in used:
            handler.close_connection = True  # as if it had been closed just before: no answer
            dropped += 1
        else:
            used.add(handler)
            handler.send(200, {"id": "x", "choices": []})

    with running(Fake(once_each)) as fake, proxied(fake.base_url) as proxy:
        for _ in range(100):
            assert Poster(proxy.base_url)(SHORT).status_code == 200
            if dropped == 3:
                break
    assert dropped == 3


def test_a_stream_that_breaks_off_does_not_look_whole() -> None:
    with running(Fake(resets([{"content": "first"}]))) as fake, proxied(fake.base_url) as proxy:
        url = f"{proxy.base_url}/chat/completions"
        seen = b""
        with httpx.stream("POST", url, json={"model": "m", "messages": SHORT, "stream": True}) as response:
            pieces = response.iter_raw()
            while b"error" not in seen:
                seen += next(pieces)
            with pytest.raises(httpx.RemoteProtocolError):
                next(pieces)
        event = json.loads(seen.split(b"data: ")[-1])
        assert event["error"]["code"] == "upstream_broken"


def test_an_upstream_that_says_nothing_is_a_504() -> None:
    never = Held()

    def silent(handler: object, body: object) -> None:
        never._released.wait(60)

    with running(Fake(silent)) as fake:  # type: ignore[arg-type]
        with proxied(fake.base_url, read_timeout=0.2) as proxy:
            response = Poster(proxy.base_url)(SHORT)
        never.release()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")


def test_models_and_health(proxy: ProxyServer) -> None:
    assert httpx.get(f"{proxy.base_url}/models").json()["data"][0]["id"] == "m"
    health = httpx.get(proxy.base_url.replace("/v1", "/health"))
    assert (health.status_code, health.json()) == (200, {"status": "ok"})


def test_two_hundred_at_a_time_and_none_is_lost(proxy: ProxyServer, upstream: Recorder) -> None:
    def ask(number: int) -> tuple[int, str]:
        content = f"{number}: {LONG}" if number % 20 == 0 else f"{number}"
        response = httpx.post(
            f"{proxy.base_url}/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": content}], "n": number},
            timeout=120,
        )
        return response.status_code, response.json().get("id", response.text)

    def named(taken: object) -> Reply:
        number = taken.json["n"]  # type: ignore[attr-defined]
        return Reply(pieces=[json.dumps({**ANSWER, "id": str(number)}).encode()])

    upstream.reply = named
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(ask, range(400)))
    assert answers == [(200, str(number)) for number in range(400)]
    assert len(upstream.chats) == 400


def test_refusals_count_as_errors_of_the_upstream() -> None:
    with running(Fake(refuses(418, "No."))) as fake, proxied(fake.base_url) as proxy:
        Poster(proxy.base_url)(SHORT)
        metrics = httpx.get(proxy.base_url.replace("/v1", "/metrics")).text
    assert 'glyph_proxy_errors_total{kind="upstream_status"} 1.0' in metrics
    assert 'glyph_proxy_requests_total{endpoint="/v1/chat/completions",status="418"} 1.0' in metrics
