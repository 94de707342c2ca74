"""Merging: which partial answers fit into one request together. Token budgets only; asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glyph_pipeline.connection import Connection
from glyph_pipeline.errors import ContextLengthError
from glyph_pipeline.page import Page
from glyph_pipeline.planning import Budget
from glyph_pipeline.prompts import merge_question
from glyph_pipeline.tokens.text import Cl100kTokenizer, TextTokenizer

# Brackets, line feeds, and the tokens that split otherwise where a label and an answer meet.
_AROUND_PARTIAL = 8
# Where cl100k_base stands in for the model's own tokenizer, its counts may be off by this much.
_STAND_IN = 1.3


@dataclass(frozen=True, slots=True)
class Partial:
    """An answer from some of the pages, under the label that names them."""

    label: str
    text: str
    pages: Sequence[Page]


def merge_room(connection: Connection, question: str, max_tokens: int) -> int | None:
    """Tokens for the partial answers of one merging request; None where the model's context is unknown."""
    if connection.max_model_len is None:
        return None
    bare = merge_question(question, [])
    frame = connection.frame(bare, False)
    if frame is None:
        frame = int(connection.tokenizer.count(bare) * _STAND_IN)
    budget = Budget(connection.max_model_len, frame, max_tokens)
    return connection.max_model_len - frame - budget.answer_tokens(0)


def groups(partials: Sequence[Partial], room: int | None, tokenizer: TextTokenizer) -> list[list[Partial]]:
    """The partial answers, in order, in as few groups as the room allows; fewer groups than partials.

    Raises ContextLengthError if no two neighbours fit together.
    """
    if room is None:
        return [list(partials)]
    stretch = _STAND_IN if isinstance(tokenizer, Cl100kTokenizer) else 1.0
    together: list[list[Partial]] = []
    left = 0
    for partial in partials:
        cost = int((tokenizer.count(partial.text) + tokenizer.count(partial.label)) * stretch) + _AROUND_PARTIAL
        if not together or cost > left:
            together.append([])
            left = room
        together[-1].append(partial)
        left -= cost
    if len(together) == len(partials):
        raise ContextLengthError(
            f"The {len(partials)} partial answers can't be merged: no two of them and the question fit into the model's context beside a merged answer.",
            hint="Shorten the question, lower --max-tokens, or serve the model with a larger --max-model-len.",
        )
    return together
