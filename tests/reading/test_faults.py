"""VLLMReader when servers refuse, stall, die and come back, over real sockets."""

from __future__ import annotations

import asyncio
import email.utils
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline.errors import ConfigError, ContextLengthError, GlyphError, ReadError, ServerUnreachableError, WrongModelError
from glyph_pipeline.page import Page
from glyph_pipeline.reading.reader import AnswerDelta, ReadEvent, ReadResult, ReasoningDelta, Retrying, Usage
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.vllm import VLLMReader
from tests.support.clock import Clock
from tests.support.fake_openai import Fake, Handler, Held, drops, fails_late, in_turn, refuses, resets, running, says

PAGE = Page(number=1, width=28, height=28, png=b"png", start=0, end=1, lines=("x",))
SOON = RetryPolicy(budget=300, first=0.01, longest=0.02)
ONCE = RetryPolicy(budget=0)
HALF = [{"reasoning": "Half a thought."}, {"content": "<answer>Ines"}]
ANSWER = says(
    [{"reasoning": "Hm."}, {"content": "<answer>Orrin"}, {"content": " it was</answer>"}],
    usage={"prompt_tokens": 7, "completion_tokens": 3},
)
RESULT = ReadResult("Orrin it was", "Hm.", "stop", Usage(7, 3))
WHOLE = [ReasoningDelta("Hm."), AnswerDelta("Orrin"), AnswerDelta(" it was"), RESULT]


async def follow(reader: VLLMReader, into: list[ReadEvent]) -> None:
    try:
        async for event in reader.read([PAGE], "Who?"):
            into.append(event)
    finally:
        await reader.aclose()


def read(fake: Fake, into: list[ReadEvent] | None = None, retry: RetryPolicy = SOON, **options: Any) -> list[ReadEvent]:
    events: list[ReadEvent] = [] if into is None else into
    serving: AbstractContextManager[object] = nullcontext() if fake.base_url else running(fake)
    with serving:
        asyncio.run(follow(VLLMReader(fake.base_url, fake.model, retry=retry, **options), events))
    return events


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("This model's maximum context length is 16384 tokens. However, your prompt contains at least 16385 input tokens, which", 16384),
        ("Input length (2535) exceeds model's maximum context length (2048).", 2048),
        ("The decoder prompt (length 3000) is longer than the maximum model length of 2048. Make sure that `max_model_len` is no", 2048),
        ("The decoder prompt (length 2048) plus the number of requested output tokens (at least 1) is longer than the maximum model length of 2048.", 2048),
        ("max_tokens=9000 cannot be greater than max_model_len=8192. Please request fewer output tokens.", 8192),
        ("You passed 4097 input tokens and requested 0 output tokens. However, the model's context length is only 4096 tokens", 4096),
        ("the request exceeds the available context size: 4096", 4096),
        ("The prompt of 9000 tokens is too long.", None),
        ("Your 9000 tokens exceed the context length.", None),
    ],
)  # fmt: skip
def test_too_long_for_the_context_names_the_limit(words: str, limit: int | None) -> None:
    for reply in (refuses(400, words), fails_late([], words, 400)):
        fake = Fake(reply)
        with pytest.raises(ContextLengthError) as caught:
            read(fake)
        assert caught.value.limit == limit
        assert words in str(caught.value)
        assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (400, "Failed to load image: cannot identify image file", ReadError),
        (401, "Unauthorized", ReadError),
        (403, "Forbidden", ReadError),
        (404, "Not Found", ReadError),
        (404, "The model `fake/Glyph` does not exist.", WrongModelError),
        (413, "Request Entity Too Large", ReadError),
        (422, "Unprocessable", ReadError),
        (501, "Not implemented", ReadError),
    ],
)
def test_what_will_not_pass_is_not_tried_again(status: int, words: str, kind: type[GlyphError]) -> None:
    fake = Fake(refuses(status, words, **{"retry-after": "1"}))
    events: list[ReadEvent] = []
    with pytest.raises(kind, match=words) as caught:
        read(fake, events)
    assert (len(fake.requests), events) == (1, [])
    assert type(caught.value) is kind
    assert "Tried" not in str(caught.value)
    if isinstance(caught.value, ReadError):
        assert (caught.value.status, caught.value.transient, caught.value.retry_after) == (status, False, None)
    assert ("--api-key" in str(caught.value)) == (status in (401, 403))


