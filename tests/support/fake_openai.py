"""A small OpenAI-compatible server for what the real one can't be made to do on demand: errors, cut streams, odd fields."""

from __future__ import annotations

import itertools
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fake:
    """What the server does and what it was sent. ``reply(handler, body)`` answers a chat request.

    ``clock_off``: the seconds by which the server's own clock, and so its Date header, is ahead.
    """

    reply: Callable[[Handler, dict[str, Any]], None]
    model: str = "fake/Glyph"
    max_model_len: int | None = 131072
    is_vllm: bool = True
    frame_tokens: int = 20
    clock_off: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    base_url: str = ""


class Handler(BaseHTTPRequestHandler):
    """HTTP for :class:`Fake`."""

    protocol_version = "HTTP/1.1"
    timeout = 20  # seconds without a byte on a connection that was kept open
    fake: Fake

    def log_message(self, *_: object) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() + self.fake.clock_off if timestamp is None else timestamp)

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            entry = {"id": self.fake.model, "object": "model", "max_model_len": self.fake.max_model_len}
            self.send(200, {"object": "list", "data": [entry]})
        elif self.path == "/version" and self.fake.is_vllm:
            self.send(200, {"version": "0.0-fake"})
        elif self.path == "/health":
            self.send(200, {})
        else:
            self.send(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        if self.path.startswith("/moved"):
            self.fake.requests.append({"redirected": True})
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/tokenize" and self.fake.is_vllm:
            text = body.get("prompt")
            # One token a character for text; for a chat the frame, its question by characters, an image in it as 3.
            count = len(text) if text is not None else self.fake.frame_tokens + _chat_tokens(body["messages"][0]["content"])
            self.send(200, {"count": count, "max_model_len": self.fake.max_model_len, "tokens": []})
        elif self.path == "/v1/chat/completions":
            self.fake.requests.append(body)
            self.fake.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.fake.reply(self, body)
        else:
            self.send(404, {"detail": "Not Found"})

    def send(self, status: int, data: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        """A JSON answer."""
        payload = json.dumps(data).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(payload)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def stream(
        self, deltas: list[dict[str, Any]], finish: str | None = "stop", usage: dict[str, int] | None = None, done: bool = True
    ) -> None:
        """A stream of chat deltas; ``finish`` None leaves the reason out, ``done`` False breaks off without [DONE]."""
        self.begin(deltas)
        if finish is not None:
            self.write_event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if usage is not None:
            self.write_event({"choices": [], "usage": usage})
        if done:
            self.write_chunk(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def begin(self, deltas: Sequence[dict[str, Any]] = ()) -> None:
        """The beginning of a stream: its headers and ``deltas``."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")  # and so the connection is kept, as vLLM's are
        self.end_headers()
        for delta in deltas:
            self.write_event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    def write_event(self, chunk: dict[str, Any]) -> None:
        """One event of the stream; an ``error`` stands alone, as vLLM's does."""
        frame = {} if "error" in chunk else {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": self.fake.model}
        self.write_chunk(b"data: " + json.dumps({**frame, **chunk}).encode() + b"\n\n")

    def reset(self) -> None:
        """Cut the connection with an RST: what a killed machine or a middlebox does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())  # close() would wait for the files on top of the socket
        self.close_connection = True

    def write_chunk(self, data: bytes) -> None:
        """One chunk of a chunked body, sent at once."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _chat_tokens(content: str) -> int:
    page = "<|begin_of_image|><|image|><|end_of_image|>"
    return 3 * content.count(page) + len(content.replace(page, ""))


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # of many clients at once none has to knock again, however busy the machine


@contextmanager
def running(fake: Fake, port: int = 0) -> Iterator[Fake]:
    """Serve ``fake`` on a port of 127.0.0.1, by default a free one."""
    handler = type("BoundHandler", (Handler,), {"fake": fake})
    server = _Server(("127.0.0.1", port), handler)
    server.daemon_threads = False  # so that closing waits for the requests under way
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(deltas: list[dict[str, Any]], **options: Any) -> Callable[[Handler, dict[str, Any]], None]:
    """A reply that streams ``deltas``."""
    return lambda handler, body: handler.stream(deltas, **options)


def refuses(status: int, message: str, **headers: str) -> Callable[[Handler, dict[str, Any]], None]:
    """A reply that is an error in vLLM's form."""
    return lambda handler, body: handler.send(
        status, {"error": {"message": message, "type": "Error", "param": None, "code": status}}, headers
    )


def in_turn(*replies: Callable[[Handler, dict[str, Any]], None]) -> Callable[[Handler, dict[str, Any]], None]:
    """The first reply for the first request and so on; the last one for all that follow."""
    order = itertools.chain(replies, itertools.repeat(replies[-1]))
    lock = threading.Lock()

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        with lock:
            turn = next(order)
        turn(handler, body)

    return reply


def drops() -> Callable[[Handler, dict[str, Any]], None]:
    """A reply that closes the connection without a word."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.close_connection = True

    return reply


def resets(deltas: Sequence[dict[str, Any]], before: Callable[[], object] = lambda: None) -> Callable[[Handler, dict[str, Any]], None]:
    """A reply that streams ``deltas``, calls ``before`` and cuts the connection with an RST."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin(deltas)
        before()
        handler.reset()

    return reply


def fails_late(deltas: Sequence[dict[str, Any]], message: str, code: int | str | None = 500) -> Callable[[Handler, dict[str, Any]], None]:
    """A reply that streams ``deltas``, then an error event in vLLM's form."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin(deltas)
        handler.write_event({"error": {"message": message, "type": "Error", "param": None, "code": code}})
        handler.write_chunk(b"data: [DONE]\n\n")
        handler.wfile.write(b"0\r\n\r\n")

    return reply


@dataclass
class Held:
    """A reply that streams ``deltas`` and then says nothing until :meth:`release`; it then ends the stream as it should.

    ``waiting`` counts the requests held; ``left`` is set when a client has gone away from one.
    """

    deltas: Sequence[dict[str, Any]] = ()
    waiting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    left: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, handler: Handler, body: dict[str, Any]) -> None:
        handler.begin(self.deltas)
        self.waiting.release()
        if self.hold(handler):
            handler.write_event({"choices": [{"index": 0, "delta": {"content": "42"}, "finish_reason": "stop"}]})
            handler.write_chunk(b"data: [DONE]\n\n")
            handler.wfile.write(b"0\r\n\r\n")

    def hold(self, handler: Handler) -> bool:
        """Wait until release(), or until the client has gone away; whether it is still there."""
        handler.connection.settimeout(0.02)
        while not self._released.is_set():
            try:
                if not handler.connection.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            handler.connection.settimeout(handler.timeout)
            return True
        self.left.set()
        handler.close_connection = True
        return False

    def release(self) -> None:
        """Let all requests end."""
        self._released.set()
