"""Objectives of a search: what a configuration saves, and how much of it is read wrong. Knows no space and no optimiser."""

from __future__ import annotations

import hashlib
import json
import random
import string
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from glyph_pipeline.document import Document
from glyph_pipeline.errors import ReadError
from glyph_pipeline.experiments.intervals import Count, Estimate, mean
from glyph_pipeline.experiments.legibility import MEASURES, Sample, Transcribe, random_read_back, read_back, text_read_back
from glyph_pipeline.experiments.questions import Task
from glyph_pipeline.pipeline import GlyphPipeline
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.tokens.text import Cl100kTokenizer
from glyph_pipeline.tokens.vision import VisionArithmetic

# Random strings of the second, larger sample: others than those of the first, which have chosen what is measured again.
_SECOND_SEED = 77_003
_RANDOM_CHARACTERS_A_PAGE = 2400
_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Measured:
    """What one configuration saves and gets wrong: tokens of all documents, and counts by what was read; ``seconds`` it took."""

    text_tokens: int
    vision_tokens: int
    pages: int
    counts: Mapping[str, Count]
    seconds: float

    @property
    def ratio(self) -> float:
        """Text tokens (cl100k_base) for each vision token."""
        return self.text_tokens / self.vision_tokens

    @property
    def error(self) -> Estimate:
        """The mean of the error rates, each measure with the same weight."""
        return mean(list(self.counts.values()))

    def to_dict(self) -> dict[str, Any]:
        """The fields of a record."""
        return {
            "ratio": round(self.ratio, 4),
            "error": round(self.error.rate, 6),
            "text_tokens": self.text_tokens,
            "vision_tokens": self.vision_tokens,
            "pages": self.pages,
            "counts": {name: asdict(count) for name, count in self.counts.items()},
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Measured:
        """From the fields of a record."""
        counts = {name: Count(**count) for name, count in record["counts"].items()}
        return cls(record["text_tokens"], record["vision_tokens"], record["pages"], counts, record["seconds"])


class Objective(Protocol):
    """Measures configurations. ``unit`` is what its counts count."""

    unit: str

    def measure(self, config: RenderConfig) -> Measured:
        """Draw with a configuration and read. Raises ConfigError for pages that the family of models does not read."""
        ...

    def confirm(self, config: RenderConfig) -> Measured | None:
        """The same on a larger sample, other random strings included; None if there is no larger one."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """What its numbers depend on besides documents and configuration, as JSON."""
        ...

    def confirmed_by(self) -> dict[str, Any]:
        """What those of :meth:`confirm` depend on besides, as JSON."""
        ...


class _Drawings:
    """The documents, and what drawing them costs."""

    def __init__(self, documents: Sequence[Document], family: VisionArithmetic) -> None:
        self.documents = documents
        self.family = family
        tokenizer = Cl100kTokenizer()
        self.text_tokens = sum(tokenizer.count(document.text) for document in documents)

    def cost(self, config: RenderConfig) -> tuple[int, int]:
        """(vision tokens, pages) of all documents. Raises ConfigError."""
        tokens = pages = 0
        renderer = Renderer(config)
        for document in self.documents:
            for page in renderer.render(document):
                tokens += self.family.tokens(page.width, page.height)
                pages += 1
        return tokens, pages


class Legibility:
    """The share of characters that OCR misreads, of the page as the encoder sees it (see legibility.py).

    ``measures``: ``text`` (the documents' own), ``random`` (strings drawn by lot), or both, of which the mean counts.
    ``second``: the larger sample.
    """

    unit = "characters"

    def __init__(
        self,
        documents: Sequence[Document],
        family: VisionArithmetic,
        transcribe: Transcribe,
        measures: Sequence[str] = MEASURES,
        sample: Sample = Sample(),  # noqa: B008 - frozen
        second: Sample | None = None,
    ) -> None:
        self._drawings = _Drawings(documents, family)
        self._transcribe = transcribe
        self._measures = tuple(measures)
        self._sample = sample
        self._second = second

    def measure(self, config: RenderConfig) -> Measured:
        """See Objective. Raises MissingExtraError and ReadError besides."""
        began = time.perf_counter()
        tokens, pages = self._drawings.cost(config)
        counts = {}
        if "text" in self._measures:
            counts["text"] = self._text(config, self._sample)
        if "random" in self._measures:
            counts["random"] = _count(random_read_back(config, self._drawings.family, self._transcribe))
        return Measured(self._drawings.text_tokens, tokens, pages, counts, time.perf_counter() - began)

    def confirm(self, config: RenderConfig) -> Measured | None:
        """See Objective."""
        if self._second is None:
            return None
        began = time.perf_counter()
        tokens, pages = self._drawings.cost(config)
        counts = {}
        if "text" in self._measures:
            counts["text"] = self._text(config, self._second)
        if "random" in self._measures:
            drawn = list(Renderer(config).render(_strings(self._second.pages)))
            counts["random"] = _count(asdict(read_back(drawn, self._drawings.family, self._transcribe)))
        return Measured(self._drawings.text_tokens, tokens, pages, counts, time.perf_counter() - began)

    def to_dict(self) -> dict[str, Any]:
        """See Objective."""
        return {"name": "legibility", "error": list(self._measures), "sample": asdict(self._sample)}

    def confirmed_by(self) -> dict[str, Any]:
        """See Objective."""
        return {} if self._second is None else {**asdict(self._second), "random": self._second.pages * _RANDOM_CHARACTERS_A_PAGE}

    def _text(self, config: RenderConfig, sample: Sample) -> Count:
        found = [
            _count(text_read_back(document, config, sample, self._drawings.family, self._transcribe))
            for document in self._drawings.documents
        ]
        return Count(sum(count.errors for count in found), sum(count.of for count in found))


class Accuracy:
    """The share of questions that are answered wrong by whatever reads (see questions.py).

    ``arguments`` are those of GlyphPipeline that say who reads, ``who`` is its name. ``tasks`` are asked of every configuration,
    ``second`` (other questions) of those that are looked at again.
    """

    unit = "questions"

    def __init__(
        self,
        documents: Sequence[Document],
        family: VisionArithmetic,
        tasks: Sequence[Task],
        arguments: Mapping[str, Any],
        who: str,
        second: Sequence[Task] = (),
    ) -> None:
        self._drawings = _Drawings(documents, family)
        self._tasks = tuple(tasks)
        self._second = tuple(second)
        self._arguments = arguments
        self._who = who

    def measure(self, config: RenderConfig) -> Measured:
        """See Objective. Raises besides what asking raises: ServerError, ReadError, ContextLengthError and so on."""
        return self._asked(config, self._tasks)

    def confirm(self, config: RenderConfig) -> Measured | None:
        """See Objective; the same errors."""
        return self._asked(config, self._second) if self._second else None

    def to_dict(self) -> dict[str, Any]:
        """See Objective."""
        return {"name": "accuracy", "reader": self._who, "asked": _digest(self._tasks)}

    def confirmed_by(self) -> dict[str, Any]:
        """See Objective."""
        return {"asked": _digest(self._second)} if self._second else {}

    def _asked(self, config: RenderConfig, tasks: Sequence[Task]) -> Measured:
        began = time.perf_counter()
        tokens, pages = self._drawings.cost(config)
        wrong = 0
        with GlyphPipeline(config=config, mode="pages", exact="off", **self._arguments) as pipeline:
            results = pipeline.ask_many([(task.documents, task.question.question) for task in tasks], workers=0)
            # Closed before a server is stopped, as in cli/batch.py.
            with closing(results):
                for result in results:
                    question = tasks[int(result.id) - 1].question
                    if result.answer is None:
                        raise result.error or ReadError(f"No answer to {question.question!r}.")
                    wrong += not question.is_answered_by(result.answer.text)
        counts = {"questions": Count(wrong, len(tasks))}
        return Measured(self._drawings.text_tokens, tokens, pages, counts, time.perf_counter() - began)


def _digest(tasks: Sequence[Task]) -> str:
    """A hash of all that is asked."""
    whole = [[task.question.question, task.question.answer, [document.text for document in task.documents]] for task in tasks]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:24]


def _count(fields: Mapping[str, int]) -> Count:
    return Count(fields["errors"], fields["characters"])


def _strings(pages: int) -> Document:
    """Identifiers drawn by lot, ``_RANDOM_CHARACTERS_A_PAGE`` characters for each page of text that is read; always the same."""
    chance = random.Random(_SECOND_SEED)
    words: list[str] = []
    while sum(map(len, words)) + len(words) < pages * _RANDOM_CHARACTERS_A_PAGE:
        words.append("".join(chance.choices(_LETTERS, k=chance.randint(4, 12))))
    return replace(Document(" ".join(words)), id="random")