def _garbled(handler: Handler, body: dict[str, Any]) -> None:
    handler.begin(HALF)
    handler.write_chunk(b'data: {"choices": [{"ind\n\n')
    handler.write_chunk(b"data: [DONE]\n\n")
    handler.wfile.write(b"0\r\n\r\n")


def _cut(handler: Handler, body: dict[str, Any]) -> None:
    handler.begin(HALF)
    handler.close_connection = True


FAULTS = {
    **{f"HTTP {status}": (refuses(status, "not now"), f"HTTP {status}.*not now") for status in (408, 409, 429, 500, 502, 503, 504)},
    "retry at once": (refuses(429, "busy", **{"retry-after": "0"}), "HTTP 429"),
    "dropped before the headers": (drops(), "broke off"),
    "closed in the middle": (_cut, "broke off"),
    "no finish_reason": (says(HALF, finish=None), "without a finish_reason"),
    "no finish_reason, no [DONE]": (says(HALF, finish=None, done=False), "broke off"),
    "given up by the server": (says(HALF, finish="abort"), "finish_reason 'abort'"),
    "error event": (fails_late(HALF, "The engine is dead"), "HTTP 500.*The engine is dead"),
    "error event, code as text": (fails_late(HALF, "busy", "503"), "HTTP 503.*busy"),
    "error event, no code": (fails_late(HALF, "The engine is dead", None), "broke off.*The engine is dead"),
    "garbled event": (_garbled, "can't be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_pass_is_tried_again_and_the_result_is_of_one_stream(fault: str) -> None:
    reply, words = FAULTS[fault]
    fake = Fake(in_turn(reply, reply, ANSWER))
    events = read(fake)
    assert len(fake.requests) == 3
    assert fake.requests[0] == fake.requests[2]
    retrying = [place for place, event in enumerate(events) if isinstance(event, Retrying)]
    assert len(retrying) == 2
    # What stands after the last Retrying is the whole second answer and nothing of the first.
    assert events[retrying[-1] + 1 :] == WHOLE
    with pytest.raises(GlyphError, match=words) as caught:
        read(Fake(reply), retry=ONCE)
    assert isinstance(caught.value, ReadError)
    assert caught.value.transient


def test_cut_after_half_an_answer() -> None:
    seen = threading.Event()
    fake = Fake(in_turn(resets(HALF, before=lambda: seen.wait(60)), ANSWER))
    events: list[ReadEvent] = []

    async def watch(reader: VLLMReader) -> None:
        try:
            async for event in reader.read([PAGE], "Who?"):
                events.append(event)
                if event == AnswerDelta("Ines"):
                    seen.set()
        finally:
            await reader.aclose()

    with running(fake):
        asyncio.run(watch(VLLMReader(fake.base_url, "m", retry=SOON)))
    assert events[:2] == [ReasoningDelta("Half a thought."), AnswerDelta("Ines")]
    assert isinstance(events[2], Retrying)
    assert "broke off" in events[2].reason
    assert events[3:] == WHOLE


def test_a_stall_is_tried_again() -> None:
    for held in (Held(HALF), Held()):
        fake = Fake(in_turn(held, ANSWER))
        try:
            events = read(fake, read_timeout=0.3)
        finally:
            held.release()
        _assert_stalled(fake, events)


def test_a_stall_before_the_headers_is_tried_again() -> None:
    released = threading.Event()
    silent: Callable[[Handler, dict[str, Any]], None] = lambda handler, body: (released.wait(60), drops()(handler, body))[1]  # noqa: E731
    fake = Fake(in_turn(silent, ANSWER))
    with running(fake):
        try:
            events = read(fake, read_timeout=0.3)
        finally:
            released.set()
    assert isinstance(events[0], Retrying)
    _assert_stalled(fake, events)


def _assert_stalled(fake: Fake, events: list[ReadEvent]) -> None:
    """On a busy machine the answer may seem to stall, too: it is tried again until it comes."""
    retrying = [place for place, event in enumerate(events) if isinstance(event, Retrying)]
    reasons = {event.reason for event in events if isinstance(event, Retrying)}
    assert reasons == {f"The server at {fake.base_url} sent nothing for 0.3 s."}
    assert events[retrying[-1] + 1 :] == WHOLE


def _http_date(seconds: float) -> str:
    return email.utils.formatdate(seconds, usegmt=True)


@pytest.mark.parametrize("off", [0.0, 3600.0, -3600.0])
def test_retry_after_is_the_least_wait(off: float) -> None:
    fake = Fake(refuses(429, "busy", **{"retry-after": "17"}), clock_off=off)
    assert _first_wait(fake) == 17

    def by_date(handler: Handler, body: dict[str, Any]) -> None:
        refuses(503, "busy", **{"retry-after": _http_date(time.time() + off + 40)})(handler, body)

    # Whole seconds on both sides, so one may be lost or won, and more while the machine is busy between two looks at the clock.
    assert _first_wait(Fake(by_date, clock_off=off)) == pytest.approx(40, abs=30)


def _first_wait(fake: Fake) -> float:
    async def first() -> ReadEvent:
        reader = VLLMReader(fake.base_url, "m", retry=RetryPolicy(first=0.01, clock=Clock()))
        async with aclosing(reader.read([PAGE], "Who?")) as events:
            event = await anext(events)
        await reader.aclose()
        return event

    with running(fake):
        event = asyncio.run(first())
    assert isinstance(event, Retrying)
    return event.seconds


def test_a_wait_beyond_the_budget_is_the_end_at_once() -> None:
    fake = Fake(refuses(429, "busy", **{"retry-after": "900"}))
    with pytest.raises(ReadError, match=r"HTTP 429.*busy Tried once; the next try, 900 s later.* 300 s") as caught:
        read(fake, retry=RetryPolicy(budget=300))
    assert len(fake.requests) == 1
    assert (caught.value.status, caught.value.retry_after) == (429, 900)


def test_down_for_good() -> None:
    fake = Fake(ANSWER, base_url="http://127.0.0.1:1/v1")
    events: list[ReadEvent] = []
    clock = Clock()
    with pytest.raises(ServerUnreachableError, match=r"can't be reached") as caught:
        read(fake, events, retry=RetryPolicy(budget=12, first=0.001, longest=0.001, clock=clock, chance=clock.tick))
    assert [type(event) for event in events] == [Retrying] * 12
    for words in ("Tried 13 times, for 12 s since the first failure; tries may take 12 s.", "doctor"):
        assert words in str(caught.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_certificate_that_is_not_valid_is_not_tried_again(tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    events: list[ReadEvent] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/v1"
        with pytest.raises(ServerUnreachableError, match="certificate"):
            read(Fake(ANSWER, base_url=url), events)
        thread.join()
    assert events == []


def test_the_budget_begins_with_the_first_failure() -> None:
    clock = Clock()

    def late(handler: Handler, body: dict[str, Any]) -> None:
        clock.now += 1800  # half an hour, and then the end
        drops()(handler, body)

    fake = Fake(in_turn(late, ANSWER))
    assert read(fake, retry=RetryPolicy(budget=10, first=0.01, clock=clock))[1:] == WHOLE
    fake = Fake(in_turn(late, late, ANSWER))
    with pytest.raises(ReadError, match="Tried 2 times, for 1800 s"):
        read(fake, retry=RetryPolicy(budget=10, first=0.01, clock=clock))


@pytest.mark.parametrize(
    "reply", [drops(), says(HALF, finish=None), refuses(500, "The engine is dead"), fails_late(HALF, "The engine is dead")]
)
def test_a_lost_server_is_revived_before_the_next_try(reply: Any) -> None:
    fake = Fake(in_turn(reply, reply, ANSWER))
    asked: list[tuple[int, bool]] = []
    events = read(fake, revive=lambda: asked.append((len(fake.requests), threading.current_thread().daemon)))
    assert asked == [(1, True), (2, True)]
    assert events[-4:] == WHOLE


@pytest.mark.parametrize("status", [408, 409, 429])
def test_a_server_that_answers_is_not_revived(status: int) -> None:
    asked: list[int] = []
    assert read(Fake(in_turn(refuses(status, "busy"), ANSWER)), revive=lambda: asked.append(1))[1:] == WHOLE
    assert asked == []


def test_reviving_a_dead_server_does_not_use_up_the_budget() -> None:
    clock = Clock()
    gone, fake = Fake(ANSWER), Fake(ANSWER)
    calls: list[int] = []
    with ExitStack() as serving, socket.socket() as kept:  # which refuses whoever comes, and nobody else is given the port
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        gone.base_url = f"http://127.0.0.1:{port}/v1"

        def revive() -> None:
            calls.append(1)
            clock.now += 600
            if len(calls) == 2:  # the first time it is not back for all that
                serving.enter_context(running(fake, port))

        events = read(gone, retry=RetryPolicy(budget=10, first=0.01, clock=clock), revive=revive)
    assert [type(event) for event in events[:2]] == [Retrying, Retrying]
    assert events[2:] == WHOLE
    assert len(calls) == 2


def test_a_server_that_can_not_be_revived_ends_the_read() -> None:
    fake = Fake(drops())

    def revive() -> None:
        raise ServerUnreachableError("It died three times.")

    with pytest.raises(ServerUnreachableError, match="It died three times"):
        read(fake, revive=revive)
    assert len(fake.requests) == 1


def test_no_revival_where_another_server_takes_over() -> None:
    asked: list[int] = []
    with running(Fake(ANSWER)) as fake:
        events: list[ReadEvent] = []
        reader = VLLMReader(["http://127.0.0.1:1/v1", fake.base_url], "m", retry=SOON, revive=lambda: asked.append(1))
        asyncio.run(follow(reader, events))
    assert events[1:] == WHOLE
    assert asked == []


async def _cancel_after(reader: VLLMReader, ready: Callable[[], object], events: list[ReadEvent]) -> float:
    """Cancel a read once ``ready`` returns; the seconds that took."""

    async def watch() -> None:
        async for event in reader.read([PAGE], "Who?"):
            events.append(event)

    task = asyncio.ensure_future(watch())
    assert await asyncio.to_thread(ready)
    await asyncio.sleep(0)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await reader.aclose()
    return time.monotonic() - began


def test_cancelling_during_the_wait_ends_at_once() -> None:
    fake = Fake(refuses(503, "busy", **{"retry-after": "100"}))
    events: list[ReadEvent] = []

    def waiting() -> bool:
        deadline = time.monotonic() + 60
        while not events and time.monotonic() < deadline:
            time.sleep(0.005)
        return bool(events)

    with running(fake):
        policy = RetryPolicy(clock=Clock())
        assert asyncio.run(_cancel_after(VLLMReader(fake.base_url, "m", retry=policy), waiting, events)) < 30
    assert isinstance(events[0], Retrying)
    assert events[0].seconds == 100
    assert len(fake.requests) == 1


def test_cancelling_during_a_revival_ends_at_once() -> None:
    begun, over = threading.Event(), threading.Event()

    def revive() -> None:
        begun.set()
        over.wait(60)

    fake = Fake(drops())
    with running(fake):
        try:
            assert asyncio.run(_cancel_after(VLLMReader(fake.base_url, "m", retry=SOON, revive=revive), lambda: begun.wait(60), [])) < 30
        finally:
            over.set()
    assert len(fake.requests) == 1


def test_cancelling_and_closing_close_the_request() -> None:
    for leave in (_cancelled, _closed):
        held = Held(HALF)
        # The second stream: the first fails.
        fake = Fake(in_turn(drops(), held))
        with running(fake):
            try:
                asyncio.run(leave(VLLMReader(fake.base_url, "m", retry=SOON), held))
                assert held.left.wait(60)
            finally:
                held.release()


async def _cancelled(reader: VLLMReader, held: Held) -> None:
    await _cancel_after(reader, lambda: held.waiting.acquire(timeout=60), [])


async def _closed(reader: VLLMReader, held: Held) -> None:
    events = reader.read([PAGE], "Who?")
    assert isinstance(await anext(events), Retrying)
    assert isinstance(await anext(events), ReasoningDelta)
    await events.aclose()
    # Before the reader is closed: leaving the iterator alone has to end the request.
    assert await asyncio.to_thread(held.left.wait, 60)
    await reader.aclose()


def test_closing_at_a_retrying_event_ends_there() -> None:
    fake = Fake(drops())
    assert _first_wait(fake) <= 0.01
    assert len(fake.requests) == 1


def test_a_read_of_a_closed_reader_ends_and_opens_and_revives_nothing() -> None:
    held = Held(HALF)
    fake = Fake(held)
    revived: list[int] = []

    async def close_under_way() -> None:
        reader = VLLMReader(fake.base_url, "m", retry=SOON, revive=lambda: revived.append(1))
        reading = asyncio.ensure_future(_all(reader))
        assert await asyncio.to_thread(held.waiting.acquire, timeout=60)
        await asyncio.sleep(0.05)
        await reader.aclose()
        with pytest.raises(ReadError, match="closed while it was reading"):
            await reading

    with running(fake):
        try:
            asyncio.run(close_under_way())
        finally:
            held.release()
    assert len(fake.requests) == 1
    assert revived == []


def test_a_reader_closed_during_the_wait_opens_nothing() -> None:
    fake = Fake(in_turn(drops(), ANSWER))

    async def close_while_waiting() -> None:
        reader = VLLMReader(fake.base_url, "m", retry=SOON)
        events = reader.read([PAGE], "Who?")
        assert isinstance(await anext(events), Retrying)
        await reader.aclose()
        with pytest.raises(ReadError, match="closed while it was reading"):
            await anext(events)

    with running(fake):
        asyncio.run(close_while_waiting())
    assert len(fake.requests) == 1


def test_a_server_too_busy_to_accept_is_unreachable_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glyph_pipeline.reading.vllm._CONNECT_TIMEOUT_S", 0.2)
    events: list[ReadEvent] = []
    clock = Clock()
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # fill its backlog: further connections hang
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        with pytest.raises(ServerUnreachableError, match="can't be reached"):
            read(Fake(ANSWER, base_url=url), events, retry=RetryPolicy(budget=1, first=0.001, clock=clock, chance=clock.tick))
    assert [type(event) for event in events] == [Retrying]


async def _all(reader: VLLMReader) -> Sequence[ReadEvent]:
    return [event async for event in reader.read([PAGE], "Who?")]


def test_reads_side_by_side_each_have_their_own_tries() -> None:
    # Whoever comes first fails twice as often; every read ends with a whole answer.
    fake = Fake(in_turn(*[drops()] * 4, resets(HALF), refuses(503, "busy"), says(HALF, finish=None), ANSWER))

    async def all_at_once() -> list[Sequence[ReadEvent]]:
        reader = VLLMReader(fake.base_url, "m", retry=SOON)
        try:
            return await asyncio.gather(*(_all(reader) for _ in range(5)))
        finally:
            await reader.aclose()

    with running(fake):
        for events in asyncio.run(all_at_once()):
            assert events[-4:] == WHOLE
    assert len(fake.requests) == 5 + 7


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000/v1", "ftp://127.0.0.1/v1", "http:///v1", "http://127.0.0.1:99999/v1", "http://[::1/v1"]
)
def test_a_url_that_can_not_be_asked_is_refused_from_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{url!r} is not the URL")):
        VLLMReader(["http://127.0.0.1:8000/v1", url], "m")


@pytest.mark.parametrize("key", ["mine\n", "mine ", "m\tine", "schlüssel"])
def test_a_key_that_can_not_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="API key") as caught:
        VLLMReader("http://127.0.0.1:8000/v1", "m", api_key=key)
    assert key.strip() not in str(caught.value)
