"""LangChain: retrieval chains read through pages, and what happens at their edges."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore, VectorStoreRetriever
from langchain_text_splitters import RecursiveCharacterTextSplitter
from PIL import Image

from glyph_pipeline import Answer, GlyphPipeline
from glyph_pipeline.answer import Drawn
from glyph_pipeline.errors import ConfigError, EmptyDocumentError, ReadError, ServerUnreachableError, UsageError
from glyph_pipeline.integrations.langchain import GlyphDocumentCompressor, GlyphReader, pages_content
from glyph_pipeline.integrations.retrieved import RetrievedAnswer
from glyph_pipeline.reading.retry import RetryPolicy
from tests.integrations.conftest import PATIENCE_S, in_loop, together
from tests.integrations.corpus import DOCS, FERRET, FERRY, FILES, MILL, PENNY, embed
from tests.support.fake_openai import Held, fails_late, in_turn, refuses, says

Fakes = Callable[..., Any]
# What comes after reasoning is the answer; content without any is held back until it is known what it is.
THINKING = {"reasoning": "Hm."}


class HashedWords(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embed(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return embed(text)


@pytest.fixture(scope="module")
def retriever() -> VectorStoreRetriever:
    """All documents of this repository, split by LangChain's splitter, in its vector store."""
    documents = [Document(file.read_text("utf-8"), metadata={"source": str(file), "lines": 80}) for file in FILES]
    store = InMemoryVectorStore(HashedWords())
    store.add_documents(RecursiveCharacterTextSplitter(chunk_size=900, chunk_overlap=100, add_start_index=True).split_documents(documents))
    return store.as_retriever(search_kwargs={"k": 4})


@pytest.fixture
def two() -> list[Document]:
    return [Document(FERRY, id="a", metadata={"source": "/somewhere/ferry.txt"}), Document(MILL, id="b", metadata={"source": "mill.txt"})]


@pytest.mark.ocr
@pytest.mark.parametrize("asked", [FERRET, PENNY], ids=["ferret", "penny"])
def test_a_chain_quotes_the_passage_and_names_its_place_in_the_file(
    asked: dict[str, Any], retriever: VectorStoreRetriever, ocr_pipeline: GlyphPipeline
) -> None:
    chain = {"documents": retriever, "question": RunnablePassthrough()} | GlyphReader(ocr_pipeline)
    answer = chain.invoke(asked["question"])
    assert isinstance(answer, RetrievedAnswer)
    assert isinstance(answer, Answer)
    assert all(words in answer.text for words in asked["must_quote"])
    first = answer.citations[0]
    assert (first.name, first.document.metadata["source"]) == ("sample.txt", str(DOCS / "sample.txt"))
    assert first.document.metadata["lines"] == 80
    place = first.document.metadata["start_index"]
    file = (DOCS / "sample.txt").read_text("utf-8")
    assert all(words in file[place + first.start : place + first.end] for words in asked["must_quote"])
    assert answer.report.documents == 4
    assert answer.report.ratio > 1


@pytest.mark.ocr
def test_a_compressor_in_a_retriever_gives_one_document_with_its_sources(
    retriever: VectorStoreRetriever, ocr_pipeline: GlyphPipeline
) -> None:
    reading = ContextualCompressionRetriever(base_compressor=GlyphDocumentCompressor(ocr_pipeline), base_retriever=retriever)
    (document,) = reading.invoke(FERRET["question"])
    assert FERRET["must_quote"][0] in document.page_content
    source = document.metadata["sources"][0]
    assert (source["document"], source["page"]) == ("sample.txt", 1)
    assert source["metadata"]["source"] == str(DOCS / "sample.txt")
    read = {each.id: each.metadata for each in retriever.invoke(FERRET["question"])}
    assert {each["id"]: each["metadata"] for each in document.metadata["documents"]} == read
    assert source["id"] in read
    told = document.metadata
    assert told["ratio"] == round(told["text_tokens"] / told["vision_tokens"], 4)
    assert (told["reader"], told["finish_reason"], told["truncated"]) == ("OCR quotes (RapidOCR)", "quote", False)
    (again,) = asyncio.run(reading.ainvoke(FERRET["question"]))
    assert again == document


