"""The proxy's endpoints as an ASGI application. Knows no sockets, no signals and no command line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from glyph_pipeline.proxy.bodies import Receive, check_media, parse_object, read_body
from glyph_pipeline.proxy.guard import Guard
from glyph_pipeline.proxy.metrics import CONTENT_TYPE, ProxyMetrics
from glyph_pipeline.proxy.openapi import openapi
from glyph_pipeline.proxy.pagecache import PageCache
from glyph_pipeline.proxy.refusal import RefusalError, error_object
from glyph_pipeline.proxy.relay import Relay, Send, unless_gone
from glyph_pipeline.proxy.rewriting import Rewriter
from glyph_pipeline.proxy.settings import ProxySettings
from glyph_pipeline.proxy.upstream import Upstream

WISH_HEADER = "x-glyph-draw"


def create_app(settings: ProxySettings) -> Starlette:
    """The application. What it opens lives from its lifespan's startup to its shutdown, in one event loop."""
    proxy = _Proxy(settings)
    app = Starlette(
        routes=[
            Route("/v1/models", proxy.models, methods=["GET"]),
            Route("/v1/chat/completions", _Asgi(proxy.chat), methods=["POST"]),
            Route("/health", proxy.health, methods=["GET"]),
            Route("/metrics", proxy.metrics_text, methods=["GET"]),
            Route("/openapi.json", proxy.openapi_json, methods=["GET"]),
        ],
        middleware=[Middleware(Guard, settings=settings, metrics=proxy.metrics)],
        exception_handlers={HTTPException: _not_here},
        lifespan=proxy.lifespan,
    )
    app.router.redirect_slashes = False
    return app


class _Asgi:
    """Makes Starlette take a method for an ASGI application rather than for one that returns a response."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Proxy:
    def __init__(self, settings: ProxySettings) -> None:
        self._settings = settings
        self.metrics = ProxyMetrics()
        self._upstream: Upstream
        self._rewriter: Rewriter

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        settings, metrics = self._settings, self.metrics
        self._upstream = Upstream(settings)
        cache = PageCache(
            settings.drawing,
            settings.workers,
            settings.cache_bytes,
            settings.draw_timeout,
            observe=metrics.drew,
            found=metrics.looked_up,
        )
        self._rewriter = Rewriter(settings.policy, cache, self._upstream, metrics)
        try:
            yield
        finally:
            try:
                await cache.aclose()
            finally:
                await self._upstream.aclose()

    async def chat(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        check_media(given)
        body = await read_body(receive, given, self._settings.max_body_bytes, self._settings.client_timeout)
        data = parse_object(body)
        headers = self._upstream.request_headers(scope["headers"])

        async def work() -> None:
            rewritten = await self._rewriter.rewrite(body, data, given.get(WISH_HEADER), headers)
            self.metrics.saved(rewritten.savings)
            await self._relay(send).forward(
                "POST", "/chat/completions", headers, rewritten.body, rewritten.savings, in_stream=_wants_usage(data)
            )

        await unless_gone(receive, work())

    async def models(self, request: Request) -> Response:
        headers = self._upstream.request_headers(request.scope["headers"])
        return _Forwarded(lambda send: self._relay(send).forward("GET", "/models", headers))

    async def health(self, request: Request) -> Response:
        well = await self._upstream.answers()
        return _json({"status": "ok" if well else "upstream unreachable"}, 200 if well else 503)

    async def metrics_text(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def openapi_json(self, request: Request) -> Response:
        return _json(openapi())

    def _relay(self, send: Send) -> Relay:
        return Relay(self._upstream, self.metrics, send, self._settings.client_timeout)


class _Forwarded(Response):
    """A response that is the upstream's."""

    def __init__(self, forward: Any) -> None:
        super().__init__()
        self._forward = forward

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await unless_gone(receive, self._forward(send))


def _wants_usage(data: dict[str, Any]) -> bool:
    options = data.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _json(data: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(data), status, media_type="application/json")


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        refusal = RefusalError(405, f"This endpoint doesn't take {request.method}.", kind="bad_request", code="method_not_allowed")
    else:
        refusal = RefusalError(
            404, "There is no such endpoint here; /openapi.json lists those there are.", kind="not_found", code="not_found"
        )
    data = error_object(refusal.status, refusal.message, refusal.code)
    return Response(json.dumps(data), refusal.status, headers=error.headers, media_type="application/json")
