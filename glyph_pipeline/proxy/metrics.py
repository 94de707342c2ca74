"""ProxyMetrics: what Prometheus is told. Numbers only; knows no texts, no models and no clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from glyph_pipeline.proxy.savings import Savings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_DRAW_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_UPSTREAM_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class ProxyMetrics:
    """The counters of one proxy, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("glyph_proxy_requests", "Requests, by endpoint and status", ["endpoint", "status"], registry=registry)
        self._drawn = Counter("glyph_proxy_drawn_requests", "Requests with a text drawn", registry=registry)
        self._texts = Counter("glyph_proxy_drawn_texts", "Texts drawn", registry=registry)
        self._pages = Counter("glyph_proxy_pages", "Pages sent in place of text", registry=registry)
        self._text_tokens = Counter("glyph_proxy_text_tokens_replaced", "Text tokens that pages stand for", registry=registry)
        self._vision_tokens = Counter("glyph_proxy_vision_tokens", "Vision tokens of these pages, markers included", registry=registry)
        self._kept = Counter("glyph_proxy_texts_kept", "Texts left as they are, by reason", ["reason"], registry=registry)
        self._cache = Counter("glyph_proxy_page_cache", "Looks for drawn pages, by outcome", ["outcome"], registry=registry)
        self._errors = Counter("glyph_proxy_errors", "What went wrong, by kind", ["kind"], registry=registry)
        self._drawing = Histogram("glyph_proxy_draw_seconds", "Seconds of drawing a text", buckets=_DRAW_SECONDS, registry=registry)
        self._first = Histogram(
            "glyph_proxy_upstream_first_byte_seconds", "Seconds until the upstream's headers", buckets=_UPSTREAM_SECONDS, registry=registry
        )
        self._upstream = Histogram(
            "glyph_proxy_upstream_seconds", "Seconds until the upstream's last byte", buckets=_UPSTREAM_SECONDS, registry=registry
        )
        self._in_flight = Gauge("glyph_proxy_in_flight", "Requests under way", registry=registry)

    def request(self, endpoint: str, status: int) -> None:
        """A request was answered; ``endpoint`` is one of ours, never a client's path."""
        self._requests.labels(endpoint, str(status)).inc()

    def saved(self, savings: Savings) -> None:
        """A request was sent on with ``savings``."""
        if savings.texts:
            self._drawn.inc()
            self._texts.inc(savings.texts)
            self._pages.inc(savings.pages)
            self._text_tokens.inc(savings.text_tokens)
            self._vision_tokens.inc(savings.vision_tokens)

    def kept(self, reason: str) -> None:
        """A text stayed text."""
        self._kept.labels(reason).inc()

    def error(self, kind: str) -> None:
        """Something went wrong."""
        self._errors.labels(kind).inc()

    def looked_up(self, hit: bool) -> None:
        """Drawn pages were looked for."""
        self._cache.labels("hit" if hit else "miss").inc()

    def drew(self, seconds: float) -> None:
        """A text was drawn."""
        self._drawing.observe(seconds)

    def upstream_began(self, seconds: float) -> None:
        """The upstream sent its headers."""
        self._first.observe(seconds)

    def upstream_ended(self, seconds: float) -> None:
        """The upstream sent its last byte."""
        self._upstream.observe(seconds)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Counts a request while the block runs."""
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
