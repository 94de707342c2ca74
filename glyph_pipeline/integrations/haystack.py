"""Haystack: a reader component and a pages component. Draws and asks nothing itself.

Importing this switches Haystack's telemetry off, unless HAYSTACK_TELEMETRY_ENABLED is set.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from glyph_pipeline.answer import Answer
from glyph_pipeline.background import unattended
from glyph_pipeline.document import Document as GlyphDocument
from glyph_pipeline.errors import ConfigError, MissingExtraError, UsageError
from glyph_pipeline.integrations.options import config_of, drawn, pipeline_of
from glyph_pipeline.integrations.retrieved import Retrieved, account, cited
from glyph_pipeline.pipeline import GlyphPipeline
from glyph_pipeline.rendering.config import RenderConfig

_TELEMETRY = "HAYSTACK_TELEMETRY_ENABLED"


def _keep_private() -> None:
    """Haystack tells PostHog which components a pipeline runs. Here nothing is sent that the user did not ask for."""
    if _TELEMETRY not in os.environ:
        os.environ[_TELEMETRY] = "False"  # read when Haystack is imported
        loaded = sys.modules.get("haystack.telemetry._telemetry")
        if loaded is not None:
            loaded.telemetry = None  # type: ignore[attr-defined]


_keep_private()
try:
    from haystack import Document, GeneratedAnswer, component, default_from_dict, default_to_dict
    from haystack.dataclasses import ImageContent
    from haystack.utils import Secret
except ImportError as e:
    raise MissingExtraError("Reading in Haystack", "haystack", package="haystack-ai") from e


@component
class GlyphReader:
    """Answers a query from documents by reading their pages.

    ``run(query, documents)`` gives ``answers``: one GeneratedAnswer. Its ``documents`` are those that the answer cites, or all that were
    read if it cites none; its ``meta`` has ``sources`` (each page cited: document, id, page, start, end in characters, the document's
    meta) and the account: ratio, tokens, reader, finish_reason and so on. Where no document has text, ``answers`` is empty.

    The parameters are those of a GlyphPipeline that can stand in a pipeline's YAML (see PipelineOptions); ``api_key`` is a Secret.
    ``pipeline`` is one that exists already; such a component can't be serialised.

    Raises ConfigError and UsageError when it is made; GlyphError when it reads.
    """

    def __init__(
        self,
        base_url: str | list[str] | None = None,
        model: str | None = None,
        config: str | RenderConfig | dict[str, Any] | None = None,
        *,
        reader: str | None = None,
        api_key: Secret | None = None,
        max_tokens: int | None = None,
        concurrency: int | None = None,
        overlap: int | None = None,
        max_request_bytes: int | None = None,
        cite: bool | None = None,
        read_timeout: float | None = None,
        pipeline: GlyphPipeline | None = None,
    ) -> None:
        if api_key is not None and not isinstance(api_key, Secret):
            raise ConfigError("api_key is no Secret.", hint='Give Secret.from_env_var("NAME"), or Secret.from_token(...).')
        if reader is not None and not isinstance(reader, str):
            raise ConfigError(
                "reader is no text.", hint="Give 'ocr', or a reader of your own by way of pipeline=GlyphPipeline(reader=...)."
            )
        options = {
            "base_url": base_url,
            "model": model,
            "config": config,
            "reader": reader,
            "max_tokens": max_tokens,
            "concurrency": concurrency,
            "overlap": overlap,
            "max_request_bytes": max_request_bytes,
            "cite": cite,
            "read_timeout": read_timeout,
        }
        self._options = {name: value for name, value in options.items() if value is not None}
        self._api_key = api_key
        self._given = pipeline
        # Bad options should be told now, the key is looked for when it is needed.
        pipeline_of(pipeline, self._options | ({} if api_key is None else {"api_key": None}))
        self._pipeline = pipeline

    def to_dict(self) -> dict[str, Any]:
        """The component as plain types. Raises UsageError with a ``pipeline`` of the user's own; ValueError for a key given as it is."""
        if self._given is not None:
            raise UsageError("A GlyphReader with pipeline= can't be serialised.", hint="Give it base_url, model, config and so on instead.")
        return default_to_dict(self, **_plain(self._options), api_key=self._api_key)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GlyphReader:
        """The component that :meth:`to_dict` told of."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Resolve the key and find the server, if one is to be asked. Raises ServerError if none answers."""
        if self._pipeline is None:
            key = {} if self._api_key is None else {"api_key": self._api_key.resolve_value()}
            pipeline = pipeline_of(None, self._options | key)
            pipeline.counters()
            self._pipeline = pipeline

    async def warm_up_async(self) -> None:
        """:meth:`warm_up`, which may wait for a server, beside the event loop."""
        await unattended(self.warm_up)

    @component.output_types(answers=list[GeneratedAnswer])
    def run(self, query: str, documents: list[Document]) -> dict[str, list[GeneratedAnswer]]:
        """The answer to ``query``. Works inside a running event loop too."""
        retrieved = _retrieved(documents)
        if not retrieved.documents:
            return {"answers": []}
        self.warm_up()
        assert self._pipeline is not None
        return {"answers": [_generated(query, self._pipeline.ask(retrieved.documents, query), retrieved)]}

    @component.output_types(answers=list[GeneratedAnswer])
    async def run_async(self, query: str, documents: list[Document]) -> dict[str, list[GeneratedAnswer]]:
        """:meth:`run` for async pipelines."""
        retrieved = _retrieved(documents)
        if not retrieved.documents:
            return {"answers": []}
        await self.warm_up_async()
        assert self._pipeline is not None
        return {"answers": [_generated(query, await self._pipeline.aask(retrieved.documents, query), retrieved)]}

    def close(self) -> None:
        """Close connections and engines, unless the pipeline is the user's own. They open again with the next question."""
        if self._pipeline is not None and self._given is None:
            self._pipeline.close()

    async def close_async(self) -> None:
        """:meth:`close` for async code."""
        if self._pipeline is not None and self._given is None:
            await self._pipeline.aclose()


