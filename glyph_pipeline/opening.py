"""Opening: where a pipeline reads, and the connection to it. Finds servers; starts none, draws and asks nothing."""

from __future__ import annotations

from dataclasses import dataclass

from glyph_pipeline.connection import Connection
from glyph_pipeline.errors import GlyphError, ServerUnreachableError, UsageError
from glyph_pipeline.pagestore import PageStore
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.reading.reader import Reader
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.serving import GlyphServer, normalize_base_url


@dataclass(frozen=True, slots=True)
class Place:
    """What a pipeline was told of where to read (see GlyphPipeline): at most one of ``urls``, ``server`` and ``reader``. With a ``store``
    servers are sent a page once, and it is known there what they were sent."""

    urls: tuple[str, ...] | None
    model: str | None
    server: GlyphServer | None
    reader: Reader | None
    api_key: str | None
    sampling: Sampling
    retry: RetryPolicy
    read_timeout: float
    store: PageStore | None

    def open(self) -> Connection:
        """The connection. Raises ServerError if no server answers, ConfigError for a bad URL or key."""
        if self.reader is not None:
            return Connection(self.reader)
        servers = self._servers()
        if not servers and self.model is not None:
            raise ServerUnreachableError(
                f"No server on this machine serves {self.model!r}.",
                hint="Start one (glyph-compress serve, GlyphServer.launch), or give base_url.",
            )
        if not servers:
            return Connection(OCRReader())
        api_key = self.api_key or (self.server.api_key if self.server is not None else None)
        served = [server.info.require(server.model) for server in servers]
        revive = self.server.revive if self.server is not None and self.server.owned else None
        reader = VLLMReader(
            # Those that don't answer now may later: they are asked when no other is left.
            list(dict.fromkeys([server.base_url for server in servers] + [normalize_base_url(url) for url in self.urls or ()])),
            served[0].id,
            api_key=api_key,
            sampling=self.sampling,
            read_timeout=self.read_timeout,
            retry=self.retry,
            revive=revive,
            page_folder=self.server.page_folder if self.server is not None else None,
            image_uuids=self.store is not None,
            uuid_folder=None if self.store is None else self.store.sent_folder,
        )
        return Connection.to_server(reader, served, api_key, self.retry, revive)

    def _servers(self) -> list[GlyphServer]:
        """The servers that answer. Raises what the first says if none does."""
        if self.server is not None:
            return [self.server]
        if self.urls is None:
            server = GlyphServer.find(self.model, api_key=self.api_key)
            return [] if server is None else [server]
        found: list[GlyphServer] = []
        problem: GlyphError | None = None
        for url in self.urls:
            try:
                found.append(GlyphServer.adopt(url, self.model or (found[0].model if found else None), api_key=self.api_key))
            except ServerUnreachableError as e:
                problem = problem or e
        if not found:
            raise problem or UsageError("base_url is an empty list.", hint="Name at least one server.")
        return found
