"""LlamaIndex: files in an index, what it finds read through page images. Run: python rag_llama_index.py [QUESTION [BASE_URL]]."""

from __future__ import annotations

import sys
from pathlib import Path

from hashed_words import embed
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.query_engine import RetrieverQueryEngine

from glyph_pipeline.integrations.llama_index import GlyphSynthesizer

DOCS = Path(__file__).resolve().parents[1]
QUESTION = "What pet did the night observer Quill have?"


class HashedWords(BaseEmbedding):
    """The examples' embedding, as LlamaIndex wants it."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return embed(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return embed(query)


question = sys.argv[1] if len(sys.argv) > 1 else QUESTION
base_url = sys.argv[2] if len(sys.argv) > 2 else None

files = [DOCS / "sample.txt", *sorted(DOCS.glob("*.md"))]
documents = [Document(text=file.read_text("utf-8"), metadata={"file_name": file.name}) for file in files]
splitter = TokenTextSplitter(chunk_size=256, chunk_overlap=20)
index = VectorStoreIndex.from_documents(documents, transformations=[splitter], embed_model=HashedWords())

# Without a URL: a server that `glyph-compress serve` started, else OCR.
synthesizer = GlyphSynthesizer(base_url=base_url)
engine = RetrieverQueryEngine(index.as_retriever(similarity_top_k=4), response_synthesizer=synthesizer)
response = engine.query(question)

print(response)
told = response.metadata["glyph"]
for source in told["sources"]:
    print(f"source: {source['document']}, page {source['page']}: characters {source['start']}-{source['end']} of the node")
print(f"ratio: {told['ratio']:.2f} ({told['text_tokens']} text tokens, {told['vision_tokens']} vision tokens)")
