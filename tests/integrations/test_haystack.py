"""Haystack: pipelines that read through pages, pages for chat prompts, serialising, and what happens at their edges."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, GeneratedAnswer, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.core.errors import PipelineRuntimeError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret
from PIL import Image

from glyph_pipeline import GlyphPipeline, RenderConfig
from glyph_pipeline.errors import ConfigError, ReadError, ServerUnreachableError, UsageError
from glyph_pipeline.integrations.haystack import GlyphPages, GlyphReader
from tests.integrations.conftest import in_loop, together
from tests.integrations.corpus import DOCS, FERRET, FERRY, FILES, MILL, PENNY
from tests.support.fake_openai import refuses, says

Fakes = Callable[..., Any]


@pytest.fixture(scope="module")
def store() -> InMemoryDocumentStore:
    """All documents of this repository, split by Haystack's splitter, in its document store."""
    documents = [Document(content=file.read_text("utf-8"), meta={"file_name": file.name, "shelf": 7}) for file in FILES]
    store = InMemoryDocumentStore()
    store.write_documents(DocumentSplitter(split_by="word", split_length=160, split_overlap=20).run(documents)["documents"])
    return store


@pytest.fixture
def two() -> list[Document]:
    return [Document(id="a", content=FERRY, meta={"file_path": "/somewhere/ferry.txt"}), Document(id="b", content=MILL)]


def chain(store: InMemoryDocumentStore, reader: GlyphReader) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=4))
    pipeline.add_component("reader", reader)
    pipeline.connect("retriever.documents", "reader.documents")
    return pipeline


def answer_of(pipeline: Pipeline, question: str) -> GeneratedAnswer:
    answer = pipeline.run({"retriever": {"query": question}, "reader": {"query": question}})["reader"]["answers"][0]
    assert isinstance(answer, GeneratedAnswer)
    return answer


@pytest.mark.ocr
@pytest.mark.parametrize("asked", [FERRET, PENNY], ids=["ferret", "penny"])
def test_a_pipeline_quotes_the_passage_and_names_its_place_in_the_file(
    asked: dict[str, Any], store: InMemoryDocumentStore, ocr_pipeline: GlyphPipeline
) -> None:
    answer = answer_of(chain(store, GlyphReader(pipeline=ocr_pipeline)), asked["question"])
    assert all(words in answer.data for words in asked["must_quote"])
    assert answer.query == asked["question"]
    first = answer.meta["sources"][0]
    assert (first["document"], first["page"], first["metadata"]["shelf"]) == ("sample.txt", 1, 7)
    assert first["id"] == answer.documents[0].id
    place = first["metadata"]["split_idx_start"]
    file = (DOCS / "sample.txt").read_text("utf-8")
    assert all(words in file[place + first["start"] : place + first["end"]] for words in asked["must_quote"])
    assert answer.meta["ratio"] == round(answer.meta["text_tokens"] / answer.meta["vision_tokens"], 4) > 1
    json.dumps(answer.to_dict())


@pytest.mark.ocr
def test_a_pipeline_from_yaml_answers_alike(two: list[Document]) -> None:
    made = chain(InMemoryDocumentStore(), GlyphReader(reader="ocr", config={"dpi": 96}))
    loaded = Pipeline.loads(made.dumps(), allowed_modules=["glyph_pipeline.integrations.haystack"])
    assert loaded.to_dict() == made.to_dict()
    answers = []
    for pipeline in (made, loaded):
        pipeline.get_component("retriever").document_store.write_documents(two, policy=DuplicatePolicy.OVERWRITE)
        answers.append(answer_of(pipeline, "When did the mill of Carrow burn down?"))
        pipeline.close()
    assert "burned down in the spring of 1911" in answers[0].data
    assert answers[0] == answers[1]


