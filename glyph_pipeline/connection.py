"""Connection: a reader, and what is known of the model behind it: its tokenizer, its image arithmetic, its context. Plans nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from glyph_pipeline.addresses import is_loopback
from glyph_pipeline.counting import SteadyTokenizer
from glyph_pipeline.errors import ConfigError, ReadError, ServerUnreachableError
from glyph_pipeline.parts import Part, content
from glyph_pipeline.reading.reader import Reader
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.serving import ServedModel
from glyph_pipeline.tokens.text import Cl100kTokenizer, ServerTokenizer, TextTokenizer
from glyph_pipeline.tokens.vision import GLM_4V, VisionArithmetic

# One page in /tokenize's prompt, as the chat template writes it; the server counts it as three special tokens.
_PAGE_MARKUP = "<|begin_of_image|><|image|><|end_of_image|>"
_PAGE_MARKUP_TOKENS = 3
# Where cl100k_base stands in for the model's own tokenizer, its counts may be off by this much.
STAND_IN = 1.3
# Role and start marks of the chat template, and then some.
_TEMPLATE_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Connection:
    """A reader, and what is known of the model behind it. ``max_model_len`` is its context in tokens, None if unknown."""

    reader: Reader
    tokenizer: TextTokenizer = field(default_factory=Cl100kTokenizer)
    vision: VisionArithmetic = GLM_4V
    max_model_len: int | None = None

    @classmethod
    def to_server(
        cls, reader: VLLMReader, served: Sequence[ServedModel], api_key: str | None, retry: RetryPolicy, revive: Callable[[], object] | None
    ) -> Connection:
        """The connection to one server or several that serve the same model; the smallest context counts.

        ``retry`` and ``revive`` are those of the reader: counting tokens survives what reading does.
        """
        counters = [ServerTokenizer(url.rstrip("/").removesuffix("/v1"), served[0].id, api_key) for url in reader.base_urls]
        tokenizer: TextTokenizer = SteadyTokenizer(counters, retry, revive)
        try:
            counters[0].count("a")
        except (ReadError, ServerUnreachableError):
            # No vLLM, or one behind a gateway that lets /v1 through and nothing else: the offline stand-in counts.
            tokenizer = Cl100kTokenizer()
        # A server on this machine that was started from a folder: its image processor's bounds are there to read.
        local = is_loopback(urlsplit(reader.base_url).hostname or "")
        vision = GLM_4V
        if local and served[0].root and Path(served[0].root).is_absolute():
            with contextlib.suppress(ConfigError):  # it serves, so what it reads is sound; the folder may have changed since
                vision = VisionArithmetic.from_model(served[0].root)
        lengths = [model.max_model_len for model in served if model.max_model_len is not None]
        return cls(reader, tokenizer, vision, min(lengths, default=None))

    @property
    def instructs(self) -> bool:
        """Whether what reads is a language model, which understands more in a question than the question."""
        return isinstance(self.reader, VLLMReader)

    @property
    def inline(self) -> bool:
        """Whether pages go inside the requests, and so count for their size."""
        return isinstance(self.reader, VLLMReader) and self.reader.page_folder is None

    def estimate(self, question: str) -> int:
        """About the tokens of template and question, rather too many than too few: what to keep free where they can't be counted."""
        return int(self.tokenizer.count(question) * STAND_IN) + _TEMPLATE_TOKENS

    def beside_pictures(self, parts: Sequence[Part], question: str) -> int | None:
        """Prompt tokens of template, texts, lists and question; those of the pictures are not in it. None where that can't be counted.

        Asks the server, so it blocks.
        """
        pieces: list[str] = []
        pictures = 0
        for item in content(parts, question):
            if isinstance(item, str):
                pieces.append(item)
            elif not pieces or pieces[-1] is not _PAGE_MARKUP:  # one picture tells how texts beside it are split
                pieces.append(_PAGE_MARKUP)
                pictures += 1
        return self._counted("".join(pieces), pictures)

    def behind_pictures(self, question: str) -> int | None:
        """:meth:`beside_pictures` where there is nothing but pictures and the question."""
        return self._counted(_PAGE_MARKUP + question, 1)

    def _counted(self, message: str, pictures: int) -> int | None:
        if not isinstance(self.tokenizer, SteadyTokenizer):
            return None
        return self.tokenizer.count_chat(message) - _PAGE_MARKUP_TOKENS * pictures
