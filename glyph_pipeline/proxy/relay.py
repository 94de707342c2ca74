"""Relay: the upstream's response to the client as it comes, and a client that leaves ends the upstream's request. Draws nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx

from glyph_pipeline.proxy.bodies import ClientGoneError, Receive
from glyph_pipeline.proxy.metrics import ProxyMetrics
from glyph_pipeline.proxy.refusal import RefusalError, error_object
from glyph_pipeline.proxy.savings import Savings
from glyph_pipeline.proxy.streams import UsageSplicer
from glyph_pipeline.proxy.upstream import Headers, Upstream, response_headers

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


_AGAIN_S = 0.5


class BrokenOffError(Exception):
    """The answer ended too early, and its status had been sent: all that can be done is not to end it well."""


async def unless_gone(receive: Receive, work: Awaitable[None]) -> None:
    """Run ``work``; cancel it as soon as the client closes its connection, and raise ClientGoneError then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        await task
    finally:
        await _ended(task, gone)


async def _ended(*tasks: asyncio.Future[None]) -> None:
    # More than once: what ends in the very moment of a cancellation may swallow it (asyncio.wait_for before Python 3.12 does).
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Relay:
    """One request to the upstream, and its response to a client; ``seconds`` is how long a client may take for a piece of it."""

    def __init__(self, upstream: Upstream, metrics: ProxyMetrics, send: Send, seconds: float) -> None:
        self._upstream = upstream
        self._metrics = metrics
        self._send = send
        self._seconds = seconds

    async def forward(
        self, method: str, path: str, headers: Headers, body: bytes | None = None, savings: Savings | None = None, in_stream: bool = False
    ) -> None:
        """Send it on and relay what comes back: status, headers and body are the upstream's.

        With ``savings`` the response gets the X-Glyph headers, and if something was drawn the JSON of an answer the field, too; that of a
        stream in its usage chunk if ``in_stream``. Raises RefusalError as long as nothing was sent, later BrokenOffError or ClientGoneError.
        """
        began = time.perf_counter()
        response = await self._upstream.send(method, path, headers, body)
        try:
            self._metrics.upstream_began(time.perf_counter() - began)
            if response.status_code >= 400:
                self._metrics.error("upstream_status")
            out = response_headers(response)
            if savings is not None:
                out += list(savings.headers().items())
            told = savings if savings is not None and savings.texts and response.status_code == 200 and _is_plain(response) else None
            if _media(response) == "text/event-stream":
                await self._stream(response, out, UsageSplicer(told) if told is not None and in_stream else None)
            else:
                await self._whole(response, out, told)
            self._metrics.upstream_ended(time.perf_counter() - began)
        finally:
            await response.aclose()

    async def _whole(self, response: httpx.Response, headers: Headers, savings: Savings | None) -> None:
        try:
            body = b"".join([piece async for piece in response.aiter_raw()])
        except httpx.HTTPError as e:
            raise self._upstream.failed(e) from e
        if savings is not None and _media(response) == "application/json":
            body = savings.spliced(body)
        await self._start(response.status_code, [*headers, ("content-length", str(len(body)))])
        await self._piece(body, more=False)

    async def _stream(self, response: httpx.Response, headers: Headers, splicer: UsageSplicer | None) -> None:
        await self._start(response.status_code, headers)
        try:
            async for piece in response.aiter_raw():
                ready = piece if splicer is None else splicer.feed(piece)
                if ready:
                    await self._piece(ready, more=True)
        except httpx.HTTPError as e:
            failed = self._upstream.failed(e)
            self._metrics.error(failed.kind)
            event = json.dumps(error_object(failed.status, failed.message, failed.code))
            # On a line of its own, whatever was cut off before it; and the body is left without its end, which is what happened.
            await self._piece(f"\n\ndata: {event}\n\n".encode(), more=True)
            raise BrokenOffError from e
        await self._piece(splicer.finish() if splicer is not None else b"", more=False)

    async def _start(self, status: int, headers: Headers) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _piece(self, body: bytes, *, more: bool) -> None:
        stalled = False

        def give_up() -> None:
            nonlocal stalled
            stalled = True
            if own is not None:
                own.cancel()

        own = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(self._seconds, give_up)
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except asyncio.CancelledError:
            if stalled:
                raise ClientGoneError from None
            raise
        finally:
            timer.cancel()


def _media(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _is_plain(response: httpx.Response) -> bool:
    return str(response.headers.get("content-encoding", "identity")).lower() == "identity"


async def refuse(send: Send, refusal: RefusalError) -> None:
    """Send a refusal's status and error object."""
    body = refusal.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