@component
class GlyphPages:
    """Gives the pages of documents as ImageContents, for chat prompts.

    ``run(documents)`` gives ``images``, whose ``meta`` is that of their document, with ``glyph`` added: document (its name), id, page,
    start and end (in characters of its content), vision_tokens; and ``report``, the CompressionReport as a dict. Documents without text
    give no page; where none has any, ``images`` and ``report`` are empty. ``config`` as in PipelineOptions.

    Raises ConfigError when it is made; FontError when it draws.
    """

    def __init__(self, config: str | RenderConfig | dict[str, Any] | None = None) -> None:
        config_of(config)
        self._config = config

    def to_dict(self) -> dict[str, Any]:
        """The component as plain types."""
        return default_to_dict(self, **_plain({"config": self._config}))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GlyphPages:
        """The component that :meth:`to_dict` told of."""
        return default_from_dict(cls, data)

    @component.output_types(images=list[ImageContent], report=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The pages of ``documents``, in their order."""
        retrieved = _retrieved(documents)
        if not retrieved.documents:
            return {"images": [], "report": {}}
        compressed = drawn(retrieved.documents, self._config)
        images = []
        for page in compressed.pages:
            citation = retrieved.of_page(page)
            place = {"document": citation.name, "id": citation.document.id, "page": page.number, "start": page.start, "end": page.end}
            meta = {**citation.document.meta, "glyph": {**place, "vision_tokens": page.vision_tokens}}
            images.append(ImageContent(base64.b64encode(page.png).decode("ascii"), "image/png", meta=meta, validation=False))
        return {"images": images, "report": compressed.report.to_dict()}

    @component.output_types(images=list[ImageContent], report=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """:meth:`run` for async pipelines; draws beside the event loop."""
        return await asyncio.to_thread(self.run, documents)


def _retrieved(documents: Sequence[Document]) -> Retrieved[Document]:
    return Retrieved.of(documents, lambda document: GlyphDocument(document.content or "", document.id, document.meta))


def _generated(query: str, answer: Answer, retrieved: Retrieved[Document]) -> GeneratedAnswer:
    citations = retrieved.citations(answer)
    documents = list({id(citation.document): citation.document for citation in citations}.values()) or list(retrieved.originals)
    sources = [cited(citation, citation.document.id, citation.document.meta) for citation in citations]
    return GeneratedAnswer(data=answer.text, query=query, documents=documents, meta={"sources": sources, **account(answer)})


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.to_dict() if isinstance(value, RenderConfig) else value for name, value in options.items()}
