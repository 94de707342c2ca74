"""LangChain: a document compressor, a reader for chains, and pages as message content. Draws and asks nothing itself."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import Any, Literal, TypeAlias

from pydantic import PrivateAttr

from glyph_pipeline.answer import Answer, PipelineEvent
from glyph_pipeline.document import Document as GlyphDocument
from glyph_pipeline.errors import ConfigError, MissingExtraError, UsageError
from glyph_pipeline.integrations.options import drawn, pipeline_of
from glyph_pipeline.integrations.retrieved import Retrieved, RetrievedAnswer, account, cited
from glyph_pipeline.integrations.streaming import AnswerText, events_of
from glyph_pipeline.pipeline import GlyphPipeline
from glyph_pipeline.prompts import name_of

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.runnables import Runnable, RunnableConfig
except ImportError as e:
    raise MissingExtraError("Reading in LangChain", "langchain", package="langchain-core") from e

ContentForm: TypeAlias = Literal["standard", "openai"]
_FORMS = ("standard", "openai")
_STREAMS = ("text", "events")


class GlyphDocumentCompressor(BaseDocumentCompressor):
    """Reads what a retriever found and gives one document instead: the answer to the query.

    ``GlyphDocumentCompressor(pipeline)``, or with the options of a pipeline (see PipelineOptions). For ContextualCompressionRetriever and
    whatever else takes a compressor. The document's ``metadata`` has ``sources`` (each page that the answer cites: document, id, page,
    start, end in characters, the document's metadata), ``documents`` (id and metadata of all that were read), and the account: ratio,
    tokens, reader, finish_reason and so on. Where nothing with text was found, nothing is given back.

    Raises ConfigError and UsageError when it is made; GlyphError when it reads.
    """

    _pipeline: GlyphPipeline = PrivateAttr()

    def __init__(self, pipeline: GlyphPipeline | None = None, **options: Any) -> None:
        made = pipeline_of(pipeline, options)
        super().__init__()
        self._pipeline = made

    @property
    def pipeline(self) -> GlyphPipeline:
        """What reads."""
        return self._pipeline

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None) -> Sequence[Document]:
        """The answer to ``query`` as one document, or none. Works inside a running event loop too."""
        retrieved = _retrieved(documents)
        return [_answer_document(self._pipeline.ask(retrieved.documents, query), retrieved)] if retrieved.documents else []

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """:meth:`compress_documents` for async code."""
        retrieved = _retrieved(documents)
        return [_answer_document(await self._pipeline.aask(retrieved.documents, query), retrieved)] if retrieved.documents else []


class GlyphReader(Runnable[dict[str, Any], Any]):
    """A step of a chain that takes ``{"question": str, "documents": [Document, ...]}`` and gives a RetrievedAnswer.

    That is an :class:`~glyph_pipeline.Answer` whose ``citations`` have the LangChain documents, with all their metadata.
    ``question_key`` and ``documents_key`` are the keys of the input. ``stream()`` and ``astream()`` give the text of the answer in
    pieces (``streams="text"``), or all events of the pipeline, the RetrievedAnswer as the last (``streams="events"``).
    ``GlyphReader(pipeline)``, or with the options of a pipeline (see PipelineOptions).

    Raises ConfigError and UsageError when it is made; when it reads EmptyDocumentError if no document has text, and GlyphError.
    """

    def __init__(
        self,
        pipeline: GlyphPipeline | None = None,
        *,
        question_key: str = "question",
        documents_key: str = "documents",
        streams: Literal["text", "events"] = "text",
        **options: Any,
    ) -> None:
        if streams not in _STREAMS:
            raise ConfigError(f"streams = {streams!r}: allowed are {', '.join(_STREAMS)}.")
        self.pipeline = pipeline_of(pipeline, options)
        self.question_key = question_key
        self.documents_key = documents_key
        self.streams = streams

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> RetrievedAnswer[Document]:
        """The answer. Works inside a running event loop too."""
        answer: RetrievedAnswer[Document] = self._call_with_config(self._ask, input, config)
        return answer

    async def ainvoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> RetrievedAnswer[Document]:
        """:meth:`invoke` for async code."""
        answer: RetrievedAnswer[Document] = await self._acall_with_config(self._aask, input, config)
        return answer

    def stream(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[str | PipelineEvent]:
        """The answer as it comes: text or events. Closing the iterator ends the requests."""
        yield from self._transform_stream_with_config(iter([input]), self._stream, config)

    async def astream(
        self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[str | PipelineEvent]:
        """:meth:`stream` for async code."""

        async def only() -> AsyncIterator[dict[str, Any]]:
            yield input

        pieces: Any = self._atransform_stream_with_config(only(), self._astream, config)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    def _ask(self, input: dict[str, Any]) -> RetrievedAnswer[Document]:
        question, retrieved = self._taken(input)
        return RetrievedAnswer.of(self.pipeline.ask(retrieved.documents, question), retrieved)

    async def _aask(self, input: dict[str, Any]) -> RetrievedAnswer[Document]:
        question, retrieved = self._taken(input)
        return RetrievedAnswer.of(await self.pipeline.aask(retrieved.documents, question), retrieved)

    def _stream(self, inputs: Iterator[dict[str, Any]]) -> Iterator[str | PipelineEvent]:
        question, retrieved = self._taken(next(inputs))
        text = AnswerText(at_end=self.pipeline.repairs)
        with closing(events_of(self.pipeline, retrieved.documents, question)) as events:
            for event in events:
                if (piece := self._piece(event, text, retrieved)) is not None:
                    yield piece

    async def _astream(self, inputs: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str | PipelineEvent]:
        question, retrieved = self._taken(await anext(inputs))
        text = AnswerText(at_end=self.pipeline.repairs)
        async with aclosing(self.pipeline.astream(retrieved.documents, question)) as events:
            async for event in events:
                if (piece := self._piece(event, text, retrieved)) is not None:
                    yield piece

    def _piece(self, event: PipelineEvent, text: AnswerText, retrieved: Retrieved[Document]) -> str | PipelineEvent | None:
        if self.streams == "text":
            return text.feed(event) or None
        return RetrievedAnswer.of(event, retrieved) if isinstance(event, Answer) else event

    def _taken(self, input: Any) -> tuple[str, Retrieved[Document]]:
        keys = (self.question_key, self.documents_key)
        if not isinstance(input, dict) or any(key not in input for key in keys):
            found = f"a mapping with {', '.join(map(repr, input)) or 'no keys'}" if isinstance(input, dict) else type(input).__name__
            raise UsageError(
                f"GlyphReader takes a mapping with {keys[0]!r} and {keys[1]!r}, not {found}.",
                hint=f'Example: {{"{keys[1]}": retriever, "{keys[0]}": RunnablePassthrough()}} | GlyphReader(...)',
            )
        question = input[self.question_key]
        if not isinstance(question, str):
            raise UsageError(f"The question is a {type(question).__name__}, not a text.", hint="Give a str.")
        retrieved = _retrieved(input[self.documents_key])
        retrieved.require()
        return question, retrieved


def pages_content(
    documents: Sequence[Document], config: object = None, *, form: ContentForm = "standard", labels: bool = False
) -> list[dict[str, Any]]:
    """The pages of documents, in order, as content of a message to any chat model that takes images.

    ``form``: ``standard`` are LangChain's image blocks (base64), ``openai`` are ``image_url`` parts with data URLs. With ``labels``
    a text block such as ``[ferry.txt, page 2]`` stands before each page. ``config`` as in PipelineOptions. Put the question behind them::

        HumanMessage([*pages_content(documents), {"type": "text", "text": question}])

    Raises EmptyDocumentError if no document has text, ConfigError, FontError, UsageError for a ``documents`` that is none.
    """
    if form not in _FORMS:
        raise ConfigError(f"form = {form!r}: allowed are {', '.join(_FORMS)}.")
    retrieved = _retrieved(documents)
    retrieved.require()
    blocks: list[dict[str, Any]] = []
    for page in drawn(retrieved.documents, config).pages:
        if labels:
            blocks.append({"type": "text", "text": f"[{name_of(retrieved.of_page(page).name)}, page {page.number}]"})
        data = base64.b64encode(page.png).decode("ascii")
        if form == "openai":
            blocks.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
        else:
            blocks.append({"type": "image", "base64": data, "mime_type": "image/png"})
    return blocks


def _retrieved(documents: Any) -> Retrieved[Document]:
    listed = [documents] if isinstance(documents, Document) else documents
    if isinstance(listed, str) or not isinstance(listed, Sequence) or not all(isinstance(each, Document) for each in listed):
        raise UsageError(
            f"The documents are a {type(documents).__name__}, not a list of LangChain documents.", hint="Give what a retriever gives."
        )
    return Retrieved.of(listed, lambda document: GlyphDocument(document.page_content, document.id or "", document.metadata))


def _answer_document(answer: Answer, retrieved: Retrieved[Document]) -> Document:
    sources = [cited(citation, citation.document.id, citation.document.metadata) for citation in retrieved.citations(answer)]
    read = [{"id": document.id, "metadata": dict(document.metadata)} for document in retrieved.originals]
    return Document(page_content=answer.text, metadata={"sources": sources, "documents": read, **account(answer)})
