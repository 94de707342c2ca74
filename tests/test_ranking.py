"""Words as they are compared, and BM25 over texts and around places in a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glyph_pipeline.ranking import bm25, bm25_around, known, placed_terms, terms


def test_terms_are_compared_without_case_endings_and_stop_words():
    assert terms("How many of the Boats were LOST?") == terms("boat lost")
    assert terms("Pellaway's £3,460 of 1874.") == ["pellaway", "3,460", "1874"]
    assert terms("灯塔 x") == ["灯塔", "x"]
    assert terms("Who was it, and why?") == []


def test_terms_know_where_they_stand():
    text = "The lamps, 灯塔建 and the keeper"
    assert [(text[at : at + 2], term) for at, term in placed_terms(text)] == [
        ("la", "lamp"),
        ("灯塔", "灯塔"),
        ("塔建", "塔建"),
        ("ke", "keeper"),
    ]


def test_what_shares_no_term_scores_nothing():
    corpus = [terms("The dome is copper."), terms("A ferret slept."), []]
    scores = bm25(corpus, "Who polished the copper dome?")
    assert scores[0] > 0
    assert scores[1:] == [0.0, 0.0]
    assert bm25(corpus, "zeppelin") == [0.0] * 3
    assert bm25([], "dome") == []


def test_a_misread_letter_does_not_hide_a_name():
    assert known("merriweather", {"merriweathcr", "wept"}) == "merriweathcr"
    assert known("1999", {"1998"}) is None
    assert bm25([["wept"], ["merriweathcr"]], "Merriweather?")[1] > 0


def test_places_near_the_words_of_the_question_score_most():
    text = "The lamp key is AAA. " + "Nothing here. " * 20 + "The boat key is BBB. " + "Nothing here. " * 20 + "CCC."
    spans = [(text.index(name), text.index(name) + 3) for name in ("AAA", "BBB", "CCC")]
    lamp, boat, far = bm25_around(text, spans, "What is the key of the boat?", 40)
    assert boat > lamp > far == 0.0
    assert bm25_around(text, [], "boat", 40) == []


@given(st.lists(st.text("abc de", min_size=3, max_size=30), min_size=1, max_size=6), st.text("abc de", max_size=12))
def test_around_a_place_and_over_texts_are_one_formula(texts: list[str], question: str):
    """With surroundings as wide as their texts, and far apart, both count the same words."""
    gap = " " * 200
    text = gap.join(one.ljust(30) for one in texts)
    spans = [(place * 230, place * 230 + 30) for place in range(len(texts))]
    assert bm25_around(text, spans, question, 60) == pytest.approx(bm25([terms(one) for one in texts], question), abs=1e-4)
