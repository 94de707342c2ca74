"""LangChain: files in a vector store, what it finds read through page images. Run: python rag_langchain.py [QUESTION [BASE_URL]]."""

from __future__ import annotations

import sys
from pathlib import Path

from hashed_words import embed
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter

from glyph_pipeline.integrations.langchain import GlyphReader

DOCS = Path(__file__).resolve().parents[1]
QUESTION = "What pet did the night observer Quill have?"


class HashedWords(Embeddings):
    """The examples' embedding, as LangChain wants it."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text."""
        return [embed(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        return embed(text)


question = sys.argv[1] if len(sys.argv) > 1 else QUESTION
base_url = sys.argv[2] if len(sys.argv) > 2 else None

files = [DOCS / "sample.txt", *sorted(DOCS.glob("*.md"))]
documents = [Document(file.read_text("utf-8"), metadata={"source": str(file)}) for file in files]
store = InMemoryVectorStore(HashedWords())
store.add_documents(RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=100, add_start_index=True).split_documents(documents))
retriever = store.as_retriever(search_kwargs={"k": 4})

# Without a URL: a server that `glyph-compress serve` started, else OCR.
chain = {"documents": retriever, "question": RunnablePassthrough()} | GlyphReader(base_url=base_url)
answer = chain.invoke(question)

print(answer.text)
for citation in answer.citations:
    place = citation.document.metadata["start_index"]
    print(f"source: {citation.name}, page {citation.page}: characters {place + citation.start}-{place + citation.end} of the file")
print(f"ratio: {answer.report.ratio:.2f} ({answer.report.text_tokens} text tokens, {answer.report.vision_tokens} vision tokens)")