def test_the_components_are_serialised_whole() -> None:
    reader = GlyphReader(
        ["http://127.0.0.1:8000/v1"],
        "fake/Glyph",
        RenderConfig.preset("tight").replace(dpi=96),
        api_key=Secret.from_env_var("SOME_KEY"),
        max_tokens=99,
        concurrency=2,
        overlap=1,
        max_request_bytes=1000,
        cite=True,
        read_timeout=9.0,
    )
    data = json.loads(json.dumps(reader.to_dict()))
    assert data["type"] == "glyph_pipeline.integrations.haystack.GlyphReader"
    assert GlyphReader.from_dict(data).to_dict() == data
    assert data["init_parameters"]["config"]["dpi"] == 96
    assert data["init_parameters"]["api_key"] == {"type": "env_var", "env_vars": ["SOME_KEY"], "strict": True}
    pages = json.loads(json.dumps(GlyphPages("aligned").to_dict()))
    assert GlyphPages.from_dict(pages).to_dict() == pages
    assert set(data["init_parameters"]) == {
        "base_url", "model", "config", "api_key", "max_tokens", "concurrency", "overlap", "max_request_bytes", "cite", "read_timeout",
    }  # fmt: skip


def test_what_can_not_be_serialised_is_told(ocr_pipeline: GlyphPipeline) -> None:
    with pytest.raises(UsageError, match="can't be serialised"):
        GlyphReader(pipeline=ocr_pipeline).to_dict()
    with pytest.raises(ValueError, match="token-based"):
        GlyphReader("http://127.0.0.1:9/v1", api_key=Secret.from_token("hush")).to_dict()


