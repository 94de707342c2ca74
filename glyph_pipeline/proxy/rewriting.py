"""Rewriter: decides which texts of a request become pages, and puts the pages there. Knows no HTTP server and no responses."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from glyph_pipeline.errors import ConfigError, EmptyDocumentError, GlyphError
from glyph_pipeline.proxy.bodies import encode
from glyph_pipeline.proxy.messages import FIELD, Passage, passages, wants_drawing, with_pages
from glyph_pipeline.proxy.metrics import ProxyMetrics
from glyph_pipeline.proxy.pagecache import DrawnText, PageCache, digest_of
from glyph_pipeline.proxy.savings import Savings
from glyph_pipeline.proxy.settings import DrawPolicy
from glyph_pipeline.proxy.upstream import Headers, Upstream
from glyph_pipeline.tokens.text import Cl100kTokenizer, encodable
from glyph_pipeline.tokens.vision import VisionArithmetic

_log = logging.getLogger("glyph_pipeline.proxy")
_COUNTS_KEPT = 10_000
# Texts of one request that are counted and drawn side by side.
_AT_A_TIME = 8


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A request as it is sent on, and what drawing saved."""

    body: bytes
    savings: Savings


@dataclass(frozen=True, slots=True)
class _Drawn:
    passage: Passage
    text: DrawnText
    tokens: int
    tokenizer: str


class Rewriter:
    """Counts and draws for all requests of a proxy; bound to the event loop of its parts, which it does not close."""

    def __init__(self, policy: DrawPolicy, cache: PageCache, upstream: Upstream, metrics: ProxyMetrics) -> None:
        self._policy = policy
        self._cache = cache
        self._upstream = upstream
        self._metrics = metrics
        self._stand_in = Cl100kTokenizer()
        # Chat clients send the history with every turn: a text is counted once.
        self._counts: OrderedDict[tuple[str, bytes], tuple[int, str]] = OrderedDict()

    async def rewrite(self, body: bytes, data: dict[str, Any], wish: str | None, headers: Headers) -> Rewritten:
        """The request with pages in place of long texts; ``body`` itself, byte for byte, where there is nothing to change.

        ``data`` is ``body``, parsed; ``wish`` the header X-Glyph-Draw, ``headers`` those that go to the upstream. Raises RefusalError
        for a field or header of ours with another value than those allowed. A text that can't be drawn stays text.
        """
        found: list[Passage] = []
        if wants_drawing(data, wish):
            found = [passage for passage in passages(data, self._policy) if self._may_be_long(passage)]
        drawn: list[_Drawn] = []
        vision: VisionArithmetic | None = None
        if found:
            model = data.get("model")
            name = model if isinstance(model, str) else ""
            vision = await self._upstream.vision(name, headers)
            gate = asyncio.Semaphore(_AT_A_TIME)
            each = await asyncio.gather(*(self._drawn(passage, name, vision, headers, gate) for passage in found))
            drawn = [one for one in each if one is not None]
        if not drawn:
            return Rewritten(encode(with_pages(data, [])) if FIELD in data else body, Savings())
        assert vision is not None
        savings = Savings(
            texts=len(drawn),
            pages=sum(len(one.text.urls) for one in drawn),
            text_tokens=sum(one.tokens for one in drawn),
            vision_tokens=sum(one.text.vision_tokens for one in drawn),
            tokenizer=", ".join(dict.fromkeys(one.tokenizer for one in drawn)),
            family=vision.family,
        )
        return Rewritten(encode(with_pages(data, [(one.passage, one.text.urls) for one in drawn])), savings)

    def _may_be_long(self, passage: Passage) -> bool:
        """Most texts are short; a token is at least a byte, so these need no counting."""
        if len(passage.body) > self._policy.max_chars:
            self._metrics.kept("long")
            return False
        if 4 * len(passage.body) < self._policy.min_tokens or len(encodable(passage.body).encode()) < self._policy.min_tokens:
            self._metrics.kept("short")
            return False
        return True

    async def _drawn(
        self, passage: Passage, model: str, vision: VisionArithmetic, headers: Headers, gate: asyncio.Semaphore
    ) -> _Drawn | None:
        async with gate:
            tokens, tokenizer = await self._count(passage.body, model, headers)
            if tokens < self._policy.min_tokens:
                self._metrics.kept("short")
                return None
            try:
                text = await self._cache.pages(passage.body, vision)
            except EmptyDocumentError:
                self._metrics.kept("blank")
                return None
            except GlyphError as e:
                # Saving tokens is no reason to fail: the text goes on as it is. Only a configuration's message is sure to hold nothing of it.
                self._metrics.kept("failed")
                self._metrics.error("drawing")
                _log.warning("A text was not drawn: %s", e if isinstance(e, ConfigError) else type(e).__name__)
                return None
        if tokens <= text.vision_tokens or tokens < self._policy.min_ratio * text.vision_tokens:
            self._metrics.kept("ratio")
            return None
        return _Drawn(passage, text, tokens, tokenizer)

    async def _count(self, text: str, model: str, headers: Headers) -> tuple[int, str]:
        """Text tokens, and who counted: the upstream, else cl100k_base."""
        key = (model, digest_of(text))
        known = self._counts.get(key)
        if known is not None:
            self._counts.move_to_end(key)
            return known
        counted = await self._upstream.count(model, encodable(text), headers)
        if counted is None:
            return await asyncio.to_thread(self._stand_in.count, text), self._stand_in.name
        self._counts[key] = found = (counted, f"{model} (server's /tokenize)")
        if len(self._counts) > _COUNTS_KEPT:
            self._counts.popitem(last=False)
        return found
