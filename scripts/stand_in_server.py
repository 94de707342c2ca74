"""A fast stand-in for a model server, to measure all that is not the model: answers with a hash of what it was sent. Reads no page.

Usage: ``stand_in_server.py [--port N]``, run by a Python that has the package and the extra ``proxy``. Prints its URL, then serves on
127.0.0.1 until it is ended. It speaks as much of vLLM's API as glyph-compress uses: /v1/models, /version, /health, /tokenize (a token for
every 4 characters, a picture's marks as 3) and streamed /v1/chat/completions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL = "stand-in"
CONTEXT = 131072
_PAGE = "<|begin_of_image|><|image|><|end_of_image|>"


def tokens(text: str) -> int:
    pages = text.count(_PAGE)
    return 3 * pages + (len(text) - pages * len(_PAGE) + 3) // 4


async def models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": CONTEXT}]})


async def version(request: Request) -> Response:
    return JSONResponse({"version": "stand-in"})


async def tokenize(request: Request) -> Response:
    body = json.loads(await request.body())
    text = body.get("prompt")
    count = tokens(text) if text is not None else 20 + tokens(body["messages"][0]["content"])
    return JSONResponse({"count": count, "max_model_len": CONTEXT, "tokens": []})


async def chat(request: Request) -> Response:
    body = json.loads(await request.body())
    answer = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:16]

    def event(**fields: Any) -> bytes:
        frame = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": MODEL, **fields}
        return b"data: " + json.dumps(frame).encode() + b"\n\n"

    async def events() -> AsyncIterator[bytes]:
        yield event(choices=[{"index": 0, "delta": {"content": f"<answer>{answer}</answer>"}, "finish_reason": "stop"}])
        yield event(choices=[], usage={"prompt_tokens": 0, "completion_tokens": 8, "total_tokens": 8})
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    routes = [
        Route("/v1/models", models),
        Route("/version", version),
        Route("/health", version),
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/v1/chat/completions", chat, methods=["POST"]),
    ]
    listening = socket.create_server(("127.0.0.1", options.port))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", flush=True)
    config = uvicorn.Config(Starlette(routes=routes), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