def test_the_key_is_looked_for_when_it_is_needed(two: list[Document], fake_pipeline: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    _, fake = fake_pipeline(says([{"content": "On Thursdays"}]))
    reader = GlyphReader(fake.base_url, api_key=Secret.from_env_var("A_KEY_OF_THE_TEST"))
    with pytest.raises(ValueError, match="A_KEY_OF_THE_TEST"):
        reader.warm_up()
    monkeypatch.setenv("A_KEY_OF_THE_TEST", "hush")
    reader.warm_up()
    assert reader.run("When?", two)["answers"][0].data == "On Thursdays"
    assert fake.headers[0]["authorization"] == "Bearer hush"
    reader.close()


def test_warming_up_finds_the_server_or_says_so(two: list[Document], fake_pipeline: Fakes) -> None:
    with pytest.raises(ServerUnreachableError):
        GlyphReader("http://127.0.0.1:9/v1").warm_up()
    _, fake = fake_pipeline(says([{"content": "On Thursdays"}]))
    reader = GlyphReader(fake.base_url)
    reader.warm_up()
    assert fake.requests == []
    reader.warm_up()
    assert reader.run("When?", two)["answers"][0].data == "On Thursdays"
    reader.close()


def test_two_asynchronous_runs_overlap(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(together(2))
    store = InMemoryDocumentStore()
    store.write_documents(two)
    chains = [chain(store, GlyphReader(pipeline=pipeline)) for _ in range(2)]

    async def ask(each: Pipeline) -> GeneratedAnswer:
        result = await each.run_async({"retriever": {"query": "Thursdays mill"}, "reader": {"query": "When did it run?"}})
        answer: GeneratedAnswer = result["reader"]["answers"][0]
        return answer

    async def both() -> list[GeneratedAnswer]:
        return await asyncio.gather(*map(ask, chains))

    for answer in in_loop(pipeline, both()):
        assert answer.data == "On Thursdays [ferry.txt, page 1]."
        assert [each.id for each in answer.documents] == ["a"]
        assert answer.meta["sources"][0]["metadata"] == {"file_path": "/somewhere/ferry.txt"}
        assert answer.meta["prompt_tokens"] == 70


def test_a_run_inside_a_running_loop(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(says([{"content": "On Thursdays"}]))

    async def cell() -> str:
        answer: GeneratedAnswer = GlyphReader(pipeline=pipeline).run("When?", two)["answers"][0]
        return answer.data

    assert in_loop(pipeline, cell()) == "On Thursdays"


def test_an_answer_that_cites_nothing_has_all_that_were_read(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, _ = fake_pipeline(says([{"content": "On Thursdays"}]))
    answer = GlyphReader(pipeline=pipeline).run("When?", two)["answers"][0]
    assert (answer.documents, answer.meta["sources"]) == (two, [])


def test_pages_stand_in_a_chat_prompt(two: list[Document]) -> None:
    template = "{% message role='user' %}{% for image in images %}{{ image | templatize_part }}{% endfor %}{{ question }}{% endmessage %}"
    pipeline = Pipeline()
    pipeline.add_component("pages", GlyphPages())
    pipeline.add_component("prompt", ChatPromptBuilder(template=template, required_variables=["question", "images"]))
    pipeline.connect("pages.images", "prompt.images")
    made = pipeline.run({"pages": {"documents": two}, "prompt": {"question": "When?"}}, include_outputs_from={"pages"})
    (message,) = made["prompt"]["prompt"]
    assert message.text == "When?"
    assert [Image.open(io.BytesIO(base64.b64decode(image.base64_image))).format for image in message.images] == ["PNG", "PNG"]
    images = made["pages"]["images"]
    assert [(image.meta["glyph"]["document"], image.meta["glyph"]["id"]) for image in images] == [("ferry.txt", "a"), ("b", "b")]
    assert images[0].meta["file_path"] == "/somewhere/ferry.txt"
    assert (images[0].meta["glyph"]["start"], images[0].meta["glyph"]["end"]) == (0, len(FERRY))
    assert made["pages"]["report"]["pages"] == 2
    again = asyncio.run(pipeline.run_async({"pages": {"documents": two}, "prompt": {"question": "When?"}}))
    assert again["prompt"]["prompt"] == [message]


def test_documents_with_no_name_and_no_text(two: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, fake = fake_pipeline(says([{"content": "[document 2, page 1]"}]))
    nameless = Document(content="The third is about a lighthouse.")  # its id is a hash
    documents = [two[0], Document(content="\n"), Document(content=None), nameless]
    answer = GlyphReader(pipeline=pipeline).run("When?", documents)["answers"][0]
    assert answer.documents == [nameless]
    assert "ferry.txt page 1, document 2 page 1" in fake.requests[0]["messages"][0]["content"][-1]["text"]


@pytest.mark.parametrize("documents", [[], [Document(content=" ")]], ids=["none", "blank"])
def test_nothing_retrieved(documents: list[Document], fake_pipeline: Fakes) -> None:
    pipeline, fake = fake_pipeline(says([{"content": "Hm."}]))
    reader = GlyphReader(pipeline=pipeline)
    assert reader.run("When?", documents) == {"answers": []}
    assert asyncio.run(reader.run_async("When?", documents)) == {"answers": []}
    assert GlyphPages().run(documents) == {"images": [], "report": {}}
    assert fake.requests == []


def test_errors_come_through_as_they_are(
    two: list[Document], fake_pipeline: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where Haystack makes a folder when a component fails
    pipeline, _ = fake_pipeline(refuses(400, "no images here"))
    with pytest.raises(ReadError, match="no images here"):
        GlyphReader(pipeline=pipeline).run("When?", two)
    store = InMemoryDocumentStore()
    store.write_documents(two)
    with pytest.raises(PipelineRuntimeError, match="no images here") as raised:  # as Haystack tells of any component's error
        answer_of(chain(store, GlyphReader(pipeline=pipeline)), "Thursdays")
    assert isinstance(raised.value.__cause__, ReadError)
    with pytest.raises(ConfigError, match="no Secret"):
        GlyphReader("http://127.0.0.1:9/v1", api_key="hush")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_tokens = 0"):
        GlyphReader("http://127.0.0.1:9/v1", max_tokens=0)
    with pytest.raises(ConfigError, match="unknown key 'dots'"):
        GlyphPages({"dots": 3})
