"""LlamaIndex: nodes as page images, and a response synthesizer that reads them. Draws and asks nothing itself."""

from __future__ import annotations

import asyncio
import base64
import inspect
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any

from pydantic import PrivateAttr

from glyph_pipeline.answer import Answer
from glyph_pipeline.document import Document
from glyph_pipeline.errors import MissingExtraError
from glyph_pipeline.integrations.options import config_of, drawn, pipeline_of
from glyph_pipeline.integrations.retrieved import Retrieved, account, cited
from glyph_pipeline.integrations.streaming import AnswerText, events_of
from glyph_pipeline.pipeline import GlyphPipeline

try:
    from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, Response, StreamingResponse
    from llama_index.core.callbacks import CBEventType, EventPayload
    from llama_index.core.indices import prompt_helper
    from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
    from llama_index.core.instrumentation.events.synthesis import SynthesizeEndEvent, SynthesizeStartEvent
    from llama_index.core.llms import MockLLM
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.prompts.mixin import PromptDictType
    from llama_index.core.response_synthesizers.base import BaseSynthesizer
    from llama_index.core.schema import ImageNode, MetadataMode, NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo
    from llama_index.core.types import RESPONSE_TEXT_TYPE
except ImportError as e:
    raise MissingExtraError("Reading in LlamaIndex", "llama-index", package="llama-index-core") from e

_dispatcher = get_dispatcher(__name__)


class GlyphPages(BaseNodePostprocessor):
    """Gives the pages of the retrieved nodes in their place, as ImageNodes: for a synthesizer or an LLM that takes images.

    ``config`` as in PipelineOptions. A page's ``metadata`` is that of its node, with ``glyph`` added: document (its name), node_id, page,
    start and end (in characters of the node's text), vision_tokens. Its SOURCE relationship is the node, its score the node's. Nodes
    without text give no page. Raises ConfigError when it is made; FontError when it draws."""

    _config: Any = PrivateAttr()

    def __init__(self, config: object = None) -> None:
        chosen = config_of(config)
        super().__init__()
        self._config = chosen

    @classmethod
    def class_name(cls) -> str:
        """How LlamaIndex names it."""
        return "GlyphPages"

    def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None) -> list[NodeWithScore]:
        retrieved = _retrieved(nodes)
        if not retrieved.documents:
            return []
        return [_page_node(retrieved, page) for page in drawn(retrieved.documents, self._config).pages]

    async def _apostprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._postprocess_nodes, nodes, query_bundle)