def test_two_asynchronous_questions_overlap(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(together(2))
    compressor = GlyphDocumentCompressor(pipeline)

    async def both() -> list[Any]:
        reading = GlyphReader(pipeline).ainvoke({"question": "When did it run?", "documents": two})
        compressing = compressor.acompress_documents(two, "When did it run?")
        return await asyncio.gather(reading, compressing)

    answer, (document,) = in_loop(pipeline, both())
    assert answer.text == document.page_content == "On Thursdays [ferry.txt, page 1]."
    assert [(each.document, each.page) for each in answer.citations] == [(two[0], 1)]
    assert [(each["id"], each["metadata"]) for each in document.metadata["sources"]] == [("a", {"source": "/somewhere/ferry.txt"})]
    assert (document.metadata["prompt_tokens"], document.metadata["completion_tokens"]) == (70, 7)


def test_a_server_sees_file_names_and_not_the_folders_of_this_machine(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, fake = fake_pipeline(says([{"content": "No."}]))
    GlyphReader(pipeline).invoke({"question": "When?", "documents": two})
    question = fake.requests[0]["messages"][0]["content"][-1]["text"]
    assert "ferry.txt page 1, mill.txt page 1" in question
    assert "somewhere" not in question


@pytest.mark.parametrize("kind", ["sync", "async", "sync in a loop"])
def test_streams_give_the_text_in_pieces(kind: str, two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(says([THINKING, {"content": "On "}, {"content": "Thursdays"}]))
    chain = {"documents": RunnableLambda(lambda _: two), "question": RunnablePassthrough()} | GlyphReader(pipeline)

    async def in_a_loop() -> list[Any]:
        return list(chain.stream("When?"))

    async def in_async_code() -> list[Any]:
        return [piece async for piece in chain.astream("When?")]

    pieces = (
        list(chain.stream("When?")) if kind == "sync" else in_loop(pipeline, in_a_loop() if kind == "sync in a loop" else in_async_code())
    )
    assert pieces == ["On ", "Thursdays"]


def test_streams_give_the_events_if_asked_for(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(says([{"content": "On Thursdays [ferry.txt, page 1]"}]))
    reader = GlyphReader(pipeline, streams="events")
    events = list(reader.stream({"question": "When?", "documents": two}))
    assert any(isinstance(event, Drawn) for event in events)
    assert isinstance(events[-1], RetrievedAnswer)
    assert events[-1].citations[0].document is two[0]


def test_a_stream_whose_request_is_sent_again_gives_no_word_twice(two: list[Document], fake_pipeline: Fakes) -> None:
    reply = in_turn(
        fails_late([THINKING, {"content": "On "}, {"content": "Thurs"}], "busy", 503),
        says([THINKING, {"content": "On Th"}, {"content": "ursdays"}]),
    )
    pipeline, fake = fake_pipeline(reply, RetryPolicy(first=0.0))
    assert list(GlyphReader(pipeline).stream({"question": "When?", "documents": two})) == ["On ", "Thurs", "days"]
    assert len(fake.requests) == 2


def test_a_stream_that_is_left_ends_its_request(two: list[Document], fake_pipeline: Fakes) -> None:
    held = Held([THINKING, {"content": "On "}])
    pipeline, _ = fake_pipeline(held)

    async def leave() -> None:
        stream = GlyphReader(pipeline).astream({"question": "When?", "documents": two})
        assert await anext(stream) == "On "
        await stream.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(held.left.wait, PATIENCE_S)

    try:
        in_loop(pipeline, leave())
        held.left.clear()
        stream = GlyphReader(pipeline).stream({"question": "When?", "documents": two})
        assert next(iter(stream)) == "On "
        stream.close()  # type: ignore[attr-defined]
        assert held.left.wait(PATIENCE_S)
    finally:
        held.release()


def test_invoke_inside_a_running_loop(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(says([{"content": "On Thursdays"}]))

    async def notebook() -> tuple[str, str]:
        read = GlyphReader(pipeline).invoke({"question": "When?", "documents": two})
        (compressed,) = GlyphDocumentCompressor(pipeline).compress_documents(two, "When?")
        return read.text, compressed.page_content

    assert in_loop(pipeline, notebook()) == ("On Thursdays", "On Thursdays")


def test_batches_and_callbacks_of_langchain_work(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(together(2))
    started: list[Any] = []
    reader = GlyphReader(pipeline).with_listeners(on_start=lambda run: started.append(run.inputs["question"]))
    answers = reader.batch([{"question": "When?", "documents": two}, {"question": "Where?", "documents": two}])
    assert [answer.finish_reason for answer in answers] == ["stop", "stop"]
    assert sorted(started) == ["When?", "Where?"]


def test_pages_go_to_any_chat_model_as_content(two: list[Document]) -> None:
    blocks = pages_content(two, labels=True)
    assert [block["type"] for block in blocks] == ["text", "image", "text", "image"]
    assert [block["text"] for block in blocks[::2]] == ["[ferry.txt, page 1]", "[mill.txt, page 1]"]
    picture = Image.open(io.BytesIO(base64.b64decode(blocks[1]["base64"])))
    assert (picture.format, blocks[1]["mime_type"]) == ("PNG", "image/png")
    message = HumanMessage([*blocks, {"type": "text", "text": "When?"}])
    assert [block["type"] for block in message.content_blocks] == ["text", "image", "text", "image", "text"]
    model = FakeListChatModel(responses=["On Thursdays"])
    assert (model | StrOutputParser()).invoke([message]) == "On Thursdays"


def test_pages_for_openai_are_data_urls_of_the_same_pages(two: list[Document]) -> None:
    standard, openai = pages_content(two), pages_content(two, form="openai")
    assert [block["image_url"]["url"] for block in openai] == [f"data:image/png;base64,{block['base64']}" for block in standard]
    assert pages_content(two) == standard  # nothing in them is random
    assert pages_content(two, {"dpi": 144}) != standard
    # LangChain takes the one for the other.
    translated = HumanMessage(openai).content_blocks
    assert [block["type"] for block in translated] == ["image", "image"]


def test_documents_with_the_same_id_or_none_keep_apart(fake_pipeline: Fakes) -> None:
    pipeline, fake = fake_pipeline(says([{"content": "[x (2), page 1] and [document 3, page 1]"}]))
    documents = [Document(FERRY, id="x"), Document(MILL, id="x"), Document("The third is about a lighthouse.")]
    answer = GlyphReader(pipeline).invoke({"question": "When?", "documents": documents})
    assert [each.document for each in answer.citations] == documents[1:]
    assert "x page 1, x (2) page 1, document 3 page 1" in fake.requests[0]["messages"][0]["content"][-1]["text"]


def test_documents_without_text_are_left_out(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, fake = fake_pipeline(says([{"content": "Yes [mill.txt, page 1]"}]))
    answer = GlyphReader(pipeline).invoke({"question": "When?", "documents": [Document(" \n\u200b"), *two, Document("")]})
    assert (answer.report.documents, answer.citations[0].document) == (2, two[1])
    assert len(fake.requests) == 1


@pytest.mark.parametrize("documents", [[], [Document("  ")]], ids=["none", "blank"])
def test_nothing_retrieved(documents: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, fake = fake_pipeline(says([{"content": "Hm."}]))
    assert GlyphDocumentCompressor(pipeline).compress_documents(documents, "When?") == []
    assert asyncio.run(GlyphDocumentCompressor(pipeline).acompress_documents(documents, "When?")) == []
    with pytest.raises(EmptyDocumentError, match="nothing to read"):
        GlyphReader(pipeline).invoke({"question": "When?", "documents": documents})
    with pytest.raises(EmptyDocumentError):
        pages_content(documents)
    assert fake.requests == []


def test_errors_come_through_as_they_are(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(refuses(400, "no images here"))
    with pytest.raises(ReadError, match="no images here"):
        GlyphReader(pipeline).invoke({"question": "When?", "documents": two})
    with pytest.raises(ReadError, match="no images here"):
        list(GlyphReader(pipeline).stream({"question": "When?", "documents": two}))

    async def in_a_loop() -> list[Any]:
        return list(GlyphReader(pipeline).stream({"question": "When?", "documents": two}))

    with pytest.raises(ReadError, match="no images here"):
        in_loop(pipeline, in_a_loop())
    with pytest.raises(ServerUnreachableError):
        GlyphDocumentCompressor(base_url="http://127.0.0.1:9/v1").compress_documents(two, "When?")


def test_wrong_input_is_told_and_not_guessed(two: list[Document]) -> None:
    reader = GlyphReader(reader="ocr")
    with pytest.raises(UsageError, match="'question' and 'documents', not a mapping with 'context'"):
        reader.invoke({"context": two})
    with pytest.raises(UsageError, match="not str"):
        reader.invoke("When?")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not a list of LangChain documents"):
        reader.invoke({"question": "When?", "documents": "the joined text of all documents"})
    with pytest.raises(UsageError, match="not a text"):
        reader.invoke({"question": HumanMessage("When?"), "documents": two})
    with pytest.raises(ConfigError, match="standard, openai"):
        pages_content(two, form="anthropic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="text, events"):
        GlyphReader(reader="ocr", streams="words")  # type: ignore[arg-type]


def test_other_keys_than_the_usual(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(says([{"content": "On Thursdays"}]))
    reader = GlyphReader(pipeline, question_key="input", documents_key="context")
    assert reader.invoke({"input": "When?", "context": two}).text == "On Thursdays"
