"""An upstream that keeps every request as it came, byte for byte, and answers with bytes that are given. Fast, and speaks for itself."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


@dataclass
class Taken:
    """One request."""

    method: str
    target: bytes
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """Status, headers and the pieces of a body; with ``cut`` the connection breaks after them."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    pieces: Sequence[bytes] = (json.dumps(ANSWER).encode(),)
    cut: bool = False


@dataclass
class Recorder:
    """The upstream. ``reply(taken)`` answers chat requests; with ``tokens`` (of a text) there is a /tokenize."""

    reply: Callable[[Taken], Reply] = lambda taken: Reply()
    tokens: Callable[[str], int] | None = None
    chats: list[Taken] = field(default_factory=list)
    tokenized: list[Taken] = field(default_factory=list)
    base_url: str = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        taken = Taken(scope["method"], target, headers, body)
        path = scope["path"]
        if path == "/v1/chat/completions":
            self.chats.append(taken)
            await _send(send, self.reply(taken))
        elif path == "/tokenize" and self.tokens is not None:
            self.tokenized.append(taken)
            await _send(send, _json({"count": self.tokens(taken.json["prompt"])}))
        elif path == "/v1/models":
            await _send(send, _json({"object": "list", "data": [{"id": "m", "object": "model"}]}))
        elif path == "/health":
            await _send(send, _json({}))
        else:
            await _send(send, Reply(404, pieces=[b'{"detail": "Not Found"}']))


def _json(data: Any) -> Reply:
    return Reply(pieces=[json.dumps(data).encode()])


async def _send(send: Any, reply: Reply) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for piece in reply.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if not reply.cut:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Serve it on a free port of 127.0.0.1."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.setblocking(False)
    recorder.base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    config = uvicorn.Config(recorder, lifespan="off", ws="none", http="h11", loop="asyncio", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    try:
        yield recorder
    finally:
        server.should_exit = True
        thread.join(60)
        listening.close()
