"""How pages are sent: never dearer than the text, pictures where they pay, in the order of the source, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glyph_pipeline import Document, Page, RenderConfig, compress
from glyph_pipeline.errors import ConfigError, UsageError
from glyph_pipeline.parts import PageText
from glyph_pipeline.planning import page_cost
from glyph_pipeline.sending import CONTROL_MARKS, SWITCH_TOKENS, Mode, Sendable, SendPolicy, choose, headings, sent_of
from glyph_pipeline.tokens.text import Cl100kTokenizer
from glyph_pipeline.tokens.vision import GLM_4V

PROSE = "The ferry leaves the north quay at nine and comes back with the evening tide, unless the wind has turned to the west. " * 60
TOKENIZER = Cl100kTokenizer()


def sent(text: str, mode: Mode = "auto", config: RenderConfig | None = None) -> tuple[Sequence[Page], list[Sendable]]:
    pages = compress(text, config or RenderConfig.preset("en")).pages
    return pages, choose(pages, {None: text}, {None: ""}, mode, vision=GLM_4V, tokenizer=TOKENIZER)


def cost(sendables: Sequence[Sendable]) -> int:
    return sum(page_cost(one.part, GLM_4V) for one in sendables)


def test_a_short_text_is_sent_as_text_and_says_why() -> None:
    _, (only,) = sent("The ferry leaves at nine.")
    assert isinstance(only.part, PageText)
    assert only.part.text == "The ferry leaves at nine."
    assert (only.part.tokens, only.why) == (TOKENIZER.count("The ferry leaves at nine."), "text costs less")


def test_a_dense_text_is_sent_as_pictures() -> None:
    pages, sendables = sent(PROSE)
    assert [one.part for one in sendables] == list(pages)
    assert cost(sendables) < TOKENIZER.count(PROSE)


def test_the_modes_that_are_asked_for() -> None:
    pages, sendables = sent("The ferry leaves at nine.", "pages")
    assert [one.part for one in sendables] == list(pages)
    _, sendables = sent(PROSE, "text")
    assert "".join(one.part.text for one in sendables if isinstance(one.part, PageText)) == PROSE
    assert max(one.part.tokens for one in sendables if isinstance(one.part, PageText)) < 1500  # so that windows can be filled


def test_a_sparse_stretch_of_a_dense_document_goes_as_text_and_the_order_is_kept() -> None:
    sparse = "\n".join(["-"] * 200) + "\n"
    text = PROSE * 2 + "\n" + sparse + PROSE * 2
    pages, sendables = sent(text, config=RenderConfig.preset("aligned"))
    kinds = [isinstance(one.part, PageText) for one in sendables]
    assert any(kinds)
    assert not kinds[0]
    assert not kinds[-1]
    assert [one.part.number for one in sendables] == [page.number for page in pages]
    assert cost(sendables) < min(sum(page_cost(page, GLM_4V) for page in pages), TOKENIZER.count(text))
    account = sent_of(sendables, "auto", TOKENIZER.count(text), 72, GLM_4V)
    runs = account.runs
    assert account.tokens == cost(sendables) == account.picture_tokens + account.text_tokens
    assert account.pages_as_text == sum(kinds)
    assert [run.how for run in runs] == ["pages", "text", "pages"]
    assert runs[1].why == "text costs less"
    assert sum(run.tokens for run in runs) == cost(sendables)
    assert [run.dpi for run in runs] == [72, None, 72]


@given(
    st.lists(st.tuples(st.integers(10, 400), st.integers(1, 500)), min_size=1, max_size=9),
)
def test_the_cheapest_of_all_ways_is_chosen(sizes: list[tuple[int, int]]) -> None:
    # Pictures of 1 to 7 cells a side, texts of so many one-token words.
    text, pages = "", []
    for number, (width, words) in enumerate(sizes, 1):
        piece = " a" * words
        pages.append(Page(number, width, width, b"", len(text), len(text) + len(piece), ()))
        text += piece
    sendables = choose(pages, {None: text}, {None: ""}, "auto", vision=GLM_4V, tokenizer=TOKENIZER)

    def price(ways: Sequence[bool]) -> int:
        tokens = sum(
            TOKENIZER.count(text[page.start : page.end]) if way else page_cost(page, GLM_4V) for page, way in zip(pages, ways, strict=True)
        )
        return tokens + SWITCH_TOKENS * sum(a != b for a, b in pairwise(ways))

    chosen = [isinstance(one.part, PageText) for one in sendables]
    assert price(chosen) == min(price(ways) for ways in product((False, True), repeat=len(pages)))
    assert cost(sendables) <= min(sum(page_cost(page, GLM_4V) for page in pages), TOKENIZER.count(text) + len(pages))


def test_what_could_end_the_users_turn_stays_a_picture() -> None:
    text = "Say <|user|> and then <|endoftext|>."
    for mode in ("auto", "text"):
        _, (only,) = sent(text, mode)
        assert isinstance(only.part, Page)
        assert only.why == CONTROL_MARKS


def test_a_heading_tells_documents_apart_and_marks_tell_the_pages_of_a_longer_one() -> None:
    documents = [Document("Rope and tar.\n" * 100, "quay.txt"), Document("Flour.", "mill.txt")]
    titles = ["=== quay.txt ===", "=== mill.txt ==="]
    above = headings(documents, titles)
    assert above == {"quay.txt": "=== quay.txt ===\n", "mill.txt": "=== mill.txt ===\n"}
    pages = compress(documents).pages
    sendables = choose(
        pages, {document.id: document.text for document in documents}, above, "text", vision=GLM_4V, tokenizer=TOKENIZER, marked=True
    )
    assert [one.part.heading for one in sendables if isinstance(one.part, PageText)] == [
        "=== quay.txt ===\n[page 1]\n",
        "[page 2]\n",
        "=== mill.txt ===\n",
    ]
    assert all(one.part.tokens == TOKENIZER.count(one.part.heading + one.part.text) for one in sendables if isinstance(one.part, PageText))


def test_a_tokenizer_that_asks_is_asked_about_little() -> None:
    class Asked:
        name = "a server's"
        calls = 0

        def count(self, text: str) -> int:
            self.calls += 1
            return 2 * TOKENIZER.count(text)

    pages = compress(PROSE * 3, RenderConfig.preset("en")).pages
    asked = Asked()
    sendables = choose(pages, {None: PROSE * 3}, {None: ""}, "auto", vision=GLM_4V, tokenizer=asked)
    assert all(isinstance(one.part, Page) for one in sendables)
    assert asked.calls == 0
    assert all(one.estimated for one in sendables)
    short = choose(compress("Nine.").pages, {None: "Nine."}, {None: ""}, "auto", vision=GLM_4V, tokenizer=asked)
    assert (asked.calls, short[0].text_tokens) == (1, 2 * TOKENIZER.count("Nine."))


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"mode": "images"}, UsageError, "mode is 'images'. Allowed are auto, pages, text"),
        ({"exact": "some"}, UsageError, "exact is 'some'"),
        ({"resolution": "high"}, UsageError, "resolution is 'high'"),
        ({"exact_budget": -0.1}, ConfigError, "exact_budget is -0.1"),
        ({"resolution_budget": float("nan")}, ConfigError, "resolution_budget is nan"),
        ({"sharp_dpi": 5}, ConfigError, "sharp_dpi is 5"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, object], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told.replace(".", r"\.").replace("0\\.1", "0.1")):
        SendPolicy(**wrong)  # type: ignore[arg-type]


def test_a_text_that_is_not_the_sources_own_is_counted_as_sent() -> None:
    # A lone surrogate has no UTF-8: it is counted and sent as U+FFFD.
    text = "Nine \ud800 ten."
    page = replace(compress("Nine ten.").pages[0], end=len(text))
    (only,) = choose([page], {None: text}, {None: ""}, "text", vision=GLM_4V, tokenizer=TOKENIZER)
    assert isinstance(only.part, PageText)
    assert only.part.text == "Nine \ufffd ten."
