"""Haystack: files in a document store, what BM25 finds read through page images. Run: python rag_haystack.py [QUESTION [BASE_URL]]."""

from __future__ import annotations

import sys
from pathlib import Path

# First, so that Haystack's telemetry is off from the beginning.
from glyph_pipeline.integrations.haystack import GlyphReader  # isort: skip

from haystack import Document, Pipeline
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

DOCS = Path(__file__).resolve().parents[1]
QUESTION = "What pet did the night observer Quill have?"

question = sys.argv[1] if len(sys.argv) > 1 else QUESTION
base_url = sys.argv[2] if len(sys.argv) > 2 else None

files = [DOCS / "sample.txt", *sorted(DOCS.glob("*.md"))]
documents = [Document(content=file.read_text("utf-8"), meta={"file_name": file.name}) for file in files]
store = InMemoryDocumentStore()
store.write_documents(DocumentSplitter(split_by="word", split_length=160, split_overlap=20).run(documents)["documents"])

pipeline = Pipeline()
pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=4))
# Without a URL: a server that `glyph-compress serve` started, else OCR.
pipeline.add_component("reader", GlyphReader(base_url=base_url))
pipeline.connect("retriever.documents", "reader.documents")
answer = pipeline.run({"retriever": {"query": question}, "reader": {"query": question}})["reader"]["answers"][0]

print(answer.data)
for source in answer.meta["sources"]:
    place = source["metadata"]["split_idx_start"]
    print(f"source: {source['document']}, page {source['page']}: characters {place + source['start']}-{place + source['end']} of the file")
print(f"ratio: {answer.meta['ratio']:.2f} ({answer.meta['text_tokens']} text tokens, {answer.meta['vision_tokens']} vision tokens)")
