"""Merging: how long partial answers may be, and which of them fit into one request together. Token budgets only; asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glyph_pipeline.connection import STAND_IN, Connection
from glyph_pipeline.errors import ContextLengthError
from glyph_pipeline.parts import PagePart
from glyph_pipeline.planning import MIN_ANSWER_TOKENS, Budget
from glyph_pipeline.prompts import merge_question, page_label
from glyph_pipeline.tokens.text import Cl100kTokenizer, TextTokenizer

# Brackets, line feeds, and the tokens that split otherwise where a label and an answer meet.
_AROUND_PARTIAL = 8
# A label of merged answers that would be longer than those of windows, and than this, tells parts instead of pages.
_LABEL_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Partial:
    """An answer from some of the pages; ``parts`` are the first and the last of the windows (1-based) that it is from."""

    label: str
    text: str
    pages: Sequence[PagePart]
    parts: tuple[int, int]


@dataclass(frozen=True, slots=True)
class MergeBudget:
    """What merging has room for, in tokens: ``room`` for all partial answers of a request, ``most`` for one of them, so that any
    two fit together, ``label`` for the label of one. None where the model's context is unknown."""

    room: int | None = None
    most: int | None = None
    label: int = _LABEL_TOKENS

    @classmethod
    def of(cls, connection: Connection, question: str, labels: Sequence[str], max_tokens: int) -> MergeBudget:
        """The budget for answers under these labels. Raises ContextLengthError if no two answers could be merged. Blocks."""
        if connection.max_model_len is None:
            return cls()
        stretch = _stretch(connection.tokenizer)
        bare = merge_question(question, [])
        frame = connection.beside_pictures((), bare)
        if frame is None:
            frame = connection.estimate(bare)
        label = int(max(_LABEL_TOKENS, *map(connection.tokenizer.count, labels)) * stretch)
        room = connection.max_model_len - frame - Budget(connection.max_model_len, frame, max_tokens).answer_tokens(0)
        most = int((room // 2 - label - _AROUND_PARTIAL) / stretch)
        if most < min(max_tokens, MIN_ANSWER_TOKENS):
            raise ContextLengthError(
                f"The pages need {len(labels)} requests, whose answers could not be merged: the question takes {frame} of the model's "
                f"context of {connection.max_model_len} tokens.",
                hint="Shorten the question, or serve the model with a larger --max-model-len.",
            )
        return cls(room, most, label)


def groups(partials: Sequence[Partial], budget: MergeBudget, tokenizer: TextTokenizer) -> list[list[Partial]]:
    """The partial answers, in order, in as few groups as the room allows; as many as there are partials if no two fit."""
    if budget.room is None:
        return [list(partials)]
    together: list[list[Partial]] = []
    left = 0
    for partial in partials:
        cost = int((tokenizer.count(partial.text) + tokenizer.count(partial.label)) * _stretch(tokenizer)) + _AROUND_PARTIAL
        if not together or cost > left:
            together.append([])
            left = budget.room
        together[-1].append(partial)
        left -= cost
    return together


def combined(group: Sequence[Partial], text: str, several: bool, budget: MergeBudget, tokenizer: TextTokenizer) -> Partial:
    """The partial answer ``text`` that a group was merged into."""
    pages = [page for partial in group for page in partial.pages]
    parts = (group[0].parts[0], group[-1].parts[1])
    label = page_label(pages, several)
    if tokenizer.count(label) * _stretch(tokenizer) > budget.label:
        label = f"parts {parts[0]}-{parts[1]}"
    return Partial(label, text, pages, parts)


def _stretch(tokenizer: TextTokenizer) -> float:
    return STAND_IN if isinstance(tokenizer, Cl100kTokenizer) else 1.0
