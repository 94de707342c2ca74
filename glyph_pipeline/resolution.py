"""Dual resolution: the pages that match a question best are sent sharper, or as text, within a budget. Asks nobody.

QV-PIC (a query-dependent variant of this for Glyph) is where the idea is from; see docs/exactness.md for what was measured here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from glyph_pipeline import ranking
from glyph_pipeline.page import Page
from glyph_pipeline.planning import page_cost
from glyph_pipeline.sending import Sendable, text_of
from glyph_pipeline.tokens.text import TextTokenizer
from glyph_pipeline.tokens.vision import VisionArithmetic

# After so many pages in a row that the budget has no room for, it is spent.
_TOO_DEAR = 8

Redraw = Callable[[str | None, frozenset[int]], Mapping[int, Page]]
"""Draws pages of a document again, at the higher resolution: (document, page numbers) -> page by number."""


def sharpened(
    sendables: Sequence[Sendable],
    texts: Mapping[str | None, str],
    above: Mapping[str | None, str],
    question: str,
    budget: int,
    dpi: int,
    drawn_dpi: int,
    vision: VisionArithmetic,
    tokenizer: TextTokenizer,
    redraw: Redraw,
    *,
    marked: frozenset[str | None] = frozenset(),
    as_texts: bool = True,
) -> list[Sendable]:
    """The same pages in the same order; of the pictures that match the question, best first, those that ``budget`` more tokens pay for
    at ``dpi``, or (``as_texts``) as text where that costs less. ``texts`` and ``above`` as in sending.choose; ``drawn_dpi`` is that of the
    pictures as they are; ``marked`` are the documents of whose pages the text begins with its number.

    A page matches by the BM25 score of its source text. Blocks: counts and draws.
    """
    order = _best(sendables, texts, question)
    grown = (dpi / drawn_dpi) ** 2
    sharp: dict[int, Sendable] = {}
    wanted: dict[str | None, dict[int, int]] = {}  # by document: place by page number
    left, too_dear = budget, 0
    for place in order:
        page = sendables[place].part
        assert isinstance(page, Page)
        cost = page_cost(page, vision)
        part, allowed = text_of(page, texts[page.document], above[page.document], page.document in marked)
        allowed = allowed and as_texts
        text_tokens = tokenizer.count(part.heading + part.text) if allowed else 0
        as_text = text_tokens - cost
        # The sharper picture's size is known when it is drawn; what it costs grows with the area, give or take a row of cells.
        as_picture = int(cost * grown) - cost if dpi > drawn_dpi else None
        if allowed and as_text <= left and (as_picture is None or as_text <= as_picture):
            part = replace(part, tokens=text_tokens)
            sharp[place] = Sendable(part, "matches the question, and text costs less than a sharper picture", cost, text_tokens)
            left -= max(0, as_text)
        elif as_picture is not None and as_picture <= left:
            wanted.setdefault(page.document, {})[page.number] = place
            left -= as_picture
        else:
            too_dear += 1
            if too_dear == _TOO_DEAR:
                break
            continue
        too_dear = 0
    spare = left
    for document, places in wanted.items():
        drawn = redraw(document, frozenset(places))
        for number, place in places.items():
            before = sendables[place]
            assert isinstance(before.part, Page)
            cost = page_cost(before.part, vision)
            more = page_cost(drawn[number], vision) - int(cost * grown)
            if more > spare:  # a row of cells more than reckoned, and nothing left for it
                continue
            spare -= more
            sharp[place] = replace(before, part=drawn[number], why="matches the question: drawn sharper", dpi=dpi)
    return [sharp.get(place, sendable) for place, sendable in enumerate(sendables)]


def _best(sendables: Sequence[Sendable], texts: Mapping[str | None, str], question: str) -> list[int]:
    """The places of the pictures that share a term with the question, best match first."""
    corpus = [ranking.terms(texts[one.part.document][one.part.start : one.part.end]) for one in sendables]
    scores = ranking.bm25(corpus, question)
    matching = [place for place, one in enumerate(sendables) if isinstance(one.part, Page) and scores[place] > 0]
    return sorted(matching, key=lambda place: (-scores[place], place))
