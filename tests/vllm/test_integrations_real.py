"""LangChain, LlamaIndex and Haystack with the real vLLM: the protocol end to end, sync, async and streamed, as many tokens as predicted."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before Haystack is imported

import pytest
from haystack import Document as HaystackDocument
from haystack import Pipeline
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from langchain_core.documents import Document as LangChainDocument
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_text_splitters import RecursiveCharacterTextSplitter
from llama_index.core import Document as LlamaDocument
from llama_index.core.base.response.schema import AsyncStreamingResponse
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.schema import NodeWithScore
from openai import OpenAI

from glyph_pipeline import GlyphPipeline
from glyph_pipeline.integrations import haystack, langchain, llama_index
from glyph_pipeline.integrations.retrieved import RetrievedAnswer
from glyph_pipeline.serving import GlyphServer

pytestmark = pytest.mark.vllm

SAMPLE = (Path(__file__).parents[2] / "docs" / "sample.txt").read_text("utf-8")
QUESTION = "What pet did the night observer Quill have?"


@pytest.fixture
def pipeline(tiny_server: GlyphServer) -> Iterator[GlyphPipeline]:
    with GlyphPipeline(server=tiny_server) as made:
        yield made


@pytest.fixture(scope="module")
def says(tiny_model: Path) -> str:
    """What the tiny model answers, whatever it is asked."""
    words: str = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))["answer"]
    return words


def test_langchain(pipeline: GlyphPipeline, says: str) -> None:
    splitter = RecursiveCharacterTextSplitter(chunk_size=900, chunk_overlap=0)
    found = splitter.split_documents([LangChainDocument(SAMPLE, metadata={"source": "sample.txt"})])[:5]
    chain = {"documents": RunnableLambda(lambda _: found), "question": RunnablePassthrough()} | langchain.GlyphReader(pipeline)
    answer = chain.invoke(QUESTION)
    assert isinstance(answer, RetrievedAnswer)
    assert (answer.text, answer.report.documents) == (says, 5)
    assert answer.reasoning
    assert answer.usage.prompt_tokens == answer.windows[0].predicted_prompt_tokens
    assert "".join(chain.stream(QUESTION)) == says

    async def in_a_loop() -> tuple[str, list[str], str]:
        async with pipeline:
            for _ in range(5):  # what vLLM's engine says while its API server is busy comes together, of a short answer perhaps all
                pieces = [piece async for piece in chain.astream(QUESTION)]
                if len(pieces) > 1:
                    break
            (document,) = await langchain.GlyphDocumentCompressor(pipeline).acompress_documents(found, QUESTION)
            return (await chain.ainvoke(QUESTION)).text, pieces, document.page_content

    text, pieces, compressed = asyncio.run(in_a_loop())
    assert text == "".join(pieces) == compressed == says
    assert len(pieces) > 1


def test_pages_as_message_content_of_another_client(tiny_server: GlyphServer, says: str) -> None:
    blocks = langchain.pages_content([LangChainDocument(SAMPLE[:3000])], form="openai", labels=True)
    message = HumanMessage([*blocks, {"type": "text", "text": QUESTION}])
    messages: Any = [{"role": "user", "content": message.content}]
    with OpenAI(base_url=tiny_server.base_url, api_key="none") as client:
        done = client.chat.completions.create(model=tiny_server.model, messages=messages, max_tokens=200, temperature=0)
    assert done.choices[0].message.content == says


def test_llama_index(pipeline: GlyphPipeline, says: str) -> None:
    splitter = TokenTextSplitter(chunk_size=200, chunk_overlap=0)
    split = splitter.get_nodes_from_documents([LlamaDocument(text=SAMPLE, metadata={"file_name": "sample.txt"})])[:5]
    nodes = [NodeWithScore(node=node, score=1.0) for node in split]
    synthesizer = llama_index.GlyphSynthesizer(pipeline)
    streaming = llama_index.GlyphSynthesizer(pipeline, streaming=True)
    response = synthesizer.synthesize(QUESTION, nodes)
    assert str(response) == says
    assert response.metadata is not None
    assert response.metadata["glyph"]["prompt_tokens"] > response.metadata["glyph"]["vision_tokens"]
    assert str(streaming.synthesize(QUESTION, nodes)) == says

    async def in_a_loop() -> list[str]:
        async with pipeline:
            streamed = await streaming.asynthesize(QUESTION, nodes)
            assert isinstance(streamed, AsyncStreamingResponse)
            both = await asyncio.gather(*[synthesizer.asynthesize(QUESTION, nodes) for _ in range(2)])
            return [*map(str, both), "".join([piece async for piece in streamed.async_response_gen()])]

    assert asyncio.run(in_a_loop()) == [says] * 3


def test_haystack(tiny_server: GlyphServer, says: str) -> None:
    store = InMemoryDocumentStore()
    documents = [HaystackDocument(content=SAMPLE, meta={"file_name": "sample.txt"})]
    store.write_documents(DocumentSplitter(split_by="word", split_length=160).run(documents)["documents"])
    chain = Pipeline()
    chain.add_component("retriever", InMemoryBM25Retriever(store, top_k=4))
    chain.add_component("reader", haystack.GlyphReader(tiny_server.base_url))
    chain.connect("retriever.documents", "reader.documents")
    asked: dict[str, Any] = {"retriever": {"query": QUESTION}, "reader": {"query": QUESTION}}
    answer = chain.run(asked)["reader"]["answers"][0]
    assert (answer.data, len(answer.documents)) == (says, 4)
    assert answer.meta["reader"] == tiny_server.model

    async def in_a_loop() -> str:
        result = await chain.run_async(asked)
        await chain.close_async()
        text: str = result["reader"]["answers"][0].data
        return text

    assert asyncio.run(in_a_loop()) == says
