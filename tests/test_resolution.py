"""Sharper pages: the best matches first, within the budget, in their place; text where that is cheaper and may be sent."""

from __future__ import annotations

from collections.abc import Mapping

from glyph_pipeline import Page, RenderConfig
from glyph_pipeline.parts import PageText
from glyph_pipeline.planning import page_cost
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.resolution import sharpened
from glyph_pipeline.sending import Sendable, choose
from glyph_pipeline.tokens.text import Cl100kTokenizer
from glyph_pipeline.tokens.vision import GLM_4V

TOKENIZER = Cl100kTokenizer()
PLAIN = "The ferry leaves the north quay at nine and comes back with the evening tide, unless the wind has turned to the west. "
EN = RenderConfig.preset("en")


def document(facts: Mapping[int, str], paragraphs: int = 14) -> str:
    """Paragraphs of about half a page of prose; the facts stand at the end of theirs."""
    return "".join(f"{PLAIN * 18}{facts.get(number, '')} " for number in range(paragraphs))


def drawn(text: str, dpi: int = 72) -> list[Page]:
    return list(Renderer(EN.replace(dpi=dpi)).render(text))


def sent(text: str, question: str, budget: int, dpi: int = 120, drawn_dpi: int = 72) -> tuple[list[Sendable], list[Sendable]]:
    pages = drawn(text, drawn_dpi)
    before = choose(pages, {None: text}, {None: ""}, "pages", vision=GLM_4V, tokenizer=TOKENIZER)

    def redraw(document: str | None, numbers: frozenset[int]) -> Mapping[int, Page]:
        return {page.number: page for page in Renderer(EN.replace(dpi=dpi)).render(text, None, numbers)}

    after = sharpened(before, {None: text}, {None: ""}, question, budget, dpi, drawn_dpi, GLM_4V, TOKENIZER, redraw)
    return before, after


def cost(sendables: list[Sendable]) -> int:
    return sum(page_cost(one.part, GLM_4V) for one in sendables)


def page_of(text: str, words: str) -> int:
    at = text.find(words)
    return next(page.number for page in drawn(text) if page.start <= at < page.end)


def test_the_page_that_matches_is_drawn_again_with_the_same_lines() -> None:
    text = document({9: "Zebedee Thornapple kept the lighthouse."})
    before, after = sent(text, "Who was Zebedee Thornapple?", 1300)
    changed = [place for place, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert changed == [page_of(text, "Zebedee") - 1]
    old, new = before[changed[0]].part, after[changed[0]].part
    assert isinstance(old, Page)
    assert isinstance(new, Page)
    assert (new.lines, new.start, new.end, new.number) == (old.lines, old.start, old.end, old.number)
    assert new == drawn(text, 120)[changed[0]]
    assert after[changed[0]].dpi == 120
    assert cost(before) < cost(after) <= cost(before) + 1300


def test_the_better_match_comes_first_where_there_is_room_for_one() -> None:
    text = document({1: "Zebedee met Ottoline.", 9: "Zebedee Thornapple kept the lighthouse of Pellworth."})
    _, after = sent(text, "Where did Zebedee Thornapple keep the lighthouse?", 1300)
    assert [one.part.number for one in after if one.dpi] == [page_of(text, "Thornapple")]
    _, both = sent(text, "Where did Zebedee Thornapple keep the lighthouse?", 2600)
    assert [one.part.number for one in both if one.dpi] == sorted({page_of(text, "Ottoline"), page_of(text, "Thornapple")})


def test_nothing_without_a_match_or_without_room() -> None:
    text = document({9: "Zebedee Thornapple kept the lighthouse."})
    before, after = sent(text, "Quantum chromodynamics?", 10_000)
    assert after == before
    before, after = sent(text, "Who was Zebedee Thornapple?", 200)
    assert after == before


def test_a_sparse_page_goes_as_text_and_one_with_control_marks_does_not() -> None:
    # A picture of dense prose at 200 dpi costs more than its text.
    text = document({9: "Zebedee Thornapple kept the lighthouse."})
    _, after = sent(text, "Who was Zebedee Thornapple?", 10_000, dpi=200)
    (part,) = [one.part for one in after if isinstance(one.part, PageText)]
    assert "Zebedee Thornapple" in part.text
    assert part.tokens == TOKENIZER.count(part.text)
    marked = text.replace("lighthouse.", "lighthouse <|user|>.")
    _, after = sent(marked, "Who was Zebedee Thornapple?", 10_000, dpi=200)
    assert [one.dpi for one in after if one.dpi] == [200]


def test_pages_that_are_sharp_already_are_only_sent_as_text() -> None:
    text = document({3: "Zebedee Thornapple kept the lighthouse."}, 6)
    before, after = sent(text, "Who was Zebedee Thornapple?", 100_000, dpi=120, drawn_dpi=150)
    changed = [b for a, b in zip(before, after, strict=True) if a != b]
    assert changed
    assert all(isinstance(one.part, PageText) for one in changed)
    assert [one.part.number for one in changed] == [page_of(text, "Zebedee")]
