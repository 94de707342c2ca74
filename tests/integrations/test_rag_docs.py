"""docs/rag.md: the chains it shows work before and after the change, and the change is five lines at most."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from haystack import Document as HaystackDocument
from haystack import component
from haystack.components.preprocessors import DocumentSplitter
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import FakeListChatModel
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter
from llama_index.core import Document as LlamaDocument
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import TokenTextSplitter

from glyph_pipeline import Document, GlyphPipeline, Page
from glyph_pipeline.integrations.options import PipelineOptions
from glyph_pipeline.integrations.retrieved import Retrieved
from glyph_pipeline.reading.reader import ReadEvent, ReadResult, Usage
from tests.integrations.corpus import DOCS, FERRET, embed

RAG = (DOCS / "rag.md").read_text("utf-8")
TEXT = (DOCS / "sample.txt").read_text("utf-8")


def program(framework: str, without: str) -> str:
    """The chain of the document without the lines that are marked so."""
    (diff,) = re.findall(rf"```diff {framework}\n(.*?)```", RAG, re.DOTALL)
    return "\n".join(line[1:] for line in diff.splitlines() if not line.startswith(without))


class LangChainWords(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embed(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return embed(text)


class LlamaWords(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return embed(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return embed(query)


@component
class Says:
    """A chat generator of Haystack's that always says the same."""

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage]) -> dict[str, Any]:
        return {"replies": [ChatMessage.from_assistant("A model's words.")]}


def given(framework: str) -> dict[str, Any]:
    """What the document takes for granted."""
    asked = {"question": FERRET["question"]}
    if framework == "langchain":
        pieces = RecursiveCharacterTextSplitter(chunk_size=900, chunk_overlap=0).split_documents([LangChainDocument(TEXT)])
        store = InMemoryVectorStore(LangChainWords())
        store.add_documents(pieces)
        return {**asked, "retriever": store.as_retriever(), "llm": FakeListChatModel(responses=["A model's words."])}
    if framework == "llama_index":
        splitter = TokenTextSplitter(chunk_size=200, chunk_overlap=0)
        return {**asked, "documents": [LlamaDocument(text=TEXT)], "splitter": splitter, "embed_model": LlamaWords(), "llm": MockLLM()}
    in_memory = InMemoryDocumentStore()
    in_memory.write_documents(DocumentSplitter(split_length=150).run([HaystackDocument(content=TEXT)])["documents"])
    template = "{% message role='user' %}{{ question }} {{ documents }}{% endmessage %}"
    return {**asked, "store": in_memory, "llm": Says(), "template": template}


@pytest.mark.ocr
@pytest.mark.parametrize("framework", ["langchain", "llama_index", "haystack"])
def test_a_chain_reads_through_pages_after_a_change_of_five_lines(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLYPH_STATE_DIR", str(tmp_path))  # no server, so OCR
    before, after = program(framework, without="+"), program(framework, without="-")
    assert len(set(after.splitlines()) - set(before.splitlines())) <= 5
    old, new = given(framework), given(framework)
    exec(before, old)
    assert "\u201c" not in str(old["answer"])  # no quote of OCR's
    exec(after, new)
    text = str(getattr(new["answer"], "text", new["answer"]))
    assert re.match(r"\[.*page 1\] \u201c", text)
    assert FERRET["must_quote"][0] in text


def test_every_option_is_told() -> None:
    paragraph = RAG[: RAG.index("## LangChain")]
    assert [name for name in PipelineOptions.__annotations__ if name not in paragraph] == []


class Silent:
    """A reader that reads nothing: here the pages count."""

    name = "silent"

    async def read(self, pages: Sequence[Page], question: str, *, max_tokens: int | None = None) -> AsyncIterator[ReadEvent]:
        yield ReadResult("", "", "stop", Usage())

    async def aclose(self) -> None:
        pass


def test_what_a_page_for_each_piece_costs() -> None:
    ratios: dict[tuple[int, str], float] = {}
    pipeline = GlyphPipeline(reader=Silent())
    for size in (500, 1000, 2000):
        pieces = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=0).split_text(TEXT)[:4]
        retrieved = Retrieved.of(pieces, lambda text: Document(text, metadata={"source": "sample.txt"}))
        ratios[size, "apart"] = pipeline.ask(retrieved.documents, "What?").report.ratio
        ratios[size, "joined"] = pipeline.ask("\n\n".join(pieces), "What?").report.ratio
    print("", *(f"{size} {how}: {ratio:.2f}" for (size, how), ratio in ratios.items()), sep="\n")
    told = RAG[RAG.index("Each piece has pages of its own") :]
    for size in (500, 1000, 2000):
        apart, joined = (f"{ratios[size, how]:.1f}" for how in ("apart", "joined"))
        assert re.search(rf"{apart}\s+and\s+{joined}\s+for\s+(pieces\s+of\s+)?{size:,}", told)
