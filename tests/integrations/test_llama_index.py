"""LlamaIndex: query engines that read through pages, pages as image nodes, and what happens at their edges."""

from __future__ import annotations

import asyncio
import inspect
import io
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core import Document, PromptTemplate, Settings, VectorStoreIndex
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import BaseSynthesizer, get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import ImageNode, MetadataMode, NodeRelationship, NodeWithScore, QueryBundle, TextNode
from PIL import Image

from glyph_pipeline import GlyphPipeline
from glyph_pipeline.errors import ConfigError, EmptyDocumentError, ReadError
from glyph_pipeline.integrations.llama_index import GlyphPages, GlyphSynthesizer
from tests.integrations.conftest import PATIENCE_S, in_loop, together
from tests.integrations.corpus import FERRET, FERRY, FILES, MILL, PENNY, embed
from tests.support.fake_openai import Held, refuses, says

Fakes = Callable[..., Any]
THINKING = {"reasoning": "Hm."}


class HashedWords(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return embed(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return embed(query)


class Fixed(BaseRetriever):
    """Finds the same nodes, whatever is asked."""

    def __init__(self, nodes: list[NodeWithScore]) -> None:
        self.nodes = nodes
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.nodes


@pytest.fixture(scope="module")
def retriever() -> BaseRetriever:
    """All documents of this repository, split by LlamaIndex's splitter, in its vector index."""
    documents = [Document(text=file.read_text("utf-8"), metadata={"file_name": file.name, "shelf": 7}) for file in FILES]
    splitter = TokenTextSplitter(chunk_size=256, chunk_overlap=20)
    index = VectorStoreIndex.from_documents(documents, transformations=[splitter], embed_model=HashedWords())
    return index.as_retriever(similarity_top_k=4)


@pytest.fixture
def two() -> list[NodeWithScore]:
    ferry = TextNode(text=FERRY, id_="a", metadata={"file_name": "ferry.txt"}, excluded_llm_metadata_keys=["file_name"])
    return [NodeWithScore(node=ferry, score=0.9), NodeWithScore(node=TextNode(text=MILL, id_="b"), score=0.5)]


@pytest.mark.ocr
@pytest.mark.parametrize("asked", [FERRET, PENNY], ids=["ferret", "penny"])
def test_a_query_engine_quotes_the_passage_and_names_its_node(
    asked: dict[str, Any], retriever: BaseRetriever, ocr_pipeline: GlyphPipeline
) -> None:
    engine = RetrieverQueryEngine(retriever, response_synthesizer=GlyphSynthesizer(ocr_pipeline))
    response = engine.query(asked["question"])
    assert all(words in str(response) for words in asked["must_quote"])
    nodes = {each.node.node_id: each.node for each in response.source_nodes}
    assert len(nodes) == 4
    told = response.metadata["glyph"]
    first = told["sources"][0]
    assert (first["document"], first["page"], first["metadata"]) == ("sample.txt", 1, {"file_name": "sample.txt", "shelf": 7})
    text = nodes[first["id"]].get_content(metadata_mode=MetadataMode.NONE)[first["start"] : first["end"]]
    assert all(words in text for words in asked["must_quote"])
    assert set(nodes) < set(response.metadata)  # as LlamaIndex has it: the metadata of each node by its id
    assert told["ratio"] == round(told["text_tokens"] / told["vision_tokens"], 4) > 1


def test_two_asynchronous_queries_overlap(two: list[NodeWithScore], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(together(2))
    engine = RetrieverQueryEngine(Fixed(two), response_synthesizer=GlyphSynthesizer(pipeline))

    async def both() -> list[Any]:
        return await asyncio.gather(engine.aquery("When did it run?"), engine.aquery("When did it burn?"))

    for response in in_loop(pipeline, both()):
        assert str(response) == "On Thursdays [ferry.txt, page 1]."
        assert [each["id"] for each in response.metadata["glyph"]["sources"]] == ["a"]
        assert response.metadata["glyph"]["prompt_tokens"] == 70


def test_two_asynchronous_streams_overlap(two: list[NodeWithScore], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(together(2))
    engine = RetrieverQueryEngine(Fixed(two), response_synthesizer=GlyphSynthesizer(pipeline, streaming=True))

    async def text(question: str) -> str:
        response = await engine.aquery(question)
        assert isinstance(response, AsyncStreamingResponse)
        pieces = [piece async for piece in response.async_response_gen()]
        assert response.metadata is not None
        assert [each["document"] for each in response.metadata["glyph"]["sources"]] == ["ferry.txt"]
        return "".join(pieces)

    async def both() -> list[str]:
        return await asyncio.gather(text("When?"), text("Where?"))

    assert in_loop(pipeline, both()) == ["On Thursdays [ferry.txt, page 1]."] * 2


@pytest.mark.parametrize("notebook", [False, True], ids=["no loop", "in a loop"])
def test_a_stream_gives_pieces_and_then_its_sources(notebook: bool, two: list[NodeWithScore], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(says([THINKING, {"content": "On "}, {"content": "Thursdays"}]))
    engine = RetrieverQueryEngine(Fixed(two), response_synthesizer=GlyphSynthesizer(pipeline, streaming=True))

    def ask() -> tuple[list[str], StreamingResponse]:
        response = engine.query("When?")
        assert isinstance(response, StreamingResponse)
        return list(response.response_gen), response

    async def cell() -> tuple[list[str], StreamingResponse]:
        return ask()

    pieces, response = in_loop(pipeline, cell()) if notebook else ask()
    assert pieces == ["On ", "Thursdays"]
    assert response.metadata is not None
    assert response.metadata["glyph"]["finish_reason"] == "stop"
    assert [each.node.node_id for each in response.source_nodes] == ["a", "b"]


def test_a_stream_that_is_left_ends_its_request(two: list[NodeWithScore], fake_pipeline: Fakes) -> None:
    held = Held([THINKING, {"content": "On "}])
    pipeline, _ = fake_pipeline(held)
    synthesizer = GlyphSynthesizer(pipeline, streaming=True)

    async def leave() -> None:
        response = await synthesizer.asynthesize("When?", two)
        assert isinstance(response, AsyncStreamingResponse)
        assert await anext(response.response_gen) == "On "
        await response.response_gen.aclose()
        assert await asyncio.to_thread(held.left.wait, PATIENCE_S)

    try:
        in_loop(pipeline, leave())
    finally:
        held.release()


def test_a_query_inside_a_running_loop(two: list[NodeWithScore], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(says([{"content": "On Thursdays"}]))
    engine = RetrieverQueryEngine(Fixed(two), response_synthesizer=GlyphSynthesizer(pipeline))

    async def cell() -> str:
        return str(engine.query("When?"))

    assert in_loop(pipeline, cell()) == "On Thursdays"


def test_no_llm_of_llama_index_is_looked_for(two: list[NodeWithScore], fake_pipeline: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "_llm", None)
    pipeline, _ = fake_pipeline(says([{"content": "On Thursdays"}]))
    assert str(GlyphSynthesizer(pipeline).synthesize("When?", two)) == "On Thursdays"
    assert Settings._llm is None


def test_texts_without_nodes_are_read_too(fake_pipeline: Fakes) -> None:
    pipeline, fake = fake_pipeline(says([THINKING, {"content": "On "}, {"content": "Thursdays"}]))
    assert GlyphSynthesizer(pipeline).get_response("When?", [FERRY, MILL]) == "On Thursdays"
    assert list(GlyphSynthesizer(pipeline, streaming=True).get_response("When?", [FERRY])) == ["On ", "Thursdays"]
    assert in_loop(pipeline, GlyphSynthesizer(pipeline).aget_response("When?", [FERRY, MILL])) == "On Thursdays"
    assert "document 1 page 1, document 2 page 1" in fake.requests[0]["messages"][0]["content"][-1]["text"]
    with pytest.raises(EmptyDocumentError):
        GlyphSynthesizer(pipeline).get_response("When?", [" "])


def test_pages_take_the_place_of_their_nodes(two: list[NodeWithScore]) -> None:
    long = NodeWithScore(node=TextNode(text=f"{FERRY}\n" * 200, id_="long", metadata={"file_name": "log.txt"}), score=0.1)
    pages = GlyphPages().postprocess_nodes([*two, long])
    assert [page.node.node_id for page in pages] == ["a-page-1", "b-page-1", "long-page-1", "long-page-2", "long-page-3"]
    assert [page.score for page in pages] == [0.9, 0.5, 0.1, 0.1, 0.1]
    first, third, fourth = pages[0].node, pages[2].node, pages[3].node
    assert isinstance(first, ImageNode)
    assert Image.open(first.resolve_image()).format == "PNG"
    assert first.relationships[NodeRelationship.SOURCE].node_id == "a"  # type: ignore[union-attr]
    place = fourth.metadata["glyph"]
    assert (place["document"], place["node_id"], place["page"]) == ("log.txt", "long", 2)
    assert place["start"] == third.metadata["glyph"]["end"]
    assert fourth.metadata["file_name"] == "log.txt"
    again = asyncio.run(GlyphPages().apostprocess_nodes([*two, long]))
    assert [page.node.to_dict() for page in again] == [page.node.to_dict() for page in pages]


@pytest.mark.skipif(
    "multimodal" not in inspect.signature(BaseSynthesizer.__init__).parameters,
    reason="LlamaIndex has multimodal synthesizers from 0.14.22 on",
)
def test_pages_go_through_a_query_engine_to_a_model_that_takes_images(two: list[NodeWithScore]) -> None:
    seen: list[Any] = []

    class Looking(MockLLM):
        def chat(self, messages: Any, **kwargs: Any) -> Any:
            seen.extend(block for message in messages for block in message.blocks)
            return super().chat(messages, **kwargs)

    synthesizer = get_response_synthesizer(
        llm=Looking(is_chat_model=True), multimodal=True, text_qa_template=PromptTemplate("{context_str} {query_str}")
    )
    engine = RetrieverQueryEngine(Fixed(two), response_synthesizer=synthesizer, node_postprocessors=[GlyphPages()])
    response = engine.query("When?")
    images = [block for block in seen if isinstance(block, ImageBlock)]
    assert len(images) == 2
    assert Image.open(io.BytesIO(images[0].resolve_image().read())).format == "PNG"
    # No word of the bookkeeping.
    assert "vision_tokens" not in "".join(getattr(block, "text", "") for block in seen)
    assert [each.node.metadata["glyph"]["node_id"] for each in response.source_nodes] == ["a", "b"]


def test_documents_with_the_same_name_keep_apart(fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(says([{"content": "[ferry.txt (2), page 1]"}]))
    nodes = [
        NodeWithScore(node=TextNode(text=text, id_=name, metadata={"file_name": "ferry.txt"})) for name, text in (("x", FERRY), ("y", MILL))
    ]
    response = GlyphSynthesizer(pipeline).synthesize("When?", nodes)
    assert [each["id"] for each in response.metadata["glyph"]["sources"]] == ["y"]  # type: ignore[index]


def test_nodes_without_a_name_are_called_by_their_place(fake_pipeline: Fakes) -> None:
    pipeline, fake = fake_pipeline(says([{"content": "[document 2, page 1]"}]))
    nodes = [NodeWithScore(node=TextNode(text=FERRY)), NodeWithScore(node=TextNode(text=MILL))]  # LlamaIndex gives them UUIDs
    response = GlyphSynthesizer(pipeline).synthesize("When?", nodes)
    assert [each["id"] for each in response.metadata["glyph"]["sources"]] == [nodes[1].node.node_id]  # type: ignore[index]
    assert nodes[0].node.node_id not in fake.requests[0]["messages"][0]["content"][-1]["text"]


@pytest.mark.parametrize("texts", [[], [" \n"]], ids=["none", "blank"])
def test_nothing_retrieved(texts: list[str], fake_pipeline: Fakes) -> None:
    pipeline, fake = fake_pipeline(says([{"content": "Hm."}]))
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    response = GlyphSynthesizer(pipeline, empty_response="Nothing there.").synthesize("When?", nodes)
    assert isinstance(response, Response)
    assert str(response) == "Nothing there."
    assert str(GlyphSynthesizer(pipeline, streaming=True).synthesize("When?", nodes)) == "Empty Response"
    assert GlyphPages().postprocess_nodes(nodes) == []

    async def streamed() -> str:
        response = await GlyphSynthesizer(pipeline, streaming=True).asynthesize("When?", nodes)
        assert isinstance(response, AsyncStreamingResponse)
        return "".join([piece async for piece in response.async_response_gen()])

    assert in_loop(pipeline, streamed()) == "Empty Response"
    assert fake.requests == []


def test_errors_come_through_as_they_are(two: list[NodeWithScore], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(refuses(400, "no images here"))
    engine = RetrieverQueryEngine(Fixed(two), response_synthesizer=GlyphSynthesizer(pipeline))
    with pytest.raises(ReadError, match="no images here"):
        engine.query("When?")
    with pytest.raises(ReadError, match="no images here"):
        in_loop(pipeline, engine.aquery("When?"))
    with pytest.raises(ConfigError, match="unknown key 'dots'"):
        GlyphPages({"dots": 3})
