"""PageCache: pages of a text, drawn once for all who ask at a time, and kept while there is room. Knows no messages and no tokens."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from glyph_pipeline.batch.drawing import DrawingPool
from glyph_pipeline.batch.worker import DrawTask
from glyph_pipeline.document import Document
from glyph_pipeline.errors import GlyphError
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.tokens.text import encodable
from glyph_pipeline.tokens.vision import VisionArithmetic


@dataclass(frozen=True, slots=True)
class DrawnText:
    """The pages of a text as PNG data URLs, in order, and their vision tokens, the markers of each page among them."""

    urls: tuple[str, ...]
    vision_tokens: int

    @property
    def size(self) -> int:
        """Bytes kept."""
        return sum(map(len, self.urls)) + 200


def digest_of(text: str) -> bytes:
    """What a text is known by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class PageCache:
    """Draws texts in processes of their own and keeps the pages of those used last, ``capacity`` bytes in all.

    Bound to the event loop it is used in; close it. ``observe(seconds)`` is told of each drawing, ``found(hit)`` of each look.
    """

    def __init__(
        self,
        drawing: RenderConfig | Mapping[str, Any],
        workers: int,
        capacity: int,
        seconds: float,
        *,
        observe: Callable[[float], object] = lambda seconds: None,
        found: Callable[[bool], object] = lambda hit: None,
    ) -> None:
        self._drawing = drawing
        self._pool = DrawingPool(workers)
        self._capacity = capacity
        self._seconds = seconds
        self._observe = observe
        self._found = found
        self._kept: OrderedDict[tuple[bytes, VisionArithmetic], DrawnText] = OrderedDict()
        self._size = 0
        self._under_way: dict[tuple[bytes, VisionArithmetic], asyncio.Task[DrawnText]] = {}
        self._slots = asyncio.Semaphore(max(1, workers))

    async def pages(self, text: str, vision: VisionArithmetic) -> DrawnText:
        """The pages of ``text``. Raises GlyphError if it can't be drawn, or not in time.

        Who stops waiting does not stop the drawing: others may wait for it too, and its pages are kept.
        """
        key = (digest_of(text), vision)
        kept = self._kept.get(key)
        self._found(kept is not None)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._draw(text, vision, key))
            task.add_done_callback(lambda done: self._over(key, done))
        return await asyncio.shield(task)

    def _over(self, key: tuple[bytes, VisionArithmetic], task: asyncio.Task[DrawnText]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains where nobody waits any more

    async def _draw(self, text: str, vision: VisionArithmetic, key: tuple[bytes, VisionArithmetic]) -> DrawnText:
        task = DrawTask("", (Document(encodable(text)),), None, self._drawing, vision, count=False)
        async with self._slots:  # the time counts from when there is a worker
            try:
                item = await asyncio.wait_for(self._pool.draw(task), self._seconds)
            except asyncio.TimeoutError:
                raise GlyphError(
                    f"Drawing a text took longer than {self._seconds:g} s.", hint="It stays text; lower --max-chars."
                ) from None
        self._observe(item.seconds)
        pages, report = item.compressed.pages, item.compressed.report
        urls = tuple("data:image/png;base64," + base64.b64encode(page.png).decode("ascii") for page in pages)
        drawn = DrawnText(urls, report.vision_tokens + vision.markers * len(pages))
        self._keep(key, drawn)
        return drawn

    def _keep(self, key: tuple[bytes, VisionArithmetic], drawn: DrawnText) -> None:
        if drawn.size > self._capacity:
            return
        self._kept[key] = drawn
        self._size += drawn.size
        while self._size > self._capacity:
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.size

    async def aclose(self) -> None:
        """End what is under way, and the processes."""
        self._pool.close()
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
