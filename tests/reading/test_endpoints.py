"""Endpoints: whose turn it is; and VLLMReader with several servers, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from glyph_pipeline.errors import ConfigError, ReadError, ServerUnreachableError
from glyph_pipeline.page import Page
from glyph_pipeline.reading.endpoints import Endpoints, Turn
from glyph_pipeline.reading.reader import ReadEvent, ReadResult, Retrying
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.vllm import VLLMReader
from tests.support.clock import Clock
from tests.support.fake_openai import Fake, Handler, Held, drops, refuses, running, says

A, B, C = "http://a/v1", "http://b/v1", "http://c/v1"
NOBODY, NOBODY_EITHER = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"
ANSWER = says([{"content": "42"}])


@contextmanager
def turns(endpoints: Endpoints, count: int) -> Iterator[list[Turn]]:
    """So many requests in flight."""
    with ExitStack() as stack:
        yield [stack.enter_context(endpoints.turn()) for _ in range(count)]


def next_url(endpoints: Endpoints) -> str:
    with endpoints.turn() as turn:
        return turn.url


def fail(endpoints: Endpoints, url: str, wait: float | None = None) -> None:
    """A request to ``url``, begun by now, fails."""
    with turns(endpoints, 1) as (turn,):
        endpoints.failed(Turn(url, turn.number), wait)


def test_fewest_in_flight_then_longest_ago() -> None:
    endpoints = Endpoints([A, B, C])
    with turns(endpoints, 4) as given:
        assert [turn.url for turn in given] == [A, B, C, A]
    with endpoints.turn() as first:
        assert first.url == B  # all idle: the one used longest ago
        with turns(endpoints, 2) as given:
            assert [turn.url for turn in given] == [C, A]
        assert next_url(endpoints) == C
    assert next_url(endpoints) == B


def test_a_turn_ends_even_if_its_request_fails() -> None:
    endpoints = Endpoints([A, B])
    for _ in range(3):
        with pytest.raises(KeyError), endpoints.turn():
            raise KeyError
    with turns(endpoints, 2) as given:
        assert {turn.url for turn in given} == {A, B}


def test_a_failure_sets_aside_for_twice_as_long_each_time_up_to_a_minute() -> None:
    clock = Clock()
    endpoints = Endpoints([A, B], clock=clock)
    for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
        fail(endpoints, A)
        clock.now += seconds - 0.01
        assert [next_url(endpoints) for _ in range(3)] == [B, B, B]
        clock.now += 0.01
        assert A in [next_url(endpoints) for _ in range(2)]


def test_a_success_clears_it() -> None:
    clock = Clock()
    endpoints = Endpoints([A, B], clock=clock)
    for _ in range(5):
        fail(endpoints, A)
        clock.now += 60
    fail(endpoints, A, 100.0)
    with endpoints.turn() as turn:
        endpoints.succeeded(Turn(A, turn.number))
    assert {next_url(endpoints), next_url(endpoints)} == {A, B}
    fail(endpoints, A)
    assert next_url(endpoints) == B
    clock.now += 1
    assert next_url(endpoints) == A


def test_retry_after_sets_aside_for_longer() -> None:
    clock = Clock()
    endpoints = Endpoints([A, B], clock=clock)
    fail(endpoints, A, 90.0)
    clock.now += 89
    assert [next_url(endpoints) for _ in range(2)] == [B, B]
    clock.now += 1
    assert next_url(endpoints) == A
    fail(endpoints, A, 0.0)
    clock.now += 0.5
    assert next_url(endpoints) == B  # no shorter


def test_requests_that_die_together_are_one_failure() -> None:
    clock = Clock()
    endpoints = Endpoints([A, B], clock=clock)
    with turns(endpoints, 10) as given:
        for turn in given:
            if turn.url == A:
                endpoints.failed(turn)
    clock.now += 1
    assert A in [next_url(endpoints), next_url(endpoints)]


def test_an_old_request_that_fails_later_sets_aside_again() -> None:
    clock = Clock()
    endpoints = Endpoints([A, B], clock=clock)
    with turns(endpoints, 3) as (first, _, third):
        endpoints.failed(first)
        clock.now += 30
        endpoints.failed(third)
    assert [next_url(endpoints) for _ in range(2)] == [B, B]


def test_when_all_are_set_aside_the_one_whose_time_is_up_first() -> None:
    clock = Clock()
    endpoints = Endpoints([A, B, C], clock=clock)
    fail(endpoints, A, 9.0)
    fail(endpoints, B, 5.0)
    assert endpoints.any_ready()
    fail(endpoints, C, 7.0)
    assert not endpoints.any_ready()
    assert [next_url(endpoints) for _ in range(3)] == [B, B, B]
    assert endpoints.asked_wait() == 5
    clock.now += 4
    assert endpoints.asked_wait() == 1
    clock.now += 1
    assert endpoints.asked_wait() == 0
    assert endpoints.any_ready()


def test_only_what_was_asked_for_is_waited_for() -> None:
    endpoints = Endpoints([A], clock=Clock())
    fail(endpoints, A)
    assert not endpoints.any_ready()
    assert endpoints.asked_wait() == 0


def test_urls() -> None:
    assert Endpoints([A, B, A]).urls == (A, B)
    with pytest.raises(ConfigError, match="No server's URL"):
        VLLMReader([], "m")
    one, several = VLLMReader(A, "m"), VLLMReader([A, B], "m")
    assert (one.base_url, one.base_urls) == (A, (A,))
    assert (several.base_url, several.base_urls) == (A, (A, B))


# With real sockets. The clock stands, so what is set aside stays so until the test moves it.

PAGE = Page(number=1, width=28, height=28, png=b"png", start=0, end=1, lines=("x",))


async def ask(reader: VLLMReader) -> list[ReadEvent]:
    return [event async for event in reader.read([PAGE], "Who?")]


def read(reader: VLLMReader, count: int = 1) -> list[list[ReadEvent]]:
    """The events of ``count`` reads, one after the other."""

    async def collect() -> list[list[ReadEvent]]:
        try:
            return [await ask(reader) for _ in range(count)]
        finally:
            await reader.aclose()

    return asyncio.run(collect())


@contextmanager
def servers(*fakes: Fake) -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running(fake)).base_url for fake in fakes]


def test_requests_go_where_the_fewest_are_under_way() -> None:
    held = [Held(), Held(), Held()]
    fakes = [Fake(reply) for reply in held]

    async def ask_all(urls: list[str]) -> None:
        reader = VLLMReader(urls, "m")
        reads = []
        for place in (0, 1, 2, 0, 1, 2):
            reads.append(asyncio.ensure_future(ask(reader)))
            assert await asyncio.to_thread(held[place].waiting.acquire, timeout=60)  # its request has come there
        held[1].release()
        await asyncio.gather(reads[1], reads[4])
        # The second is idle now: the next two are its own.
        again = [await ask(reader) for _ in range(2)]
        assert all(isinstance(events[-1], ReadResult) for events in again)
        held[0].release()
        held[2].release()
        await asyncio.gather(*reads)
        await reader.aclose()

    with servers(*fakes) as urls:
        try:
            asyncio.run(ask_all(urls))
        finally:
            for reply in held:
                reply.release()
    assert [len(fake.requests) for fake in fakes] == [2, 4, 2]


@pytest.mark.parametrize(
    "reply",
    [
        drops(),
        refuses(500, "no"),
        refuses(503, "no"),
        refuses(429, "no"),
        refuses(429, "no", **{"retry-after": "1000"}),
        says([], finish=None),
    ],
)
def test_another_server_takes_over_at_once_and_the_failing_one_rests(reply: Any) -> None:
    clock = Clock()
    bad, good = Fake(reply), Fake(ANSWER)
    with servers(bad, good) as urls:
        reader = VLLMReader(urls, "m", retry=RetryPolicy(first=1000, longest=1000, jitter=0, budget=10, clock=clock))
        first, *others = read(reader, 4)
        assert [type(event) for event in first[:1]] == [Retrying]
        assert isinstance(first[0], Retrying)
        assert first[0].seconds == 0
        assert urls[0] in first[0].reason
        for events in (first, *others):
            assert isinstance(events[-1], ReadResult)
        assert [len(bad.requests), len(good.requests)] == [1, 4]
        bad.reply = ANSWER
        clock.now += 1000
        reader._endpoints.failed(Turn(urls[0], 1000))  # again; then it succeeds, which clears what went before
        clock.now += 1000
        assert [len(events) for events in read(reader, 2)] == [2, 2]
        assert [len(bad.requests), len(good.requests)] == [2, 5]
        reader._endpoints.failed(Turn(urls[0], 2000))
        clock.now += 1  # the time of a first failure
        read(reader, 2)
        assert [len(bad.requests), len(good.requests)] == [3, 6]


def test_a_server_that_is_down_is_passed_over() -> None:
    good = Fake(ANSWER)
    with servers(good) as urls:
        reader = VLLMReader([NOBODY, *urls, NOBODY_EITHER], "m", retry=RetryPolicy(first=1000, budget=10, clock=Clock()))
        results = [events[-1] for events in read(reader, 3)]
    assert all(isinstance(result, ReadResult) for result in results)


def test_all_down_backs_off_and_gives_up() -> None:
    clock = Clock()
    policy = RetryPolicy(budget=3, first=0.02, longest=0.02, clock=clock, chance=clock.tick)
    reader = VLLMReader([NOBODY, NOBODY_EITHER], "m", retry=policy)
    seen: list[float] = []

    async def follow() -> None:
        try:
            async for event in reader.read([PAGE], "Who?"):
                assert isinstance(event, Retrying)
                seen.append(event.seconds)
        finally:
            await reader.aclose()

    with pytest.raises(ServerUnreachableError, match="Tried 6 times, for 3 s"):
        asyncio.run(follow())
    # The other one at once, then a pause. After the second round both are set aside for longer than a second.
    assert seen == [0, 0.02, 0, 0.02, 0.02]


def test_the_wait_is_until_the_first_server_wants_to_be_asked() -> None:
    fakes = Fake(refuses(429, "no", **{"retry-after": "50"})), Fake(refuses(429, "no", **{"retry-after": "20"}))
    with servers(*fakes) as urls:
        reader = VLLMReader(urls, "m", retry=RetryPolicy(budget=300, first=1, jitter=0, clock=Clock()))

        async def waits() -> list[float]:
            events = reader.read([PAGE], "Who?")
            found = [event.seconds for event in [await anext(events), await anext(events)] if isinstance(event, Retrying)]
            await events.aclose()
            await reader.aclose()
            return found

        assert asyncio.run(waits()) == [0, 20]


def test_a_request_that_fails_everywhere_does_not_chase_around_healthy_servers() -> None:
    def fails_while_others_succeed(handler: Handler, body: dict[str, Any]) -> None:
        for url in reader.base_urls:
            reader._endpoints.succeeded(Turn(url, 0))
        refuses(500, "no")(handler, body)

    fakes = Fake(fails_while_others_succeed), Fake(fails_while_others_succeed), Fake(fails_while_others_succeed)
    with servers(*fakes) as urls:
        clock = Clock()
        reader = VLLMReader(urls, "m", retry=RetryPolicy(budget=2, first=0.01, longest=0.01, clock=clock, chance=clock.tick))
        waits: list[float] = []

        async def follow() -> None:
            try:
                async for event in reader.read([PAGE], "Who?"):
                    assert isinstance(event, Retrying)
                    waits.append(event.seconds)
            finally:
                await reader.aclose()

        with pytest.raises(ReadError, match="HTTP 500"):
            asyncio.run(follow())
    assert waits == [0, 0, 0.01, 0, 0, 0.01]


def test_the_key_goes_to_each_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-another-product")
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setenv("ALL_PROXY", NOBODY)
    fakes = Fake(ANSWER), Fake(ANSWER)
    with servers(*fakes) as urls:
        read(VLLMReader(urls, "m", api_key="mine", retry=RetryPolicy(budget=0)), 2)
    for fake in fakes:
        (headers,) = fake.headers
        assert headers["authorization"] == "Bearer mine"
        assert headers["user-agent"] == "glyph-pipeline"
        assert not [name for name in headers if name.startswith(("x-", "openai-"))]


def test_whether_a_proxy_is_used_depends_on_each_url(monkeypatch: pytest.MonkeyPatch) -> None:
    proxied: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            proxied.append(self.path)
            self.send_error(400, "seen by the proxy")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy, servers(Fake(ANSWER)) as (here,):
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        reader = VLLMReader([here, "http://model.invalid/v1"], "m", retry=RetryPolicy(budget=0))
        assert len(read(reader)) == 1
        assert proxied == []
        with pytest.raises(ReadError, match="HTTP 400"):
            read(reader)
        assert proxied == ["http://model.invalid/v1/chat/completions"]
        proxy.shutdown()


def test_reads_of_many_loops_share_the_count() -> None:
    held = [Held(), Held()]
    fakes = [Fake(reply) for reply in held]
    with servers(*fakes) as urls, ThreadPoolExecutor(4) as threads:
        reader = VLLMReader(urls, "m")
        reads = [threads.submit(read, reader) for _ in range(4)]
        try:
            assert all(reply.waiting.acquire(timeout=60) for reply in held * 2)
        finally:
            for reply in held:
                reply.release()
        for each in reads:
            assert isinstance(each.result(60)[0][-1], ReadResult)
    assert [len(fake.requests) for fake in fakes] == [2, 2]
