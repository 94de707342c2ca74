"""A small OpenAI-compatible server for what the real one can't be made to do on demand: errors, cut streams, odd fields."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fake:
    """What the server does and what it was sent. ``reply(handler, body)`` answers a chat request."""

    reply: Callable[[Handler, dict[str, Any]], None]
    model: str = "fake/Glyph"
    max_model_len: int | None = 131072
    is_vllm: bool = True
    frame_tokens: int = 20
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
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")  # and so the connection is kept, as vLLM's are
        self.end_headers()
        chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        if finish is not None:
            chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if usage is not None:
            chunks.append({"choices": [], "usage": usage})
        for chunk in chunks:
            event = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": self.fake.model, **chunk}
            self.write_chunk(b"data: " + json.dumps(event).encode() + b"\n\n")
        if done:
            self.write_chunk(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def write_chunk(self, data: bytes) -> None:
        """One chunk of a chunked body, sent at once."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _chat_tokens(content: str) -> int:
    page = "<|begin_of_image|><|image|><|end_of_image|>"
    return 3 * content.count(page) + len(content.replace(page, ""))


@contextmanager
def running(fake: Fake) -> Iterator[Fake]:
    """Serve ``fake`` on a free port of 127.0.0.1."""
    handler = type("BoundHandler", (Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
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