class GlyphSynthesizer(BaseSynthesizer):
    """Answers queries by reading the pages of the nodes; no LLM of LlamaIndex is asked, none is needed.

    ``GlyphSynthesizer(pipeline)``, or with the options of a pipeline (see PipelineOptions). With ``streaming`` the response is a stream of
    text. ``source_nodes`` are all nodes, as everywhere in LlamaIndex; ``response.metadata["glyph"]`` has ``sources`` (each page that the
    answer cites: document, id of the node, page, start, end in characters, the node's metadata) and the account: ratio, tokens, reader,
    finish_reason and so on. A stream adds it when it has ended. Where no node has text, the response is ``empty_response``.

    Raises ConfigError and UsageError when it is made; GlyphError when it reads.
    """

    def __init__(
        self,
        pipeline: GlyphPipeline | None = None,
        *,
        streaming: bool = False,
        empty_response: str | None = None,
        **options: Any,
    ) -> None:
        self.pipeline = pipeline_of(pipeline, options)
        # Without an LLM, LlamaIndex would look for its default, OpenAI's, and a key to it; without helpers it would load a tokenizer for
        # them, from the network if TIKTOKEN_CACHE_DIR is set. Nothing is asked of any of these.
        super().__init__(llm=MockLLM(), streaming=streaming, **_unused_helpers())
        self._empty = empty_response or "Empty Response"

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        pass

    def get_response(self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any) -> RESPONSE_TEXT_TYPE:
        """The answer from texts without nodes, or with ``streaming`` its pieces."""
        retrieved = _of_texts(text_chunks)
        retrieved.require()
        return self._pieces(retrieved, query_str, {}) if self._streaming else self.pipeline.ask(retrieved.documents, query_str).text

    async def aget_response(self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any) -> RESPONSE_TEXT_TYPE:
        """:meth:`get_response` for async code."""
        retrieved = _of_texts(text_chunks)
        retrieved.require()
        if self._streaming:
            return self._apieces(retrieved, query_str, {})
        return (await self.pipeline.aask(retrieved.documents, query_str)).text

    def synthesize(
        self,
        query: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """The response to a query. Works inside a running event loop too."""
        bundle = QueryBundle(query) if isinstance(query, str) else query
        retrieved = _retrieved(nodes)
        source_nodes = [*nodes, *(additional_source_nodes or ())]
        response: RESPONSE_TYPE
        _dispatcher.event(SynthesizeStartEvent(query=bundle))
        with self._callback_manager.event(CBEventType.SYNTHESIZE, payload={EventPayload.QUERY_STR: bundle.query_str}) as event:
            metadata = self._get_metadata_for_response([each.node for each in source_nodes]) or {}
            if not retrieved.documents:
                response = StreamingResponse(self._none()) if self._streaming else Response(self._empty)
            elif self._streaming:
                response = StreamingResponse(self._pieces(retrieved, bundle.query_str, metadata), source_nodes, metadata)
            else:
                answer = self.pipeline.ask(retrieved.documents, bundle.query_str)
                response = Response(answer.text, source_nodes, metadata | _told(answer, retrieved))
            event.on_end(payload={EventPayload.RESPONSE: response})
        _dispatcher.event(SynthesizeEndEvent(query=bundle, response=response))
        return response

    async def asynthesize(
        self,
        query: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """:meth:`synthesize` for async code."""
        bundle = QueryBundle(query) if isinstance(query, str) else query
        retrieved = _retrieved(nodes)
        source_nodes = [*nodes, *(additional_source_nodes or ())]
        response: RESPONSE_TYPE
        _dispatcher.event(SynthesizeStartEvent(query=bundle))
        with self._callback_manager.event(CBEventType.SYNTHESIZE, payload={EventPayload.QUERY_STR: bundle.query_str}) as event:
            metadata = self._get_metadata_for_response([each.node for each in source_nodes]) or {}
            if not retrieved.documents:
                response = AsyncStreamingResponse(self._anone()) if self._streaming else Response(self._empty)
            elif self._streaming:
                response = AsyncStreamingResponse(self._apieces(retrieved, bundle.query_str, metadata), source_nodes, metadata)
            else:
                answer = await self.pipeline.aask(retrieved.documents, bundle.query_str)
                response = Response(answer.text, source_nodes, metadata | _told(answer, retrieved))
            event.on_end(payload={EventPayload.RESPONSE: response})
        _dispatcher.event(SynthesizeEndEvent(query=bundle, response=response))
        return response

    def _none(self) -> Generator[str, None, None]:
        yield self._empty

    async def _anone(self) -> AsyncGenerator[str, None]:
        yield self._empty

    def _pieces(self, retrieved: Retrieved[Any], question: str, metadata: dict[str, Any]) -> Generator[str, None, None]:
        text = AnswerText(at_end=self.pipeline.repairs)
        with closing(events_of(self.pipeline, retrieved.documents, question)) as events:
            for event in events:
                if isinstance(event, Answer):
                    metadata |= _told(event, retrieved)
                if piece := text.feed(event):
                    yield piece

    async def _apieces(self, retrieved: Retrieved[Any], question: str, metadata: dict[str, Any]) -> AsyncGenerator[str, None]:
        text = AnswerText(at_end=self.pipeline.repairs)
        async with aclosing(self.pipeline.astream(retrieved.documents, question)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    metadata |= _told(event, retrieved)
                if piece := text.feed(event):
                    yield piece


def _unused_helpers() -> dict[str, Any]:
    """What every version of BaseSynthesizer takes of these: chat_prompt_helper came with LlamaIndex 0.14.22."""
    taken = inspect.signature(BaseSynthesizer.__init__).parameters
    kinds = {"prompt_helper": "PromptHelper", "chat_prompt_helper": "ChatPromptHelper"}
    return {name: getattr(prompt_helper, kind)(tokenizer=str.split) for name, kind in kinds.items() if name in taken}


def _retrieved(nodes: Sequence[NodeWithScore]) -> Retrieved[NodeWithScore]:
    return Retrieved.of(
        nodes, lambda each: Document(each.node.get_content(metadata_mode=MetadataMode.NONE), each.node.node_id, each.node.metadata)
    )


def _of_texts(texts: Sequence[str]) -> Retrieved[str]:
    return Retrieved.of(texts, Document)


def _told(answer: Answer, retrieved: Retrieved[Any]) -> dict[str, Any]:
    """What a response's metadata says of its answer."""
    sources = [
        cited(citation, citation.document.node.node_id, citation.document.node.metadata)
        for citation in retrieved.citations(answer)
        if isinstance(citation.document, NodeWithScore)
    ]
    return {"glyph": {"sources": sources, **account(answer)}}


def _page_node(retrieved: Retrieved[NodeWithScore], page: Any) -> NodeWithScore:
    citation = retrieved.of_page(page)
    node = citation.document.node
    place = {"document": citation.name, "node_id": node.node_id, "page": page.number, "start": page.start, "end": page.end}
    drawn_of = RelatedNodeInfo(node_id=node.node_id, node_type=node.get_type(), metadata=node.metadata, hash=node.hash)
    image = ImageNode(
        id_=f"{node.node_id}-page-{page.number}",
        image=base64.b64encode(page.png).decode("ascii"),
        image_mimetype="image/png",
        metadata={**node.metadata, "glyph": {**place, "vision_tokens": page.vision_tokens}},
        relationships={NodeRelationship.SOURCE: drawn_of},
        # What is said of the page is not for the model to read, nor to be embedded.
        excluded_llm_metadata_keys=[*node.excluded_llm_metadata_keys, "glyph"],
        excluded_embed_metadata_keys=[*node.excluded_embed_metadata_keys, "glyph"],
    )
    return NodeWithScore(node=image, score=citation.document.score)
